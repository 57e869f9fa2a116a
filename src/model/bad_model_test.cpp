// A file is untrusted: every wrong key and every missing or misshapen tensor is one clear line, never a
// crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "model/edited_model_for_test.h"
#include "model/model_for_test.h"
#include "tests/support/golden.h"

namespace packmule::model {
namespace {

using testing::HasSubstr;

/// Any stored model: nothing is computed here.
EditedModel sound() {
  for (const std::string& name : testing_support::golden_names()) {
    const auto golden = testing_support::read_golden(name);
    if (golden.model_bytes > 100 << 20) continue;
    return EditedModel(gguf::File::open(testing_support::golden_model(golden).value().string()).value());
  }
  throw std::runtime_error("no model in the golden folder");
}

Result<LoadedModel> load(const EditedModel& model) {
  return LoadedModel::load(model.bytes(), "bad.gguf", exact_options(Isa::kRef, 4));
}

/// The error must be one line that names the file and has the given words in it.
void expect_error(const EditedModel& model, const std::vector<std::string>& words) {
  const auto loaded = load(model);
  ASSERT_FALSE(loaded.has_value()) << "accepted; expected an error about " << words.front();
  const std::string& message = loaded.error().message;
  for (const std::string& word : words) EXPECT_THAT(message, HasSubstr(word));
  EXPECT_THAT(message, HasSubstr("bad.gguf"));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(BadModel, TheFileItselfIsSound) {
  const auto loaded = load(sound());
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
}

TEST(BadModel, EveryRequiredKeyIsMissed) {
  for (const char* key :
       {"block_count", "context_length", "embedding_length", "attention.head_count",
        "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count",
        "rope.freq_base", "attention.layer_norm_rms_epsilon", "expert_count", "expert_used_count",
        "expert_feed_forward_length", "expert_shared_feed_forward_length", "ssm.conv_kernel",
        "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size"}) {
    SCOPED_TRACE(key);
    EditedModel model = sound();
    model.remove_key(std::string("qwen3next.") + key);
    expect_error(model, {key});
    model.set(std::string("qwen3next.") + key, std::string("twelve"));
    expect_error(model, {key});
  }
}

TEST(BadModel, CountsOutOfRange) {
  for (const char* key :
       {"block_count", "context_length", "embedding_length", "attention.head_count",
        "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count",
        "expert_count", "expert_used_count", "expert_feed_forward_length",
        "expert_shared_feed_forward_length", "ssm.conv_kernel", "ssm.state_size", "ssm.group_count",
        "ssm.time_step_rank", "ssm.inner_size", "full_attention_interval"})
    for (const uint64_t value : {uint64_t{0}, uint64_t{1} << 33, UINT64_MAX}) {
      SCOPED_TRACE(fmt::format("{} = {}", key, value));
      EditedModel model = sound();
      model.set(std::string("qwen3next.") + key, value);
      expect_error(model, {key, "expected", "found"});
    }
  EditedModel negative = sound();
  negative.set("qwen3next.block_count", int32_t{-4});
  expect_error(negative, {"block_count"});
}

TEST(BadModel, NumbersThatCannotBe) {
  for (const char* key : {"rope.freq_base", "attention.layer_norm_rms_epsilon"})
    for (const float value : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(),
                              std::numeric_limits<float>::infinity(), 1e-40f}) {
      SCOPED_TRACE(fmt::format("{} = {}", key, value));
      EditedModel model = sound();
      model.set(std::string("qwen3next.") + key, value);
      expect_error(model, {key, "expected", "found"});
    }
}

TEST(BadModel, NumbersThatDoNotFitEachOther) {
  const auto golden = [] {
    const EditedModel model = sound();
    return Hparams::read(gguf::File::parse(model.bytes(), "sound").value()).value();
  }();
  const auto expect = [](const char* key, int64_t value, const std::vector<std::string>& words) {
    SCOPED_TRACE(fmt::format("{} = {}", key, value));
    EditedModel model = sound();
    model.set(std::string("qwen3next.") + key, static_cast<uint32_t>(value));
    expect_error(model, words);
  };
  expect("attention.head_count_kv", golden.n_heads + 1, {"attention.head_count", "multiple"});
  expect("attention.value_length", golden.head_dim * 2, {"attention.value_length", "attention.key_length"});
  expect("rope.dimension_count", golden.head_dim + 2, {"rope.dimension_count"});
  expect("rope.dimension_count", golden.rope_dims - 1, {"rope.dimension_count", "even"});
  expect("expert_used_count", golden.n_experts + 1, {"expert_used_count"});
  expect("ssm.time_step_rank", golden.n_k_heads * 2 + 1, {"ssm.time_step_rank", "ssm.group_count"});
  expect("ssm.inner_size", golden.n_v_heads * golden.dv + 1, {"ssm.inner_size", "multiple"});
  expect("nextn_predict_layers", golden.n_layers, {"nextn_predict_layers"});
  // Right by themselves, but not for the tensors of the file.
  expect("embedding_length", golden.hidden * 2, {"token_embd.weight", "shape"});
  expect("ssm.state_size", golden.dk / 2, {"attn_qkv.weight", "shape"});
  expect("expert_feed_forward_length", golden.expert_ff / 2, {"ffn_gate_exps.weight", "shape"});
  expect("block_count", golden.n_layers + 1, {fmt::format("blk.{}.", golden.n_layers), "found none"});

  EditedModel flags = sound();
  flags.set("qwen3next.attention.recurrent_layers",
            std::vector<bool>(static_cast<size_t>(golden.n_layers + 3)));
  expect_error(flags, {"attention.recurrent_layers", "entries"});
  flags.set("qwen3next.attention.recurrent_layers", std::string("all"));
  expect_error(flags, {"attention.recurrent_layers"});
}

TEST(BadModel, OtherModelsAndFeatures) {
  EditedModel other = sound();
  other.set("general.architecture", std::string("llama"));
  expect_error(other, {"qwen3next", "llama"});
  EditedModel stretched = sound();
  stretched.set("qwen3next.rope.scaling.type", std::string("yarn"));
  expect_error(stretched, {"rope.scaling.type", "yarn"});
  stretched.set("qwen3next.rope.scaling.type", std::string("none"));
  EXPECT_TRUE(load(stretched).has_value());
  EditedModel words = sound();
  words.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  expect_error(words, {"tokenizer.ggml.tokens", "token_embd.weight"});

  // A file made only for drafting: the key, the last block, and of the trunk no layer.
  EditedModel draft = sound();
  draft.set("qwen3next.nextn_predict_layers", uint32_t{1});
  for (const std::string& name : draft.names())
    if (name.starts_with("blk.") && !name.starts_with("blk.3.")) draft.remove(name);
  expect_error(draft, {"multi-token-prediction", "full model"});
}

TEST(BadModel, EveryTensorIsMissedAndMeasured) {
  for (const std::string& name : sound().names()) {
    SCOPED_TRACE(name);
    if (name != "output.weight") {  // may be absent
      EditedModel without = sound();
      without.remove(name);
      // A layout that has a fused alternative is described by what the plain one needs.
      expect_error(without, {name, "expected", "found none"});
    }
    EditedModel longer = sound();
    EditedModel::Tensor& tensor = longer.tensor(name);
    std::vector<std::byte> twice = tensor.bytes;
    twice.insert(twice.end(), tensor.bytes.begin(), tensor.bytes.end());
    tensor.bytes = twice;
    tensor.ne.back() *= 2;
    expect_error(longer, {name == "token_embd.weight" ? "tokenizer.ggml.tokens" : name, "expected", "found"});
  }
}

TEST(BadModel, SmallTensorsOfABlockFormat) {
  for (const std::string name :
       {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.post_attention_norm.weight"}) {
    SCOPED_TRACE(name);
    EditedModel model = sound();
    EditedModel::Tensor& tensor = model.tensor(name);
    tensor.type = quant::Type::kQ8_0;
    tensor.bytes.assign(static_cast<size_t>(tensor.row_bytes()), std::byte{0});
    expect_error(model, {name, "F32, F16 or BF16", "Q8_0"});
  }
}

TEST(BadModel, ScalesOfTheWrongLength) {
  EditedModel model = sound();
  EditedModel::Tensor scale;
  scale.ne = {3};
  scale.set_values({1, 2, 3});
  model.add("blk.0.ffn_down_shexp.scale", scale);
  expect_error(model, {"blk.0.ffn_down_shexp.scale", "expected 1 element", "found 3"});
  EditedModel infinite = sound();
  scale.ne = {1};
  scale.set_values({std::numeric_limits<float>::infinity()});
  infinite.add("output.scale", scale);
  expect_error(infinite, {"output.scale", "finite"});
}

TEST(BadModel, UnknownTensorsAndKeysAreIgnored) {
  EditedModel model = sound();
  EditedModel::Tensor extra;
  extra.ne = {5};
  extra.set_values({1, 2, 3, 4, 5});
  model.add("blk.0.something_new.weight", extra);
  model.set("qwen3next.something.new", uint32_t{7});
  EXPECT_TRUE(load(model).has_value());
}

// Weights that are not numbers give logits that are not numbers, and nothing worse.
TEST(BadModel, WeightsThatAreNoNumbers) {
  for (const std::string name :
       {"token_embd.weight", "blk.0.attn_norm.weight", "blk.1.ssm_a", "output_norm.weight"}) {
    SCOPED_TRACE(name);
    EditedModel model = sound();
    EditedModel::Tensor& tensor = model.tensor(name);
    std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{0xff});
    auto loaded = load(model);
    if (!loaded.has_value()) continue;
    auto sequence = loaded->sequence();
    const auto logits = loaded->run(*sequence, std::vector<int32_t>{1, 2, 3, 4, 5, 6}, 4);
    EXPECT_FALSE(logits.empty());
  }
}

}  // namespace
}  // namespace packmule::model
