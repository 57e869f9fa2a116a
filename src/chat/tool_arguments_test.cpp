#include "chat/tool_arguments.h"

#include <gtest/gtest.h>

namespace packmule::chat {
namespace {

using enum ValueType;

TEST(ToolArguments, TakesTheFirstTypeThatFits) {
  struct Case {
    ValueTypes types;
    std::string_view text;
    std::string_view json;
  };
  const Case cases[] = {
      {{}, " 12 ", R"(" 12 ")"},
      {{kString}, "null", R"("null")"},
      {{kBoolean}, " TRUE\n", "true"},
      {{kBoolean}, "False", "false"},
      {{kBoolean}, "yes", R"("yes")"},
      {{kInteger}, "-7", "-7"},
      {{kInteger}, "3.0", "3"},
      {{kInteger}, "2e3", "2000"},
      {{kInteger}, "3.5", R"("3.5")"},
      {{kInteger}, "123456789012345678901234567890", "123456789012345678901234567890"},
      {{kInteger}, "01", R"("01")"},
      {{kInteger}, "true", R"("true")"},
      {{kNumber}, "1.50", "1.50"},
      {{kNumber}, "NaN", R"("NaN")"},
      {{kNumber}, "", R"("")"},
      {{kArray}, " [1, \"a\"]", R"([1, "a"])"},
      {{kArray}, "{}", R"("{}")"},
      {{kObject}, "{\"a\": {}}\n", R"({"a": {}})"},
      {{kObject}, "{'a': 1}", R"("{'a': 1}")"},
      {{kNull}, "None", "null"},
      {{kNull}, "none", R"("none")"},
      {{kString, kNull}, "null", "null"},
      {{kString, kNull}, " null and void", R"(" null and void")"},
      {{kString, kInteger, kBoolean}, "7", "7"},
      {{kInteger, kNumber}, "7.5", "7.5"},
  };
  for (const Case& c : cases) EXPECT_EQ(argument_json(c.text, c.types), c.json) << c.text;
}

TEST(ToolArguments, EscapesWhatJsonCannotHold) {
  EXPECT_EQ(json_escaped("a\"b\\c\n\r\t\x01\x1f\x7f\xc3\xa4"),
            "a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa4");
  std::string all;
  for (char c = 0; c < 127; ++c) all += c;
  EXPECT_EQ(Json::parse('"' + json_escaped(all) + '"'), Json(all));
}

TEST(ToolArguments, ReadsTheTypesOfSchemas) {
  const auto types = [](std::string_view schema) {
    Json tools =
        Json::parse(R"([{"type":"function","function":{"name":"f","parameters":{"properties":{"p":0}}}}])");
    tools[0]["function"]["parameters"]["properties"]["p"] = Json::parse(schema);
    return ToolSchemas(tools).find("f")->at("p");
  };
  EXPECT_EQ(types(R"({"type":"integer"})"), ValueTypes{kInteger});
  EXPECT_EQ(types(R"({"type":["string","null"]})"), (ValueTypes{kString, kNull}));
  EXPECT_EQ(types(R"({"anyOf":[{"type":"integer"},{"oneOf":[{"type":"null"},{"type":"integer"}]}]})"),
            (ValueTypes{kInteger, kNull}));
  for (const char* nothing : {"{}", "1", R"({"type":1})", R"({"type":"date"})", R"({"anyOf":{}})"})
    EXPECT_EQ(types(nothing), ValueTypes{}) << nothing;
}

TEST(ToolArguments, TakesToolsWithoutASchema) {
  const ToolSchemas tools(Json::parse(
      R"([{"function":{"name":"a"}},{"function":{"name":"b","parameters":[]}},
          {"function":{"name":"c","parameters":{"properties":null}}}])"));
  for (const char* name : {"a", "b", "c"}) EXPECT_TRUE(tools.find(name)->empty());
  EXPECT_EQ(tools.find("d"), nullptr);
  EXPECT_EQ(ToolSchemas(nullptr).find("a"), nullptr);
}

}  // namespace
}  // namespace packmule::chat
