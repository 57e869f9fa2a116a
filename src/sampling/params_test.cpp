#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "sampling/sampler.h"

namespace packmule::sampling {
namespace {

using testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Params, DefaultsFollowTheName) {
  for (const char* name : {"Qwen3-Next-80B-A3B-Instruct", "qwen3 next 80b a3b instruct", "Qwen3-Coder-Next",
                           "", "My Merge of Things"}) {
    const Params params = defaults_for_model(name);
    EXPECT_EQ(params.temperature, 0.7f) << name;
    EXPECT_EQ(params.top_k, 20) << name;
    EXPECT_EQ(params.top_p, 0.8f) << name;
    EXPECT_EQ(params.min_p, 0.0f) << name;
  }
  for (const char* name : {"Qwen3-Next-80B-A3B-Thinking", "QWEN3 NEXT THINKING"}) {
    const Params params = defaults_for_model(name);
    EXPECT_EQ(params.temperature, 0.6f) << name;
    EXPECT_EQ(params.top_k, 20) << name;
    EXPECT_EQ(params.top_p, 0.95f) << name;
    EXPECT_EQ(params.min_p, 0.0f) << name;
  }
}

std::string refusal(void (*change)(Params&)) {
  Params params;
  change(params);
  const Status status = validate(params, 100);
  return status ? "" : status.error().message;
}

TEST(Params, ValidationNamesTheFlag) {
  EXPECT_EQ(refusal([](Params&) {}), "");
  EXPECT_THAT(refusal([](Params& p) { p.temperature = kNan; }), HasSubstr("--temp"));
  EXPECT_THAT(refusal([](Params& p) { p.temperature = kInf; }), HasSubstr("--temp"));
  EXPECT_EQ(refusal([](Params& p) { p.temperature = -1; }), "");  // greedy
  EXPECT_THAT(refusal([](Params& p) { p.top_p = 1.01f; }), HasSubstr("--top-p) is 1.01, expected 0 to 1"));
  EXPECT_THAT(refusal([](Params& p) { p.top_p = kNan; }), HasSubstr("--top-p"));
  EXPECT_THAT(refusal([](Params& p) { p.min_p = -0.1f; }), HasSubstr("--min-p"));
  EXPECT_THAT(refusal([](Params& p) { p.repeat_last_n = -2; }), HasSubstr("--repeat-last-n"));
  EXPECT_EQ(refusal([](Params& p) { p.repeat_last_n = -1; }), "");
  EXPECT_THAT(refusal([](Params& p) { p.repeat_penalty = 0; }), HasSubstr("--repeat-penalty"));
  EXPECT_THAT(refusal([](Params& p) { p.repeat_penalty = kInf; }), HasSubstr("--repeat-penalty"));
  EXPECT_THAT(refusal([](Params& p) { p.presence_penalty = kNan; }), HasSubstr("--presence-penalty"));
  EXPECT_THAT(refusal([](Params& p) { p.frequency_penalty = kInf; }), HasSubstr("--frequency-penalty"));
  EXPECT_THAT(refusal([](Params& p) { p.logit_bias = {{100, 1.0f}}; }),
              HasSubstr("token 100, expected 0 to 99"));
  EXPECT_THAT(refusal([](Params& p) { p.logit_bias = {{-1, 1.0f}}; }), HasSubstr("token -1"));
  EXPECT_THAT(refusal([](Params& p) { p.logit_bias = {{5, kNan}}; }), HasSubstr("token 5"));
  EXPECT_EQ(refusal([](Params& p) { p.logit_bias = {{99, -kInf}}; }), "");
}

}  // namespace
}  // namespace packmule::sampling
