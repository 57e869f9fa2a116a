#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/json.h"
#include "cli/output_for_test.h"
#include "cli/sparse_model_for_test.h"
#include "engine/engine.h"
#include "tests/support/test_data.h"

namespace packmule::cli {
namespace {

using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

/// The file of the article, 48 layers of the true widths, for as long as the tests run.
class Plan : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = fs::temp_directory_path() / fmt::format("packmule_plan_test_{}", getpid());
    fs::create_directories(folder_);
    placement::DirectoryForTest directory;
    write_sparse_model(file(), directory);
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }
  static std::string file() { return folder_ / "Qwen3-Coder-Next-UD-Q4_K_XL.gguf"; }

  static Output plan(std::vector<std::string> args) {
    args.insert(args.begin(), {"plan", "--model", file(), "--host-memory", "64G"});
    if (std::ranges::find(args, "--calibrate") == args.end())
      args.insert(args.end(), {"--calibrate", "never"});
    return run(std::move(args));
  }
  static Json json(std::vector<std::string> args) {
    args.emplace_back("--json");
    const Output output = plan(std::move(args));
    EXPECT_EQ(output.exit_code, kExitOk) << output.err;
    return Json::parse(output.out);
  }

 private:
  static inline fs::path folder_;
};

TEST_F(Plan, TakesBothCommandsOfTheArticle) {
  const std::vector<std::vector<std::string>> samplings = {
      {"--temp", "1.0", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01"},
      {"--temp", "0.7", "--top-k", "20", "--top-p", "0.8", "--min-p", "0.0"}};
  for (const auto& sampling : samplings)
    for (const bool with_device : {true, false}) {
      std::vector<std::string> args = {"--ctx-size", "262144", "--jinja", "--flash-attn", "1",   "-ngl",
                                       "99",         "-ctk",   "q4_1",    "-ctv",         "q4_1"};
      args.insert(args.end(), sampling.begin(), sampling.end());
      const std::vector<std::string> rest = {
          "-ot",
          R"(\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU)",
          "--repeat-penalty",
          "1.0",
          "-b",
          "16384",
          "-ub",
          "1024",
          "--no-webui",
          "-np",
          "1"};
      args.insert(args.end(), rest.begin(), rest.end());
      if (with_device) args.insert(args.end(), {"--device-memory", "20G"});
      const Output output = plan(args);
      EXPECT_EQ(output.exit_code, kExitOk) << output.err;
      EXPECT_EQ(output.err, "");
      EXPECT_THAT(output.out, HasSubstr("36 layers (12 to 47): 108 tensors"));
      EXPECT_THAT(output.out, HasSubstr("the rule leaves layers 10 and 11 out"));
      EXPECT_THAT(output.out, HasSubstr("tokens/s after 4096 tokens"));
      EXPECT_EQ(output.out.find("there is no device") != std::string::npos, !with_device);
      EXPECT_EQ(output.out.find("imagined device") != std::string::npos, with_device);
    }
}

TEST_F(Plan, TakesTheFlagsOfTheServer) {
  const Output output = plan({"--host", "0.0.0.0", "--port", "8080", "-a", "mule", "--api-key", "k"});
  EXPECT_EQ(output.exit_code, kExitOk) << output.err;
}

TEST_F(Plan, MemoryAddsUpToTheByte) {
  const Json json = Plan::json({"--device-memory", "8G", "-c", "65536", "-np", "3", "--cache-ram", "1000"});
  std::map<std::string, int64_t> weights, groups;
  for (const Json& tensor : json["tensors"]) weights[tensor["where"]] += tensor["bytes"].get<int64_t>();
  for (const Json& group : json["placement"]) groups[group["where"]] += group["bytes"].get<int64_t>();
  int64_t kv = 0;
  int64_t state = 0;
  for (const Json& memory : json["memory"]) {
    const std::string name = memory["name"];
    EXPECT_EQ(memory["weights_bytes"], weights[name]);
    EXPECT_EQ(memory["weights_bytes"].get<int64_t>() + memory["kv_cache_bytes"].get<int64_t>() +
                  memory["recurrent_state_bytes"].get<int64_t>(),
              groups[name]);
    EXPECT_EQ(groups[name] + memory["compute_bytes"].get<int64_t>(), memory["total_bytes"]);
    EXPECT_LE(memory["total_bytes"], memory["budget_bytes"]);
    kv += memory["kv_cache_bytes"].get<int64_t>();
    state += memory["recurrent_state_bytes"].get<int64_t>();
  }
  EXPECT_EQ(kv, 65536 * 24576);
  EXPECT_EQ(state, 3 * 36 * (32 * 128 * 128 + 3 * 8192) * 4 + (int64_t{1000} << 20));
  EXPECT_EQ(json["memory"][1]["budget_bytes"], (int64_t{8} << 30) - (int64_t{8} << 30) / 10);
}

TEST_F(Plan, RefusesWhatDoesNotFitWithFlagsThatHelp) {
  const Output output = plan({"--device-memory", "8G", "-ngl", "99"});
  EXPECT_EQ(output.exit_code, kExitError);
  EXPECT_EQ(output.out, "");
  EXPECT_EQ(std::count(output.err.begin(), output.err.end(), '\n'), 1);
  EXPECT_THAT(output.err, HasSubstr("does not fit, nothing was loaded: GPU0 needs"));
  EXPECT_THAT(output.err, HasSubstr("--cpu-moe"));
  EXPECT_EQ(plan({"--device-memory", "8G", "-ngl", "99", "--cpu-moe"}).exit_code, kExitOk);
  const Output context = run({"plan", "--calibrate", "never", "-m", file(), "--host-memory", "6G", "-c",
                              "262144", "--load-mode", "mmap"});
  EXPECT_EQ(context.exit_code, kExitError);
  EXPECT_THAT(context.err, HasSubstr("-ctk q8_0 -ctv q8_0"));
  EXPECT_THAT(context.err, HasSubstr("-c 131072"));
  const Output copied =
      run({"plan", "--calibrate", "never", "-m", file(), "--host-memory", "32G", "--no-mmap"});
  EXPECT_THAT(copied.err, HasSubstr("--load-mode mmap"));
  EXPECT_EQ(run({"plan", "--calibrate", "never", "-m", file(), "--host-memory", "32G"}).exit_code, kExitOk);
}

TEST_F(Plan, SaysWhatFlagsOfTheCommandLineAreWrong) {
  const struct {
    std::vector<std::string> args;
    const char* words;
  } cases[] = {
      {{"-ot", "exps"}, "PATTERN=DEVICE"},
      {{"-ot", "exps=GPU0"}, "--device-memory 8G imagines one"},
      {{"-ot", "(=CPU"}, "--override-tensor"},
      {{"--device", "GPU9"}, "no device 'GPU9'"},
      {{"-np", "0"}, "--parallel"},
      {{"--top-p", "2"}, "--top-p"},
  };
  for (const auto& c : cases) {
    const Output output = plan(c.args);
    SCOPED_TRACE(testing::PrintToString(c.args));
    EXPECT_EQ(output.exit_code, kExitWrongFlags);
    EXPECT_EQ(output.out, "");
    EXPECT_THAT(output.err, HasSubstr(c.words));
    EXPECT_EQ(std::count(output.err.begin(), output.err.end(), '\n'), 1);
  }
  EXPECT_EQ(run({"plan", "-m", "/nowhere.gguf"}).exit_code, kExitError);
}

TEST_F(Plan, ALayerForEachProcessorIsSaidInRanges) {
  const Output output = plan({"--device-memory", "64G", "-ngl", "11"});
  EXPECT_THAT(output.out, HasSubstr("layers 38 to 47"));
  EXPECT_THAT(output.out, HasSubstr("layers 0 to 37"));
  EXPECT_THAT(output.out, HasSubstr("without the rules packmule would decode"));
  EXPECT_THAT(plan({"--device-memory", "64G"}).out, Not(HasSubstr("without the rules")));
}

TEST_F(Plan, SaysWhichPromptsStreamTheirExperts) {
  const std::vector<std::string> machine = {"--device-memory", "8G", "--host-bandwidth", "40", "-t", "4"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), machine.begin(), machine.end());
    return more;
  };
  const Json calculated = Plan::json(with({"-ub", "2048"}));
  const int64_t from = calculated["stream_experts_from_tokens"];
  ASSERT_GT(from, 8);
  ASSERT_LE(from, 2048);
  EXPECT_EQ(calculated["stream_experts"][0]["from_tokens"], from);
  EXPECT_GT(calculated["stream_experts"][0]["layers"].size(), 0u);
  EXPECT_EQ(calculated["stream_ring_bytes"], 64 << 20);
  EXPECT_THAT(plan(with({"-ub", "2048"})).out,
              HasSubstr(fmt::format("prompts of at least {} tokens stream their experts of layers", from)));
  EXPECT_THAT(plan(with({"-ub", std::to_string(from / 2)})).out,
              HasSubstr(fmt::format("only with a ubatch of so many (-ub {})", from)));
  // A link that is faster than the CPU by far, one that is slower by far, and what the user says.
  EXPECT_LT(Plan::json(with({"--pcie", "24", "--host-bandwidth", "90"}))["stream_experts_from_tokens"], from);
  EXPECT_EQ(Plan::json(with({"--pcie", "0.001"}))["stream_experts_from_tokens"], 0);
  const Json said = Plan::json(with({"--op-offload-min-batch", "100"}));
  EXPECT_EQ(said["stream_experts_from_tokens"], 100);
  EXPECT_EQ(said["stream_experts"].size(), 1u);
  const Json never = Plan::json(with({"-nopo"}));
  EXPECT_EQ(never["stream_experts_from_tokens"], 0);
  EXPECT_EQ(never["stream_ring_bytes"], 0);
  EXPECT_EQ(never["memory"][1]["compute_bytes"].get<int64_t>() + (64 << 20),
            calculated["memory"][1]["compute_bytes"].get<int64_t>());
  EXPECT_LT(never["prefill"]["tokens_s"], calculated["prefill"]["tokens_s"]);
}

