// Requests that take too long. The time is the test's own: it rings when the request is where it should be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

struct Dialect {
  const char* path;
  const char* body;     // without "stream" and its closing brace
  const char* cut_off;  // what an answer that was cut off has
  bool is_anthropic = false;
};

void PrintTo(const Dialect& dialect, std::ostream* out) {
  *out << dialect.path;
}

constexpr Dialect kDialects[] = {
    {"/v1/chat/completions", R"({"messages":[{"role":"user","content":"hi"}])",
     R"("finish_reason":"length")"},
    {"/v1/completions", R"({"prompt":"hi")", R"("finish_reason":"length")"},
    {"/v1/responses", R"({"input":"hi")", R"("status":"incomplete")"},
    {"/v1/messages", R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":5)",
     R"("stop_reason":"max_tokens")", true},
    {"/completion", R"({"prompt":"hi")", R"("stop_type":"limit")"},
};

class TimeLimit : public testing::TestWithParam<Dialect> {
 protected:
  void SetUp() override { f.backend->block_until_stop = true; }
  std::shared_ptr<FakeResponder> begin(bool stream) {
    return f.begin("POST", GetParam().path, fmt::format(R"({},"stream":{}}})", GetParam().body, stream));
  }
  std::string metric(std::string_view name) {
    const std::string text = f.ask("GET", "/metrics")->body();
    const size_t at = text.find(fmt::format("\n{} ", name));
    return at == std::string::npos
               ? ""
               : text.substr(at + name.size() + 2, text.find('\n', at + 1) - at - name.size() - 2);
  }
  void wait_until_running() {
    while (f.backend->n_running == 0) std::this_thread::yield();
  }
  static void expect_too_late(const Json& error) {
    if (GetParam().is_anthropic) {
      EXPECT_EQ(error["error"]["type"], "timeout_error") << error;
    } else {
      EXPECT_EQ(error["error"]["code"], "request_timeout") << error;
      EXPECT_EQ(error["error"]["type"], "timeout_error") << error;
    }
    EXPECT_THAT(error["error"]["message"].get<std::string>(), HasSubstr("--request-timeout"));
  }

  std::shared_ptr<FakeTimer> timer = std::make_shared<FakeTimer>();
  Fixture f{{.max_request_time = milliseconds(1234), .timer = timer}};
};

TEST_P(TimeLimit, WhatIsThereIsAnAnswerThatWasCutOff) {
  for (const bool stream : {false, true}) {
    const auto r = begin(stream);
    EXPECT_EQ(timer->last_time, milliseconds(1234));
    wait_until_running();
    timer->ring(stream ? 1 : 0);
    ASSERT_TRUE(r->wait());
    EXPECT_EQ(r->status(), 200);
    EXPECT_THAT(r->body(), HasSubstr(GetParam().cut_off));
    EXPECT_THAT(r->body(), HasSubstr("world"));
    EXPECT_EQ(r->streamed(), stream);
  }
  EXPECT_EQ(metric("packmule:requests_timed_out_total"), "2");
}

TEST_P(TimeLimit, NothingIsAnError) {
  f.backend->pieces.clear();
  const auto whole = begin(false);
  wait_until_running();
  timer->ring(0);
  ASSERT_TRUE(whole->wait());
  EXPECT_EQ(whole->status(), 504);
  expect_too_late(whole->json());
  // A stream begins when the prompt is being read: there it is an event.
  const auto stream = begin(true);
  ASSERT_TRUE(stream->wait_for_start());
  timer->ring(1);
  ASSERT_TRUE(stream->wait());
  EXPECT_EQ(stream->status(), 200);
  EXPECT_THAT(stream->body(), HasSubstr("--request-timeout"));
  EXPECT_EQ(metric("packmule:requests_timed_out_total"), "2");
}

TEST_P(TimeLimit, CountsWhileARequestWaits) {
  const auto running = begin(true);
  ASSERT_TRUE(running->wait_for_start());
  const auto waiting = begin(false);
  timer->ring(1);
  ASSERT_TRUE(waiting->wait());
  EXPECT_EQ(waiting->status(), 504);
  expect_too_late(waiting->json());
  EXPECT_FALSE(running->done());
  EXPECT_EQ(metric("packmule:requests_timed_out_total"), "1");
  running->stop.request_stop();
  ASSERT_TRUE(running->wait());
  // The place is free, the one that was given up does not take it.
  const auto next = begin(true);
  ASSERT_TRUE(next->wait_for_start());
  EXPECT_EQ(f.backend->n_generated, 1);
  next->stop.request_stop();
  ASSERT_TRUE(next->wait());
}

TEST_P(TimeLimit, ComesTooLateForWhatIsDone) {
  f.backend->block_until_stop = false;
  const auto r = begin(false);
  ASSERT_TRUE(r->wait());
  const std::string body = r->body();
  timer->ring(0);
  EXPECT_EQ(r->body(), body);
  EXPECT_EQ(r->status(), 200);
  EXPECT_EQ(metric("packmule:requests_timed_out_total"), "0");
}

INSTANTIATE_TEST_SUITE_P(Dialects, TimeLimit, testing::ValuesIn(kDialects));

// Answers are generated one after the other: those that were not begun are empty.
TEST(TimeLimitOfSeveral, LaterAnswersAreEmpty) {
  const auto timer = std::make_shared<FakeTimer>();
  Fixture f({.max_request_time = milliseconds(1), .timer = timer});
  f.backend->block_until_stop = true;
  const auto r = f.begin("POST", "/v1/chat/completions", chat_body(R"("n":3)"));
  while (f.backend->n_running == 0) std::this_thread::yield();
  timer->ring(0);
  ASSERT_TRUE(r->wait());
  const Json choices = r->json()["choices"];
  ASSERT_EQ(choices.size(), 3u);
  for (const Json& choice : choices) EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_THAT(f.ask("GET", "/metrics")->body(), HasSubstr("packmule:requests_timed_out_total 1\n"));
}

TEST(NoTimeLimit, SetsNoAlarm) {
  const auto timer = std::make_shared<FakeTimer>();
  Fixture f({.timer = timer});
  EXPECT_EQ(f.chat()->status(), 200);
  EXPECT_EQ(timer->last_time, milliseconds(0));
  EXPECT_FALSE(f.backend->last_request.time_up.stop_possible() &&
               f.backend->last_request.time_up.stop_requested());
}

// By the clock: a request that would never end does.
TEST(TimeLimitByTheClock, Ends) {
  Fixture f({.max_request_time = milliseconds(1)});
  f.backend->block_until_stop = true;
  const auto r = f.ask("POST", "/v1/chat/completions", chat_body());
  EXPECT_THAT((std::vector<int>{200, 504}), testing::Contains(r->status()))
      << "cut off, or not begun in time";
}

}  // namespace
}  // namespace packmule::api
