#include "api/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "api/metrics.h"
#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

/// Values by name with labels; the form of every line is checked.
std::map<std::string, double> metrics_of(const std::string& text) {
  std::map<std::string, double> out;
  std::istringstream lines(text);
  std::string described;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, what, name;
    if (line.starts_with("#")) {
      words >> hash >> what >> name;
      if (what == "HELP") described = name;
      EXPECT_EQ(name, described) << line;
      continue;
    }
    const size_t space = line.rfind(' ');
    EXPECT_TRUE(line.starts_with(described)) << line;
    EXPECT_TRUE(out.emplace(line.substr(0, space), std::stod(line.substr(space))).second) << line;
  }
  return out;
}

TEST(Metrics, TellsWhatTheEngineCounts) {
  Fixture f;
  engine::State& state = f.backend->engine_state;
  state.slots = {{.id = 0, .busy = true}, {.id = 1}};
  state.totals = {.requests = 3,
                  .prompt_tokens = 100,
                  .cached_tokens = 40,
                  .generated_tokens = 50,
                  .steps = 60,
                  .prompt_seconds = 2,
                  .generate_seconds = 0};
  state.waiting = 2;
  state.kv_pages = 10;
  state.kv_pages_used = 5;
  state.kv_bytes = 1000;
  state.checkpoint_bytes = 70;
  state.disk = {
      .entries = 4, .bytes = 900, .hits = 2, .hit_tokens = 33, .read_bytes = 44, .written_bytes = 55};
  (void)f.chat();
  const auto r = f.ask("GET", "/metrics");
  EXPECT_EQ(r->header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  const auto metrics = metrics_of(r->body());
  const std::map<std::string, double> expected = {
      {"llamacpp:prompt_tokens_total", 100},
      {"llamacpp:prompt_tokens_seconds", 50},
      {"llamacpp:tokens_predicted_total", 50},
      {"llamacpp:predicted_tokens_seconds", 0},
      {"llamacpp:requests_processing", 1},
      {"llamacpp:requests_deferred", 2},
      {"packmule:requests_total", 3},
      {"packmule:prompt_tokens_cached_total", 40},
      {"packmule:slots", 2},
      {"packmule:kv_cache_used_bytes", 500},
      {"packmule:weights_bytes", 456},
      {"packmule:disk_cache_hit_tokens_total", 33},
      {"packmule:disk_cache_bytes", 900},
      {"packmule:disk_cache_written_bytes_total", 55},
      {"packmule:tier_bytes{tier=\"ram\",what=\"kv_cache\"}", 500},
      {"packmule:tier_bytes{tier=\"ram\",what=\"checkpoints\"}", 70},
      {"packmule:tier_bytes{tier=\"disk\",what=\"conversations\"}", 900},
      {"packmule:time_to_first_token_seconds_count", 1}};
  for (const auto& [name, value] : expected) {
    ASSERT_TRUE(metrics.contains(name)) << name;
    EXPECT_EQ(metrics.at(name), value) << name;
  }
}

TEST(Metrics, CountsTimesInBuckets) {
  FirstTokenTimes times;
  for (const double seconds : {0.0, 0.05, 0.06, 7.0, 1000.0}) times.add(seconds);
  const auto metrics = metrics_of(times.text("t"));
  EXPECT_EQ(metrics.at("t_bucket{le=\"0.05\"}"), 2);
  EXPECT_EQ(metrics.at("t_bucket{le=\"0.1\"}"), 3);
  EXPECT_EQ(metrics.at("t_bucket{le=\"5\"}"), 3);
  EXPECT_EQ(metrics.at("t_bucket{le=\"300\"}"), 4);
  EXPECT_EQ(metrics.at("t_bucket{le=\"+Inf\"}"), 5);
  EXPECT_EQ(metrics.at("t_count"), 5);
  EXPECT_NEAR(metrics.at("t_sum"), 1007.11, 0.01);
}

TEST(Status, TellsOfTheModelAndTheSlots) {
  Fixture f;
  f.backend->model.path = "/models/a.gguf";
  f.backend->model.chat_template = "{{ x }}";
  f.backend->defaults.top_k = 7;
  const Json props = f.ask("GET", "/props")->json();
  EXPECT_EQ(props["default_generation_settings"]["n_ctx"], 1000);
  EXPECT_EQ(props["default_generation_settings"]["params"]["top_k"], 7);
  EXPECT_EQ(props["total_slots"], 1);
  EXPECT_EQ(props["model_path"], "/models/a.gguf");
  EXPECT_EQ(props["chat_template"], "{{ x }}");
  f.backend->engine_state.slots = {{.id = 0,
                                    .task = 5,
                                    .busy = true,
                                    .decoding = true,
                                    .prompt_tokens = 30,
                                    .cached_tokens = 10,
                                    .processed_tokens = 30,
                                    .generated_tokens = 4}};
  const Json slots = f.ask("GET", "/slots")->json();
  ASSERT_EQ(slots.size(), 1u);
  EXPECT_EQ(slots[0]["is_processing"], true);
  EXPECT_EQ(slots[0]["n_prompt_tokens_processed"], 20);
  EXPECT_EQ(slots[0]["next_token"][0].dump(), R"({"has_next_token":true,"n_decoded":4})");
}

}  // namespace
}  // namespace packmule::api