TEST_F(Plan, NamesWhatLiesApart) {
  const std::string out = plan({"--device-memory", "8G", "-ot", R"(shexp=CPU,ffn_up_exps=CPU)"}).out;
  EXPECT_THAT(out, testing::ContainsRegex("CPU +shared expert +all layers +0.16 GB  by -ot shexp=CPU"));
  EXPECT_THAT(out, testing::ContainsRegex("GPU0 +router +all layers"));
  EXPECT_THAT(out, testing::ContainsRegex("CPU +experts .up. +all layers"));
  EXPECT_THAT(out, HasSubstr("not in the same place"));
}

TEST_F(Plan, MeasuresTheHostOnceAndKeepsTheResult) {
  const auto read = [](const Json& json) { return json["machine"][0]["read_gb_s"].get<double>(); };
  setenv("XDG_CACHE_HOME", fs::path(file()).parent_path().c_str(), 1);
  const Json first = Plan::json({"--calibrate", "auto"});
  const Json second = Plan::json({"--calibrate", "auto"});
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(first["host_speeds"], "measured");
  EXPECT_GT(read(first), 0);
  EXPECT_EQ(read(second), read(first)) << "the second run measures again";
  const Json never = Plan::json({});
  EXPECT_EQ(never["host_speeds"], "default");
  EXPECT_EQ(read(never), 40);
  EXPECT_EQ(read(Plan::json({"--host-bandwidth", "55"})), 55);
}

