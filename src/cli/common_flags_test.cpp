#include "cli/common_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cli/flags.h"

namespace packmule::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

struct Parsed {
  engine::EngineOptions options;
  SamplingFlags sampling;
  std::string error;
};

Parsed parse(std::vector<std::string> args) {
  Parsed parsed;
  PlacementFlags placement;
  CLI::App app;
  add_model_flags(app, parsed.options, placement);
  add_context_flag(app, parsed.options);
  add_sampling_flags(app, parsed.sampling);
  add_parallel_flags(app, parsed.options);
  add_accepted_flags(app);
  args.insert(args.begin(), {"-m", "model.gguf"});
  args = with_long_names(std::move(args));
  std::reverse(args.begin(), args.end());
  try {
    app.parse(std::move(args));
  } catch (const CLI::ParseError& error) {
    parsed.error = error.what();
  }
  return parsed;
}

TEST(CommonFlags, TakeTheNamesPeopleKnow) {
  const Parsed parsed =
      parse({"-c", "4096", "-t", "3", "-b", "64", "-ub", "32", "-ctk", "q8_0", "-ctv", "BF16"});
  EXPECT_EQ(parsed.error, "");
  EXPECT_EQ(parsed.options.model_path, "model.gguf");
  EXPECT_EQ(parsed.options.ctx_size, 4096);
  EXPECT_EQ(parsed.options.n_threads, 3);
  EXPECT_EQ(parsed.options.ubatch_size, 32);
  EXPECT_EQ(parsed.options.k_type, quant::Type::kQ8_0);
  EXPECT_EQ(parsed.options.v_type, quant::Type::kBF16);
}

TEST(CommonFlags, NameTheLoadModes) {
  EXPECT_EQ(parse({}).options.load_mode, model::LoadMode::kAuto);
  for (const auto mode :
       {model::LoadMode::kAuto, model::LoadMode::kMmap, model::LoadMode::kCopy, model::LoadMode::kRepack}) {
    const Parsed parsed = parse({"--load-mode", std::string(model::load_mode_name(mode)).c_str()});
    EXPECT_EQ(parsed.error, "");
    EXPECT_EQ(parsed.options.load_mode, mode);
  }
  EXPECT_THAT(parse({"--load-mode", "fast"}).error, HasSubstr("--load-mode"));
  EXPECT_EQ(parse({"--no-mmap"}).options.load_mode, model::LoadMode::kRepack);
}

TEST(CommonFlags, SamplingOverridesOnlyWhatIsNamed) {
  sampling::Params defaults;
  defaults.top_k = 20;
  defaults.temperature = 0.7f;
  sampling::Params params = parse({}).sampling.over(defaults);
  EXPECT_EQ(params.top_k, 20);
  EXPECT_EQ(params.temperature, 0.7f);
  EXPECT_EQ(params.seed, sampling::kRandomSeed);

  const Parsed parsed = parse({"--temp",
                               "0",
                               "--top-p",
                               "0.5",
                               "--min-p",
                               "0.1",
                               "--repeat-penalty",
                               "1.1",
                               "--repeat-last-n",
                               "-1",
                               "--presence-penalty",
                               "-0.5",
                               "--frequency-penalty",
                               "2",
                               "-s",
                               "4294967294",
                               "--logit-bias",
                               "7+1.5",
                               "--logit-bias",
                               "8-inf"});
  EXPECT_EQ(parsed.error, "");
  params = parsed.sampling.over(defaults);
  EXPECT_EQ(params.temperature, 0.0f);
  EXPECT_EQ(params.top_k, 20);
  EXPECT_EQ(params.top_p, 0.5f);
  EXPECT_EQ(params.min_p, 0.1f);
  EXPECT_EQ(params.repeat_penalty, 1.1f);
  EXPECT_EQ(params.repeat_last_n, -1);
  EXPECT_EQ(params.presence_penalty, -0.5f);
  EXPECT_EQ(params.frequency_penalty, 2.0f);
  EXPECT_EQ(params.seed, 4294967294u);
  EXPECT_THAT(params.logit_bias, ElementsAre(Pair(7, 1.5f), Pair(8, -INFINITY)));
  EXPECT_EQ(parse({"--seed", "-1"}).sampling.over({}).seed, sampling::kRandomSeed);
}

