#include "chat/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "chat/template_engine.h"
#include "tests/support/test_data.h"

namespace packmule::chat {
namespace {

using ::testing::HasSubstr;

std::string write_file(const std::string& name, const std::string& text) {
  const auto path = testing_support::generated_dir() / name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

TEST(ChooseTemplate, TakesTheFirstThatIsThere) {
  const std::string path = write_file("chosen.jinja", "from a file\n");
  auto chosen = choose_template("from the model", path);
  ASSERT_TRUE(chosen.has_value());
  EXPECT_EQ(chosen->source, "from a file\n");
  EXPECT_FALSE(chosen->is_fallback);
  chosen = choose_template("from the model", "");
  ASSERT_TRUE(chosen.has_value());
  EXPECT_EQ(chosen->source, "from the model");
  EXPECT_FALSE(chosen->is_fallback);
  chosen = choose_template("", "");
  ASSERT_TRUE(chosen.has_value());
  EXPECT_EQ(chosen->source, kChatMlTemplate);
  EXPECT_TRUE(chosen->is_fallback);
}

TEST(ChooseTemplate, RefusesFilesThatCannotBeTemplates) {
  const std::string empty = write_file("empty.jinja", "");
  const std::string large = write_file("large.jinja", std::string((4 << 20) + 1, 'x'));
  const std::string folder = testing_support::generated_dir();
  const struct {
    std::string path;
    const char* reason;
  } kRefused[] = {{empty, "is empty"},
                  {large, "larger than"},
                  {folder, "is a folder"},
                  {folder + "/none", "cannot open: No such file"}};
  for (const auto& refused : kRefused) {
    const auto chosen = choose_template("from the model", refused.path);
    ASSERT_FALSE(chosen.has_value()) << refused.path;
    EXPECT_THAT(chosen.error().message, HasSubstr(refused.reason));
    EXPECT_THAT(chosen.error().message, HasSubstr("--chat-template-file " + refused.path));
  }
}

TEST(ChatMlTemplate, WritesTurns) {
  auto engine = TemplateEngine::create(kChatMlTemplate);
  ASSERT_TRUE(engine.has_value()) << engine.error().message;
  const Json messages = Json::parse(
      R"([{"role":"system","content":" be brief\n"},{"role":"user","content":"hi"},{"role":"assistant","content":null}])");
  const auto text = (*engine)->render(messages, nullptr, {{"add_generation_prompt", true}});
  ASSERT_TRUE(text.has_value()) << text.error().message;
  EXPECT_EQ(*text,
            "<|im_start|>system\n be brief\n<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
            "<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(*(*engine)->render(Json::array(), nullptr, nullptr), "");
}

}  // namespace
}  // namespace packmule::chat
