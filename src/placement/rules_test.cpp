#include "placement/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>


#include "placement/model_for_test.h"
#include "placement/words.h"

namespace packmule::placement {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

bool finds(std::string_view pattern, std::string_view name) {
  return Pattern::compile(pattern).value().found_in(name).value();
}

TEST(Pattern, IsSearchedForAnywhereInTheName) {
  EXPECT_TRUE(finds("exps", "blk.3.ffn_up_exps.weight"));
  EXPECT_TRUE(finds(R"(\.ffn_.*_exps.)", "blk.3.ffn_up_exps.weight"));
  EXPECT_FALSE(finds(R"(\.ffn_.*_exps.)", "blk.3.ffn_up_shexp.weight"));
  EXPECT_TRUE(finds("^blk", "blk.3.ssm_a"));
  EXPECT_FALSE(finds("^ssm", "blk.3.ssm_a"));
  EXPECT_TRUE(finds("ssm_a$", "blk.3.ssm_a"));
  EXPECT_FALSE(finds("weight$", "blk.3.weight\n"));  // ECMAScript: the end and nothing else
  EXPECT_FALSE(finds("BLK", "blk.3.ssm_a"));
  EXPECT_TRUE(finds(R"(blk\.\d+\.ssm_[a-c]\b)", "blk.30.ssm_a"));
  EXPECT_TRUE(finds(R"(\x62lk)", "blk.3.ssm_a"));
  EXPECT_TRUE(finds(R"(\u0062lk)", "blk.3.ssm_a"));
  EXPECT_FALSE(finds("a[]", "a"));
}

TEST(Pattern, RefusesWhatIsNone) {
  for (const char* text : {"", "(", "[", "a**", "(?<n", "*", "\\"})
    EXPECT_FALSE(Pattern::compile(text)) << text;
  EXPECT_THAT(Pattern::compile("ffn_(up").error().message, HasSubstr("at byte 7"));
  EXPECT_FALSE(Pattern::compile(std::string(Pattern::kMaxBytes + 1, 'a')));
  EXPECT_FALSE(Pattern::compile(std::string(1000, '(') + std::string(1000, ')')));
}

TEST(Pattern, ThatWouldNeverEndIsStopped) {
  const std::string name = "blk.0." + std::string(60, 'a') + "!";
  for (const char* text : {"(a+)+$", "(a|aa)+$", "(.*)*(.*)*(.*)*x", R"((\w+\w+)+\?)", "((a+)+)+b"}) {
    const auto pattern = Pattern::compile(text);
    ASSERT_TRUE(pattern) << text;
    const auto found = pattern->found_in(name);
    if (!found) {
      EXPECT_THAT(found.error().message, HasSubstr("blk.0.")) << text;
    }
    if (found) {
      EXPECT_FALSE(*found) << text;
    }
  }
  EXPECT_FALSE(Pattern::compile("(a+)+$")->found_in(name));  // one of them must really need stopping
}

TEST(Rules, AreCutAtCommasThatFollowADevice) {
  const Machine machine = machine_for_test(32, {8, 8});
  const auto rules = parse_override(R"(blk\.(0|1)\.ffn=GPU0,exps=CPU,attn=vulkan1)", machine).value();
  ASSERT_EQ(rules.size(), 3u);
  EXPECT_EQ(rules[0].pattern.text(), R"(blk\.(0|1)\.ffn)");
  EXPECT_EQ(rules[0].words, R"(-ot blk\.(0|1)\.ffn=GPU0)");
  EXPECT_EQ(rules[0].where, 1);
  EXPECT_EQ(rules[1].where, kHost);
  EXPECT_EQ(rules[2].where, 2);
  // llama.cpp cuts at every comma and first equal sign: patterns with either cannot be written there.
  const auto lenient = parse_override(R"(blk\.[0-9]{1,2}\.x=CPU,(?=b)blk=GPU0)", machine).value();
  ASSERT_EQ(lenient.size(), 2u);
  EXPECT_EQ(lenient[0].pattern.text(), R"(blk\.[0-9]{1,2}\.x)");
  EXPECT_EQ(lenient[1].pattern.text(), "(?=b)blk");
}

TEST(Rules, NameWhatIsWrong) {
  const Machine with = machine_for_test(32, {8});
  const Machine without = machine_for_test(32, {});
  const struct {
    const char* text;
    const char* words;
  } cases[] = {
      {"", "PATTERN=DEVICE"},          {"exps", "PATTERN=DEVICE"}, {"exps=", "PATTERN=DEVICE"},
      {"exps=CUDA0", "no device"},     {"exps=CUDA0", "GPU0"},     {"=CPU", "empty pattern"},
      {"exps=CPU,", "PATTERN=DEVICE"}, {"(=CPU", "at byte"},       {"exps=GPU1", "CPU, GPU0 (Vulkan0)"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(parse_override(c.text, with).error().message, HasSubstr(c.words)) << c.text;
  EXPECT_THAT(parse_override("exps=GPU0", without).error().message, HasSubstr("--device-memory"));
}

std::vector<int> layers_with_rule(Request& request, int rule, std::string_view part = "") {
  std::vector<int> layers;
  const Matches matches = match(request.rules, request.inventory).value();
  for (size_t t = 0; t < request.inventory.tensors.size(); ++t) {
    const Tensor& tensor = request.inventory.tensors[t];
    if (matches.first[t] == rule && tensor.name.find(part) != std::string::npos &&
        (layers.empty() || layers.back() != tensor.layer))
      layers.push_back(tensor.layer);
  }
  return layers;
}

TEST(Rules, MatchAsPeopleWriteThem) {
  const struct {
    const char* text;
    const char* layers;
    size_t n_tensors;
  } cases[] = {
      {R"(\.ffn_.*_exps.=CPU)", "layers 0 to 47", 144},
      {R"(\.(6|7|8|9|[0-9][0-9]|[0-9][0-9][0-9])\.ffn_(gate|up|down)_exps.=CPU)", "layers 6 to 47", 126},
      {R"(\.ffn_(up|down|gate)_exps.=CPU)", "layers 0 to 47", 144},
      {R"(\.ffn_(up|down)_exps.=CPU)", "layers 0 to 47", 96},
      {R"(\.ffn_(up)_exps.=CPU)", "layers 0 to 47", 48},
      // The two that claim to leave ten and twelve layers on the card: the same layers.
      {R"(\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU)", "layers 12 to 47", 108},
      {R"(\.([1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU)", "layers 12 to 47", 108},
      {R"(blk\.1\.=CPU)", "layer 1", 18},
      {"blk.1=CPU", "layers 1 and 10 to 19", 0},
      {"token_embd=GPU0", "no layer", 1},
      {"nothing of the kind=CPU", "no layer", 0},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    Request request = request_for_test(32, {8});
    add_rules(request, c.text);
    std::vector<int> layers = layers_with_rule(request, 0);
    std::erase(layers, -1);
    EXPECT_EQ(layer_words(layers), c.layers);
    if (c.n_tensors > 0) {
      EXPECT_EQ(match(request.rules, request.inventory)->of_rule[0].size(), c.n_tensors);
    }
  }
}

TEST(Rules, TheFirstThatMatchesCounts) {
  Request request = request_for_test(32, {8});
  add_rules(request, R"(blk\.[0-3]\.ffn_.*_exps=GPU0)");
  request.rules.overrides.push_back(n_cpu_moe_rule(6));
  request.rules.overrides.push_back(cpu_moe_rule());
  EXPECT_THAT(layers_with_rule(request, 0), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(layers_with_rule(request, 1), ElementsAre(4, 5));
  EXPECT_EQ(layers_with_rule(request, 2).front(), 6);
  EXPECT_EQ(layers_with_rule(request, 2).size(), 42u);
}

TEST(Rules, ExpertFlagsKnowFusedTensors) {
  Request request = request_for_test(32, {8});
  DirectoryForTest directory;
  directory.fused_gate_up = true;
  request.inventory = directory.inventory();
  request.rules.overrides.push_back(n_cpu_moe_rule(2));
  request.rules.overrides.push_back(cpu_moe_rule());
  EXPECT_EQ(match(request.rules, request.inventory)->of_rule[0].size(), 4u);
  EXPECT_EQ(match(request.rules, request.inventory)->of_rule[1].size(), 96u);
  EXPECT_TRUE(Pattern::compile(n_cpu_moe_rule(1'000'000).pattern.text()));
}

TEST(Rules, LayersCountFromTheEndAndTheOutputIsTheLast) {
  const ModelShape shape{.n_layers = 48, .n_file_blocks = 48};
  const Machine machine = machine_for_test(32, {8});
  EXPECT_EQ(first_gpu_block(0, shape), 49);
  EXPECT_EQ(first_gpu_block(1, shape), 48);  // the output alone
  EXPECT_EQ(first_gpu_block(2, shape), 47);
  EXPECT_EQ(first_gpu_block(48, shape), 1);
  EXPECT_EQ(first_gpu_block(49, shape), 0);
  EXPECT_EQ(first_gpu_block(99, shape), 0);
  EXPECT_EQ(gpu_of_block(46, 2, shape, machine), kHost);
  EXPECT_EQ(gpu_of_block(47, 2, shape, machine), 1);
  EXPECT_EQ(gpu_of_block(48, 2, shape, machine), 1);
  EXPECT_EQ(gpu_of_block(48, 99, shape, machine_for_test(32, {})), kHost);
}

TEST(Rules, LayersAreSplitByFreeMemory) {
  const ModelShape shape{.n_layers = 48, .n_file_blocks = 48};
  const Machine machine = machine_for_test(32, {6, 18});
  int n_first = 0;
  for (int64_t block = 0; block <= 48; ++block) {
    const Where where = gpu_of_block(block, 99, shape, machine);
    EXPECT_GE(where, 1);
    n_first += where == 1;
    if (block > 0) {
      EXPECT_GE(where, gpu_of_block(block - 1, 99, shape, machine));
    }
  }
  EXPECT_EQ(n_first, 13);  // 49 blocks, a quarter, rounded up
}

TEST(LayerWords, SayRangesAndSingles) {
  const auto words = [](std::vector<int> layers) { return layer_words(layers); };
  EXPECT_EQ(words({}), "no layer");
  EXPECT_EQ(words({7}), "layer 7");
  EXPECT_EQ(words({7, 8}), "layers 7 and 8");
  EXPECT_EQ(words({12, 13, 14, 15}), "layers 12 to 15");
  EXPECT_EQ(words({0, 4, 8, 9, 10, 11}), "layers 0, 4 and 8 to 11");
  EXPECT_EQ(words({0, 1, 2, 5, 6}), "layers 0 to 2, 5 and 6");
}

}  // namespace
}  // namespace packmule::placement