TEST(CommonFlags, SayHowManyAnswersAndWhatMemoryForPastOnes) {
  EXPECT_EQ(parse({}).options.n_parallel, 1);
  EXPECT_EQ(parse({"-np", "8"}).options.n_parallel, 8);
  EXPECT_FALSE(parse({}).options.cache_ram_bytes.has_value());
  EXPECT_EQ(parse({"-cram", "100"}).options.cache_ram_bytes, int64_t{100} << 20);
  EXPECT_EQ(parse({"--cache-ram", "0"}).options.cache_ram_bytes, 0);
  EXPECT_GE(parse({"--cache-ram", "-1"}).options.cache_ram_bytes, int64_t{1} << 40);
}

TEST(CommonFlags, AcceptWhatChangesNothing) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"--jinja"},
                                             {"--no-webui"},
                                             {"-cb"},
                                             {"-kvu"},
                                             {"-fa"},
                                             {"-fa", "on"},
                                             {"--flash-attn", "auto", "-c", "5"},
                                             {"-fa", "-c", "5"},
                                             {"-tb", "4"},
                                             {"-ngl", "99"},
                                             {"-ot", "exps=CPU"},
                                             {"-cmoe"},
                                             {"-ncmoe", "3"},
                                             {"-nkvo"},
                                             {"-nopo"},
                                             {"--op-offload", "--op-offload-min-batch", "32"},
                                             {"-dev", "none"}})
    EXPECT_EQ(parse(args).error, "") << testing::PrintToString(args);
}

TEST(CommonFlags, RefuseWithAReason) {
  const struct {
    std::vector<std::string> args;
    const char* reason;
  } cases[] = {
      {{"-ngl", "many"}, "--n-gpu-layers"},
      {{"-ot", "exps=CUDA0"}, "CUDA0"},
      {{"-ot", "(=CPU"}, "--override-tensor"},
      {{"-dev", "GPU9"}, "there is no device"},
      {{"-np", "0"}, "--parallel"},
      {{"-np", "65"}, "--parallel"},
      {{"-cram", "-2"}, "--cache-ram"},
      {{"-nocb"}, "-np 1"},
      {{"-no-kvu"}, "never divided"},
      {{"-fa", "perhaps"}, "perhaps"},
      {{"-ctk", "q6_k"}, "expected one of"},
      {{"-c", "-1"}, "--ctx-size"},
      {{"-t", "0"}, "--threads"},
      {{"-ub", "0"}, "--ubatch-size"},
      {{"--top-p", "1.5"}, "--top-p"},
      {{"--top-p", "nan"}, "--top-p"},
      {{"--min-p", "-0.1"}, "--min-p"},
      {{"--temp", "inf"}, "--temp"},
      {{"--temp", "warm"}, "--temp"},
      {{"--repeat-penalty", "0"}, "--repeat-penalty"},
      {{"--repeat-last-n", "-2"}, "--repeat-last-n"},
      {{"-s", "4294967296"}, "--seed"},
      {{"--logit-bias", "7"}, "--logit-bias"},
      {{"--logit-bias", "7+x"}, "--logit-bias"},
      {{"--logit-bias", "7+-1"}, "--logit-bias"},
      {{"--logit-bias", "-7+1"}, "--logit-bias"},
      {{"--logit-bias", "7+nan"}, "--logit-bias"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(parse(c.args).error, HasSubstr(c.reason)) << testing::PrintToString(c.args);
}

}  // namespace
}  // namespace packmule::cli
