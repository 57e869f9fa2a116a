// What the log holds of a conversation: nothing, or, for who asks for it, all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// Lines come from several threads.
struct Lines {
  void add(const std::string& line) {
    const std::lock_guard lock(mutex);
    all.push_back(line);
  }
  std::mutex mutex;
  std::vector<std::string> all;
};

/// Requests of every dialect with "secret" in every part of them, whole and streamed.
void ask_everything(Fixture& f) {
  const std::string tool =
      R"("secret_tool","description":"secret","parameters":{"type":"object","properties":{"secret":{"not":{}}}})";
  const std::pair<const char*, std::string> requests[] = {
      {"/v1/chat/completions",
       R"("messages":[{"role":"user","content":"secret"}],"stop":"secret","tools":[{"type":"function","function":{"name":)" +
           tool + "}}]"},
      {"/v1/messages",
       R"("messages":[{"role":"user","content":"secret"}],"max_tokens":5,"stop_sequences":["secret"])"},
      {"/v1/responses", R"("input":"secret","instructions":"secret")"},
      {"/v1/completions", R"("prompt":"secret")"},
      {"/completion", R"("prompt":"secret")"},
      // Wrong ones.
      {"/v1/chat/completions", R"("messages":[{"role":"secret","content":"secret"}])"},
      {"/v1/completions", R"("prompt":"secret","grammar":"secret","temperature":"secret")"},
      {"/tokenize", R"("content":"secret")"},
  };
  for (const auto& [path, body] : requests)
    for (const char* stream : {"true", "false"})
      f.ask("POST", path, fmt::format(R"({{{},"stream":{}}})", body, stream));
}

TEST(Log, HoldsNoText) {
  Lines lines;
  Fixture f({.log = [&](const std::string& line) { lines.add(line); }});
  f.backend->pieces = {"se", "cret <tool_call>\n<function=secret_tool>\n<parameter=secret>\n", "secret\n",
                       "</parameter>\nsecret <function=secret_other>secret</function></tool_call>"};
  for (const auto reason : {engine::FinishReason::kStopString, engine::FinishReason::kLength}) {
    f.backend->reason = reason;
    ask_everything(f);
  }
  EXPECT_GE(lines.all.size(), 20u) << "there are lines";
  for (const std::string& line : lines.all) EXPECT_THAT(line, Not(HasSubstr("secret")));
}

TEST(Log, HoldsPromptsAndAnswersForWhoAsks) {
  Lines lines;
  Fixture f(
      {.log_text = [&](const LoggedText& t) { lines.add(fmt::format("{} {} {}", t.id, t.what, t.text)); }});
  f.backend->pieces = {"<think>a</think>", "\n\nb"};
  const auto r = f.chat(R"("n":2)");
  const std::string id = r->json()["id"];
  EXPECT_THAT(lines.all, ElementsAre(id + " prompt user:hi\nassistant:", id + " answer <think>a</think>\n\nb",
                                     id + " answer <think>a</think>\n\nb"))
      << "the prompt once, as the model reads it, the answer as it wrote it";
  lines.all.clear();
  f.ask("POST", "/v1/completions", R"({"prompt":["x","y"]})");
  ASSERT_EQ(lines.all.size(), 4u);
  EXPECT_THAT(lines.all[2], testing::EndsWith(" prompt y"));
  // Also of an answer that nobody gets.
  lines.all.clear();
  f.backend->block_until_stop = true;
  const auto left = f.begin("POST", "/completion", R"({"prompt":"x"})");
  while (f.backend->n_running == 0) std::this_thread::yield();
  left->stop.request_stop();
  ASSERT_TRUE(left->wait());
  ASSERT_EQ(lines.all.size(), 2u);
  EXPECT_THAT(lines.all[1], HasSubstr(" answer <think>"));
}

}  // namespace
}  // namespace packmule::api
