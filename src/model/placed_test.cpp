// Whole models with parts of them on a device, against the float64 reference: any tensor may be anywhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <regex>

#include "model/model_for_test.h"
#include "tests/support/golden.h"
#include "vulkan/device_for_test.h"

namespace packmule::model {
namespace {

using testing::HasSubstr;
using testing_support::GoldenCase;

// As golden_test's for exact activations (float32 roundings of some fifty operations a layer; the k-quant file has
// larger activations). Shaders sum in other orders than the reference kernels, with the same number of roundings.
constexpr double kFloatModel = 5e-6;
constexpr double kQuantisedModel = 1e-5;

/// Who goes to the device: of the rules the first that is found in a tensor's name counts.
struct Rules {
  std::string name;
  std::vector<std::pair<std::string, bool>> rules;  // pattern, on the device
  bool rest = true;
  enum Caches { kWithOutputProjection, kOnHost, kOnDevice } caches = kWithOutputProjection;
};

// The article's rules, as they are typed (the backslashes of a shell are gone).
const std::string kAllExperts = R"(\.ffn_.*_exps.)";
const std::string kFromLayer2 = R"(\.(2|3|[0-9][0-9])\.ffn_(gate|up|down)_exps.)";
const std::string kSixOnward = R"(\.(6|7|8|9|[0-9][0-9]|[0-9][0-9][0-9])\.ffn_(gate|up|down)_exps.)";
const std::string kTenLayers = R"(\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.)";

std::vector<Rules> all_rules() {
  std::vector<Rules> all{
      {"all", {}},
      {"all_but_embedding", {{"token_embd", false}}},
      {"experts_on_cpu", {{kAllExperts, false}, {"token_embd", false}}},
      {"experts_from_layer_2_on_cpu", {{kFromLayer2, false}}},
      {"article_six_onward", {{kSixOnward, false}}},
      {"article_ten_layers", {{kTenLayers, false}}},
      {"up_on_cpu", {{R"(\.ffn_(up)_exps.)", false}}},
      {"up_down_on_cpu", {{R"(\.ffn_(up|down)_exps.)", false}}},
      {"up_down_gate_on_cpu", {{R"(\.ffn_(up|down|gate)_exps.)", false}}},
      {"gate_on_cpu", {{R"(\.ffn_gate_exps.)", false}}},
      {"down_on_cpu", {{R"(\.ffn_down_exps.)", false}}},
      {"only_experts", {{kAllExperts, true}}, false},
      {"only_up", {{R"(\.ffn_up_exps)", true}}, false},
      {"only_gate_and_up", {{R"(\.ffn_(gate|up)_exps)", true}}, false},
      {"only_down", {{R"(\.ffn_down_exps)", true}}, false},
      {"first_half", {{R"(blk\.[01]\.)", true}}, false},
      {"last_half_and_head", {{R"(blk\.[23]\.)", true}, {"^output", true}}, false},
      {"only_embedding", {{"token_embd", true}}, false},
      {"only_head", {{"^output", true}}, false},
      {"one_q_projection", {{R"(blk\.3\.attn_q\.)", true}}, false},
      {"v_on_cpu", {{R"(blk\.3\.attn_v\.)", false}}},
      {"one_delta_projection", {{R"(blk\.1\.(attn_qkv|ssm_in))", true}}, false},
      {"ba_on_cpu", {{R"(ssm_ba)", false}}},
      {"output_projections_on_cpu", {{R"(attn_output|ssm_out)", false}}},
      {"only_output_projections", {{R"(attn_output|ssm_out)", true}}, false},
      {"one_router", {{R"(blk\.2\.ffn_gate_inp\.)", true}}, false},
      {"routers_on_cpu", {{R"(ffn_gate_inp\.)", false}}},
      {"shared_on_cpu", {{R"(_shexp)", false}}},
      {"only_shared", {{R"(_shexp)", true}}, false},
      {"shared_down_on_cpu", {{R"(ffn_down_shexp)", false}}},
      {"shared_up_on_cpu", {{R"(ffn_up_shexp)", false}}},
      {"only_shared_gate", {{R"(ffn_gate_shexp)", true}}, false},
      {"caches_on_cpu", {}, true, Rules::kOnHost},
      {"caches_and_experts_on_cpu", {{kAllExperts, false}}, true, Rules::kOnHost},
      {"only_caches", {}, false, Rules::kOnDevice},
      {"only_up_beside_device_caches", {{R"(\.ffn_up_exps)", true}}, false, Rules::kOnDevice},
      {"everything_alternates", {{R"(attn_(q|gate|output)|ssm_ba|ffn_(up|down)_exps|ffn_gate_shexp)", true}}, false},
      {"everything_alternates_the_other_way",
       {{R"(attn_(q|gate|output)|ssm_ba|ffn_(up|down)_exps|ffn_gate_shexp)", false}}},
  };
  return all;
}

std::shared_ptr<runtime::Gpu> test_gpu() {
  auto gpu = runtime::Gpu::create(vulkan::testing_support::TestDevice::get().device);
  if (!gpu) throw std::runtime_error(gpu.error().message);
  return *gpu;
}

std::shared_ptr<Placement> placement_of(const gguf::File& file, const Rules& rules,
                                        std::shared_ptr<runtime::Gpu> gpu) {
  auto placement = std::make_shared<Placement>();
  placement->gpu = std::move(gpu);
  const auto on_device = [&](const std::string& name) {
    for (const auto& [pattern, where] : rules.rules)
      if (std::regex_search(name, std::regex(pattern))) return where;
    return rules.rest;
  };
  for (const gguf::TensorInfo& tensor : file.tensors())
    if (on_device(std::string(tensor.name))) placement->tensors.emplace(tensor.name);
  if (on_device("output.weight")) placement->tensors.emplace("output.weight");
  const Hparams h = Hparams::read(file).value();
  for (int layer = 0; layer < h.n_layers; ++layer) {
    const std::string out = fmt::format("blk.{}.{}.weight", layer,
                                        h.recurrent[static_cast<size_t>(layer)] ? "ssm_out" : "attn_output");
    placement->caches.push_back(rules.caches == Rules::kOnDevice ||
                                (rules.caches == Rules::kWithOutputProjection && on_device(out)));
  }
  return placement;
}

class PlacedTest : public vulkan::testing_support::DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (!IsSkipped() && gpu_ == nullptr) gpu_ = test_gpu();
  }
  static void TearDownTestSuite() { gpu_.reset(); }