/// What is planned for the CPU is what an engine with the same flags allocates.
TEST(PlanOfASmallModel, IsWhatTheEngineTakes) {
  const auto folder = testing_support::find_data("golden");
  ASSERT_TRUE(folder);
  for (const char* name : {"tinyA.gguf", "tinyC-Q4_K_M.gguf"})
    for (const auto& [k_type, v_type] : {std::pair("f16", "f16"), std::pair("q8_0", "f32")}) {
      const std::string path = fs::path(*folder) / name;
      if (!fs::exists(path)) continue;
      const Output output = run({"plan", "--calibrate", "never", "-m",          path,   "-t",    "2",
                                 "-c",   "1000",        "-ub",   "100",         "-np",  "3",     "-ctk",
                                 k_type, "-ctv",        v_type,  "--load-mode", "copy", "--json"});
      ASSERT_EQ(output.exit_code, kExitOk) << output.err;
      const Json json = Json::parse(output.out);
      engine::EngineOptions options;
      options.model_path = path;
      options.n_threads = 2;
      options.ctx_size = 1000;
      options.ubatch_size = 100;
      options.n_parallel = 3;
      options.k_type = quant::find_format(std::string_view(k_type))->type;
      options.v_type = quant::find_format(std::string_view(v_type))->type;
      const auto engine = engine::Engine::open(options).value();
      const model::Model& model = engine->model();
      const Json& memory = json["memory"][0];
      EXPECT_EQ(memory["weights_bytes"], model.weight_bytes());
      EXPECT_EQ(memory["compute_bytes"], model.activation_bytes());
      EXPECT_EQ(memory["recurrent_state_bytes"], engine->state().recurrent_bytes);
      const auto pool = cache::PagePool::create(model.cache_layout(), json["context"].get<int64_t>()).value();
      EXPECT_EQ(memory["kv_cache_bytes"], pool->capacity_bytes());
      EXPECT_EQ(json["weights_bytes_per_token"], model.weight_bytes_per_token());
    }
}

}  // namespace
}  // namespace packmule::cli
