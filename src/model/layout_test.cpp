// The layouts a qwen3next file may have: however the same weights are stored, the logits are the same.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "base/half.h"
#include "model/edited_model_for_test.h"
#include "model/model_for_test.h"
#include "tests/support/golden.h"

namespace packmule::model {
namespace {

using testing_support::GoldenCase;
using Tensor = EditedModel::Tensor;

constexpr size_t kTokens = 70;  // beyond a chunk of the delta rule

/// The smallest model with F32 weights: the one whose file is the smallest among those that were not
/// quantised.
const GoldenCase& float_case() {
  static const GoldenCase golden = [] {
    std::string best;
    for (const std::string& name : testing_support::golden_names()) {
      if (testing_support::read_golden(name).quantized()) continue;
      if (best.empty() ||
          testing_support::golden_model_bytes(name) < testing_support::golden_model_bytes(best))
        best = name;
    }
    return testing_support::read_golden(best);
  }();
  return golden;
}

std::filesystem::path float_model() {
  const auto path = testing_support::golden_model(float_case());
  if (!path.has_value()) throw std::runtime_error(path.error().message);
  return *path;
}

EditedModel edited() {
  return EditedModel(gguf::File::open(float_model()).value());
}

std::vector<float> logits_of(const LoadedModel& loaded, size_t n = kTokens) {
  auto sequence = loaded.sequence();
  return loaded.run(*sequence, std::span(float_case().tokens).first(n), 512);
}

Isa best_isa() {
  return isa_usable(Isa::kAvx2) ? Isa::kAvx2 : Isa::kRef;
}

Result<std::vector<float>> logits_of(const EditedModel& model) {
  PACKMULE_TRY(const LoadedModel loaded,
               LoadedModel::load(model.bytes(), "edited model", exact_options(best_isa(), 512)));
  return logits_of(loaded);
}

const std::vector<float>& plain_logits() {
  static const std::vector<float> logits =
      logits_of(LoadedModel::load(float_model(), exact_options(best_isa(), 512)).value());
  return logits;
}

/// The same numbers go through the same operations: not one bit may differ.
void expect_same_bits(const Result<std::vector<float>>& found) {
  ASSERT_TRUE(found.has_value()) << found.error().message;
  ASSERT_EQ(found->size(), plain_logits().size());
  EXPECT_EQ(std::memcmp(found->data(), plain_logits().data(), found->size() * sizeof(float)), 0)
      << "relative L2 " << testing_support::max_relative_l2(*found, plain_logits(), float_case().n_vocab);
}

TEST(Layout, TheOlderFusedFilesOfTheGenerator) {
  for (const char* option : {"--legacy", "--fuse-gate-up"}) {
    SCOPED_TRACE(option);
    const auto path = testing_support::golden_variant(float_case(), option);
    ASSERT_TRUE(path.has_value()) << path.error().message;
    auto loaded = LoadedModel::load(*path, exact_options(best_isa(), 512));
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    const bool legacy = option == std::string("--legacy");
    EXPECT_EQ(loaded->file.find_tensor("blk.0.ssm_in.weight") != nullptr, legacy);
    EXPECT_EQ(loaded->file.find_tensor("blk.0.ffn_gate_up_exps.weight") != nullptr, !legacy);
    expect_same_bits(logits_of(*loaded));
  }
}

TEST(Layout, StackedQueryKeyValue) {
  EditedModel model = edited();
  int64_t n_stacked = 0;
  for (int64_t layer = 0; layer < float_case().n_layers; ++layer) {
    const std::string prefix = fmt::format("blk.{}.attn_", layer);
    if (!model.has(prefix + "q.weight")) continue;
    Tensor stacked = model.tensor(prefix + "q.weight");
    for (const char* part : {"k.weight", "v.weight"}) {
      const Tensor& more = model.tensor(prefix + part);
      stacked.ne[1] += more.ne[1];
      stacked.bytes.insert(stacked.bytes.end(), more.bytes.begin(), more.bytes.end());
    }
    for (const char* part : {"q.weight", "k.weight", "v.weight"}) model.remove(prefix + part);
    model.add(prefix + "qkv.weight", stacked);
    ++n_stacked;
  }
  EXPECT_GT(n_stacked, 0);
  expect_same_bits(logits_of(model));
}

TEST(Layout, TiedOutput) {
  EditedModel both = edited();
  both.tensor("output.weight").bytes = both.tensor("token_embd.weight").bytes;
  EditedModel tied = edited();
  tied.remove("output.weight");
  const auto expected = logits_of(both);
  const auto found = logits_of(tied);
  ASSERT_TRUE(expected.has_value() && found.has_value());
  EXPECT_EQ(*found, *expected);
  EXPECT_NE(*found, plain_logits());
}

TEST(Layout, TheLayersKindsByKey) {
  std::vector<bool> recurrent;
  const Json kinds = float_case().about.at("config").at("recurrent");
  for (const Json& kind : kinds) recurrent.push_back(kind.get<bool>());
  EditedModel listed = edited();
  listed.remove_key("qwen3next.full_attention_interval");  // its default is 4
  expect_same_bits(logits_of(listed));
  listed.set("qwen3next.attention.recurrent_layers", recurrent);
  listed.set("qwen3next.full_attention_interval", uint32_t{2});  // the list goes before the interval
  expect_same_bits(logits_of(listed));
}

/// Swaps two layers' tensors.
void swap_layers(EditedModel& model, int64_t a, int64_t b) {
  std::vector<std::pair<std::string, Tensor>> moved;
  for (const std::string& name : model.names())
    for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
      const std::string prefix = fmt::format("blk.{}.", from);
      if (!name.starts_with(prefix)) continue;
      moved.emplace_back(fmt::format("blk.{}.{}", to, name.substr(prefix.size())), model.tensor(name));
      model.remove(name);
    }
  for (auto& [name, tensor] : moved) model.add(name, std::move(tensor));
}

// The attention layer moved to the place before: the list of kinds must be followed, and interval 3 says the
// same for layers 0 to 2 of such a model.
TEST(Layout, AttentionInAnotherPlace) {
  const Json kinds = float_case().about.at("config").at("recurrent");
  if (kinds != Json::array({true, true, true, false})) GTEST_SKIP() << "made for four layers";
  EditedModel listed = edited();
  swap_layers(listed, 2, 3);
  listed.set("qwen3next.attention.recurrent_layers", std::vector<bool>{true, true, false, true});
  EditedModel by_interval = edited();
  swap_layers(by_interval, 2, 3);
  by_interval.set("qwen3next.full_attention_interval", uint32_t{3});
  const auto a = logits_of(listed), b = logits_of(by_interval);
  ASSERT_TRUE(a.has_value()) << a.error().message;
  ASSERT_TRUE(b.has_value()) << b.error().message;
  EXPECT_EQ(*a, *b);
  EXPECT_NE(*a, plain_logits());
  // Attention everywhere, and nowhere.
  EditedModel none = edited();
  swap_layers(none, 0, 3);
  none.set("qwen3next.block_count", uint32_t{4});
  none.set("qwen3next.full_attention_interval", uint32_t{1});
  EXPECT_FALSE(logits_of(none).has_value());  // layers 1 to 3 have no attention tensors
  none.set("qwen3next.block_count", uint32_t{1});
  EXPECT_TRUE(logits_of(none).has_value());
  EditedModel only_delta = edited();
  only_delta.set("qwen3next.block_count", uint32_t{3});
  EXPECT_TRUE(logits_of(only_delta).has_value());
}

TEST(Layout, TheBlockThatPredictsFurtherTokensIsLeftOut) {
  EditedModel model = edited();
  const int64_t n = float_case().n_layers;
  model.set("qwen3next.block_count", static_cast<uint32_t>(n + 1));
  model.set("qwen3next.nextn_predict_layers", uint32_t{1});
  for (const std::string& name : model.names()) {  // a copy of the last block stands for it
    const std::string prefix = fmt::format("blk.{}.", n - 1);
    if (name.starts_with(prefix))
      model.add(fmt::format("blk.{}.{}", n, name.substr(prefix.size())), model.tensor(name));
  }
  model.add(fmt::format("blk.{}.nextn.enorm.weight", n), model.tensor("output_norm.weight"));
  expect_same_bits(logits_of(model));
  std::vector<bool> recurrent;
  for (const Json& kind : float_case().about.at("config").at("recurrent"))
    recurrent.push_back(kind.get<bool>());
  recurrent.push_back(false);
  model.set("qwen3next.attention.recurrent_layers", recurrent);
  expect_same_bits(logits_of(model));
}

/// Multiplies a tensor by a power of two and says the inverse in its `.scale`: no rounding.
void move_to_scale(EditedModel& model, const std::string& name, const std::vector<float>& factors) {
  Tensor& tensor = model.tensor(name + ".weight");
  std::vector<float> values = tensor.values();
  const size_t part = values.size() / factors.size();
  for (size_t i = 0; i < values.size(); ++i) values[i] /= factors[i / part];
  tensor.set_values(values);
  Tensor scale;
  scale.ne = {static_cast<int64_t>(factors.size())};
  scale.set_values(factors);
  model.add(name + ".scale", scale);
}

TEST(Layout, ScalesAreApplied) {
  const auto n_experts = float_case().about.at("config").at("n_exp").get<size_t>();
  std::vector<float> of_experts(n_experts);
  for (size_t i = 0; i < n_experts; ++i) of_experts[i] = i % 3 == 0 ? 0.5f : i % 3 == 1 ? 4.0f : 1.0f;
  EditedModel model = edited();
  int64_t n_scaled = 0;
  for (const std::string& name : model.names()) {
    if (!name.ends_with(".weight") || model.tensor(name).ne.size() < 2) continue;
    if (name.find("conv1d") != std::string::npos) continue;  // no matrix product
    const std::string stem = name.substr(0, name.size() - 7);
    const bool experts = model.tensor(name).ne.size() == 3;
    move_to_scale(model, stem,
                  experts && stem.find("up_exps") == std::string::npos ? of_experts : std::vector{8.0f});
    ++n_scaled;
  }
  EXPECT_GT(n_scaled, 20);
  expect_same_bits(logits_of(model));
  move_to_scale(model, "blk.0.ffn_down_shexp", {2.0f});
  model.remove("blk.0.ffn_down_shexp.scale");
  const auto without = logits_of(model);
  ASSERT_TRUE(without.has_value());
  EXPECT_NE(*without, plain_logits());
}

// Small tensors and the router in the 16-bit formats: stored values that those hold exactly give the same
// bits.
TEST(Layout, SmallTensorsInHalfPrecision) {
  for (const quant::Type type : {quant::Type::kF16, quant::Type::kBF16}) {
    SCOPED_TRACE(quant::format_of(type).name);
    EditedModel exact = edited(), narrow = edited();
    for (const std::string& name : exact.names()) {
      Tensor& tensor = exact.tensor(name);
      const bool router = name.ends_with("ffn_gate_inp.weight");
      if (tensor.ne.size() > 1 && !router && name.find("conv1d") == std::string::npos &&
          !name.ends_with("inp_shexp.weight"))
        continue;
      std::vector<float> values = tensor.values();
      Tensor& to = narrow.tensor(name);
      to.type = type;
      to.bytes.resize(values.size() * 2);
      for (size_t i = 0; i < values.size(); ++i) {
        const uint16_t bits = type == quant::Type::kF16 ? float_to_half(values[i]) : float_to_bf16(values[i]);
        values[i] = type == quant::Type::kF16 ? half_to_float(bits) : bf16_to_float(bits);
        std::memcpy(to.bytes.data() + 2 * i, &bits, 2);
      }
      tensor.set_values(values);
    }
    const auto a = logits_of(exact), b = logits_of(narrow);
    ASSERT_TRUE(a.has_value() && b.has_value());
    EXPECT_EQ(*a, *b);
    EXPECT_NE(*a, plain_logits());
  }
}

TEST(Layout, TheSharedExpertsGateMayBeAVector) {
  EditedModel model = edited();
  for (int64_t layer = 0; layer < float_case().n_layers; ++layer) {
    Tensor& gate = model.tensor(fmt::format("blk.{}.ffn_gate_inp_shexp.weight", layer));
    gate.ne = {gate.ne[0]};
  }
  expect_same_bits(logits_of(model));
}

}  // namespace
}  // namespace packmule::model