  static LoadedModel load(const GoldenCase& golden, const Rules& rules, ModelOptions options) {
    const auto path = testing_support::golden_model(golden);
    if (!path) throw std::runtime_error(path.error().message);
    gguf::File file = gguf::File::open(path->string()).value();
    options.placement = placement_of(file, rules, gpu_);
    auto loaded = LoadedModel::load(std::move(file), options, 2, 1024);
    if (!loaded) throw std::runtime_error(loaded.error().message);
    return std::move(*loaded);
  }

  inline static std::shared_ptr<runtime::Gpu> gpu_;
};

std::vector<float> expected_logits(const GoldenCase& golden, int64_t n_tokens) {
  return {golden.logits.begin(), golden.logits.begin() + n_tokens * golden.n_vocab};
}

class Placements : public PlacedTest, public testing::WithParamInterface<std::tuple<std::string, Rules>> {};

// A prompt in two pieces (over the edge of a page, with a chunk that is not whole), then token by token.
TEST_P(Placements, LogitsAreTheReferences) {
  const GoldenCase golden = testing_support::read_golden(std::get<0>(GetParam()));
  const LoadedModel loaded = load(golden, std::get<1>(GetParam()), exact_options(Isa::kRef, 128));
  const std::span<const int32_t> tokens(golden.tokens);
  const auto sequence = loaded.sequence();
  std::vector<float> logits;
  for (const auto& [begin, end, piece] : {std::tuple(0, 70, 128), std::tuple(70, 84, 128), std::tuple(84, 90, 1)}) {
    const auto rows = loaded.run(*sequence, tokens.subspan(begin, end - begin), piece);
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  const auto expected = expected_logits(golden, 90);
  ASSERT_EQ(logits.size(), expected.size());
  const double worst = testing_support::max_relative_l2(logits, expected, golden.n_vocab);
  EXPECT_LE(worst, golden.quantized() ? kQuantisedModel : kFloatModel);
  std::cout << fmt::format("max relative L2 {:.2e}\n", worst);
}

INSTANTIATE_TEST_SUITE_P(Models, Placements,
                         testing::Combine(testing::Values("tinyA", "tinyC", "tinyC-Q4_K_M"),
                                          testing::ValuesIn(all_rules())),
                         [](const auto& param) {
                           std::string name = std::get<0>(param.param) + "_" + std::get<1>(param.param).name;
                           for (char& c : name)
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           return name;
                         });

}  // namespace
}  // namespace packmule::model
