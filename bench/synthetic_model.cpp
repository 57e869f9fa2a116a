#include "bench/synthetic_model.h"

#include <regex.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <memory>

#include "base/thread_pool.h"
#include "bench/random_blocks.h"
#include "bench/synthetic_vocab.h"
#include "gguf/writer.h"

namespace packmule::bench {
namespace {

using quant::Type;

// The 80B model.
constexpr int64_t kHidden = 2048;
constexpr int64_t kExpertFf = 512;
constexpr int64_t kHeads = 16;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kHeadDim = 256;
constexpr int64_t kKeyHeads = 16;    // of a DeltaNet layer
constexpr int64_t kValueHeads = 32;  // of a DeltaNet layer
constexpr int64_t kStateDim = 128;
constexpr int64_t kConvTaps = 4;
constexpr int64_t kConvChannels = (2 * kKeyHeads + kValueHeads) * kStateDim;
constexpr int64_t kInner = kValueHeads * kStateDim;
constexpr int64_t kInterval = 4;
constexpr int64_t kUsedExperts = 10;

struct Mix {
  std::string_view name;
  Type experts, down_experts, embeddings, output, others, ssm_ba;
};
constexpr auto kMixes = std::to_array<Mix>({
    {"q4_k_xl", Type::kQ4_K, Type::kQ5_K, Type::kQ5_K, Type::kQ6_K, Type::kQ8_0, Type::kF32},
    {"q4_k", Type::kQ4_K, Type::kQ4_K, Type::kQ4_K, Type::kQ6_K, Type::kQ4_K, Type::kQ4_K},
    {"q8_0", Type::kQ8_0, Type::kQ8_0, Type::kQ8_0, Type::kQ8_0, Type::kQ8_0, Type::kQ8_0},
    {"q2_k", Type::kQ2_K, Type::kQ2_K, Type::kQ2_K, Type::kQ6_K, Type::kQ4_K, Type::kQ4_K},
});

/// What stands in a tensor.
enum class Content { kMatrix, kNoise, kOnes, kDecay, kRouter };

struct Tensor {
  std::string name;
  std::vector<int64_t> ne;
  Type type = Type::kF32;
  Content content = Content::kOnes;
  float sigma = 0;
};

class Layout {
 public:
  Layout(const SyntheticOptions& options, const Mix& mix) : options_(options), mix_(mix) {}

  std::vector<Tensor> tensors() {
    matrix("token_embd.weight", {kHidden, options_.n_vocab}, mix_.embeddings, 1.0f);
    ones("output_norm.weight", kHidden);
    matrix("output.weight", {kHidden, options_.n_vocab}, mix_.output);
    for (int64_t i = 0; i < options_.n_layers; ++i) {
      prefix_ = fmt::format("blk.{}.", i);
      ones("attn_norm.weight", kHidden);
      ones("post_attention_norm.weight", kHidden);
      if ((i + 1) % kInterval == 0)
        attention();
      else
        delta_net();
      mixture_of_experts();
    }
    return std::move(tensors_);
  }

 private:
  void attention() {
    matrix("attn_q.weight", {kHidden, 2 * kHeads * kHeadDim}, mix_.others);
    matrix("attn_k.weight", {kHidden, kKvHeads * kHeadDim}, mix_.others);
    matrix("attn_v.weight", {kHidden, kKvHeads * kHeadDim}, mix_.others);
    matrix("attn_output.weight", {kHeads * kHeadDim, kHidden}, mix_.others);
    ones("attn_q_norm.weight", kHeadDim);
    ones("attn_k_norm.weight", kHeadDim);
  }

  void delta_net() {
    matrix("attn_qkv.weight", {kHidden, kConvChannels}, mix_.others);
    matrix("attn_gate.weight", {kHidden, kInner}, mix_.others);
    matrix("ssm_ba.weight", {kHidden, 2 * kValueHeads}, mix_.ssm_ba);
    add("ssm_conv1d.weight", {kConvTaps, kConvChannels}, Content::kNoise, 0.3f);
    add("ssm_dt.bias", {kValueHeads}, Content::kNoise, 0.5f);
    add("ssm_a", {kValueHeads}, Content::kDecay);
    ones("ssm_norm.weight", kStateDim);
    matrix("ssm_out.weight", {kInner, kHidden}, mix_.others);
  }

  void mixture_of_experts() {
    add("ffn_gate_inp.weight", {kHidden, options_.n_experts}, Content::kRouter, kSigma);
    matrix("ffn_gate_exps.weight", {kHidden, kExpertFf, options_.n_experts}, mix_.experts);
    matrix("ffn_up_exps.weight", {kHidden, kExpertFf, options_.n_experts}, mix_.experts);
    matrix("ffn_down_exps.weight", {kExpertFf, kHidden, options_.n_experts}, mix_.down_experts);
    add("ffn_gate_inp_shexp.weight", {kHidden}, Content::kNoise, kSigma);
    matrix("ffn_gate_shexp.weight", {kHidden, kExpertFf}, mix_.others);
    matrix("ffn_up_shexp.weight", {kHidden, kExpertFf}, mix_.others);
    matrix("ffn_down_shexp.weight", {kExpertFf, kHidden}, mix_.others);
  }

  void matrix(std::string_view name, std::vector<int64_t> ne, Type type, float sigma = kSigma) {
    tensors_.push_back({fmt::format("{}{}", prefix_, name), std::move(ne), type, Content::kMatrix, sigma});
  }
  void ones(std::string_view name, int64_t n) { add(name, {n}, Content::kOnes); }
  void add(std::string_view name, std::vector<int64_t> ne, Content content, float sigma = 0) {
    tensors_.push_back({fmt::format("{}{}", prefix_, name), std::move(ne), Type::kF32, content, sigma});
  }

  static constexpr float kSigma = 0.02f;
  const SyntheticOptions& options_;
  const Mix& mix_;
  std::string prefix_;
  std::vector<Tensor> tensors_;
};

/// An extended regular expression of POSIX. (std::regex of g++ 12 does not compile without warnings under
/// ASan.)
class Pattern {
 public:
  static Result<Pattern> create(const std::string& text) {
    auto regex = std::make_unique<regex_t>();
    const int code = regcomp(regex.get(), text.c_str(), REG_EXTENDED | REG_NOSUB);
    if (code == 0) return Pattern(regex.release());
    std::array<char, 200> words{};
    regerror(code, regex.get(), words.data(), words.size());
    return fail(ErrorKind::kInvalidArgument, "'{}' is no regular expression: {}", text, words.data());
  }
  [[nodiscard]] bool found_in(const std::string& name) const {
    return regexec(regex_.get(), name.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  struct Free {
    void operator()(regex_t* regex) const {
      regfree(regex);
      delete regex;
    }
  };
  explicit Pattern(regex_t* regex) : regex_(regex) {}
  std::unique_ptr<regex_t, Free> regex_;
};

Status override_types(std::vector<Tensor>& tensors, const SyntheticOptions& options) {
  for (const auto& [text, type] : options.types) {
    PACKMULE_TRY(const Pattern pattern, Pattern::create(text));
    size_t n_found = 0;
    for (Tensor& tensor : tensors) {
      if (tensor.content != Content::kMatrix || !pattern.found_in(tensor.name)) continue;
      tensor.type = type;
      ++n_found;
    }
    if (n_found == 0)
      return fail(ErrorKind::kInvalidArgument,
                  "'{}' finds no weight matrix; names are like blk.0.ffn_up_exps.weight", text);
  }
  return {};
}

void set_metadata(gguf::Writer& writer, const SyntheticOptions& options) {
  const auto number = [&](std::string_view key, int64_t value) {
    writer.set(fmt::format("qwen3next.{}", key), static_cast<uint32_t>(value));
  };
  writer.set("general.architecture", std::string("qwen3next"));
  writer.set("general.name", std::string("Qwen3 Next synthetic"));
  writer.set("general.file_type", uint32_t{15});
  writer.set("general.quantization_version", uint32_t{2});
  writer.set("general.alignment", uint32_t{32});
  number("block_count", options.n_layers);
  number("context_length", 262144);
  number("embedding_length", kHidden);
  number("feed_forward_length", 5120);
  number("attention.head_count", kHeads);
  number("attention.head_count_kv", kKvHeads);
  number("attention.key_length", kHeadDim);
  number("attention.value_length", kHeadDim);
  writer.set("qwen3next.attention.layer_norm_rms_epsilon", 1e-6f);
  writer.set("qwen3next.rope.freq_base", 1e7f);
  number("rope.dimension_count", 64);
  number("expert_count", options.n_experts);
  number("expert_used_count", std::min(kUsedExperts, options.n_experts));
  number("expert_feed_forward_length", kExpertFf);
  number("expert_shared_feed_forward_length", kExpertFf);
  number("full_attention_interval", kInterval);
  number("ssm.conv_kernel", kConvTaps);
  number("ssm.state_size", kStateDim);
  number("ssm.group_count", kKeyHeads);
  number("ssm.time_step_rank", kValueHeads);
  number("ssm.inner_size", kInner);
  set_synthetic_vocab(writer, options.n_vocab);
}

/// Fills float tensors that are not plain noise; `first` is the index of the first weight.
void fill_special(const Tensor& tensor, float skew, uint64_t seed, uint64_t first, std::span<std::byte> out) {
  std::vector<float> values(out.size() / sizeof(float));
  Rng rng(seed, first);
  const auto row_elems = static_cast<uint64_t>(tensor.ne[0]);
  float gain = 1;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t index = first + i;
    switch (tensor.content) {
      case Content::kDecay:
        values[i] = -std::exp(rng.uniform(-3, 1));
        break;
      case Content::kRouter:
        if (i == 0 || index % row_elems == 0) gain = std::exp(skew * Rng(~seed, index / row_elems).noise());
        values[i] = tensor.sigma * rng.noise() * gain;
        break;
      default:
        values[i] = 1;
        break;
    }
  }
  std::memcpy(out.data(), values.data(), out.size());
}

/// Every tensor has a seed of its own.
uint64_t seed_of(uint64_t seed, size_t tensor) {
  return Rng(Rng(seed).next() + tensor).next();
}

}  // namespace

std::vector<std::string_view> mix_names() {
  std::vector<std::string_view> names;
  for (const Mix& mix : kMixes) names.push_back(mix.name);
  return names;
}

Result<SyntheticSummary> write_synthetic_model(const SyntheticOptions& options, const std::string& path,
                                               const Progress& progress) {
  const auto* mix =
      std::find_if(kMixes.begin(), kMixes.end(), [&](const Mix& m) { return m.name == options.mix; });
  if (mix == kMixes.end())
    return fail(ErrorKind::kInvalidArgument, "unknown mix '{}'; expected one of {}", options.mix,
                fmt::join(mix_names(), ", "));
  if (options.n_layers < 1 || options.n_experts < 1 || options.n_vocab < kMinVocab)
    return fail(ErrorKind::kInvalidArgument, "expected at least 1 layer, 1 expert and {} vocabulary entries",
                kMinVocab);
  std::vector<Tensor> tensors = Layout(options, *mix).tensors();
  PACKMULE_TRY_STATUS(override_types(tensors, options));

  gguf::Writer writer;
  set_metadata(writer, options);
  ThreadPool pool(options.n_threads);
  SyntheticSummary summary{.n_tensors = tensors.size()};
  for (const Tensor& tensor : tensors) {
    uint64_t n_rows = 1;
    for (size_t d = 1; d < tensor.ne.size(); ++d) n_rows *= static_cast<uint64_t>(tensor.ne[d]);
    summary.size_bytes +=
        n_rows * static_cast<uint64_t>(quant::row_bytes(quant::format_of(tensor.type), tensor.ne[0]));
  }
  uint64_t made_bytes = 0;
  const auto count = [&](size_t n_bytes) {
    made_bytes += n_bytes;
    if (progress) progress(static_cast<double>(made_bytes) / static_cast<double>(summary.size_bytes));
  };
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& tensor = tensors[i];
    const uint64_t seed = seed_of(options.seed, i);
    if (tensor.content != Content::kMatrix && tensor.content != Content::kNoise) {
      writer.add_tensor(
          tensor.name, tensor.ne, tensor.type,
          [&tensor, &options, &count, seed](uint64_t offset, std::span<std::byte> out) -> Status {
            fill_special(tensor, options.skew, seed, offset / sizeof(float), out);
            count(out.size());
            return {};
          });
      continue;
    }
    const quant::Format& format = quant::format_of(tensor.type);
    PACKMULE_TRY(const BlockSource source, BlockSource::create(format, tensor.sigma, seed));
    writer.add_tensor(tensor.name, tensor.ne, tensor.type,
                      [source, &format, &pool, &count](uint64_t offset, std::span<std::byte> out) -> Status {
                        const auto block_bytes = static_cast<size_t>(format.block_bytes);
                        const size_t piece_bytes = size_t{2048} * block_bytes;
                        const auto n_pieces =
                            static_cast<int64_t>((out.size() + piece_bytes - 1) / piece_bytes);
                        pool.run(n_pieces, [&](int64_t piece, int) {
                          const size_t start = static_cast<size_t>(piece) * piece_bytes;
                          source.fill((offset + start) / block_bytes,
                                      out.subspan(start, std::min(piece_bytes, out.size() - start)));
                        });
                        count(out.size());
                        return {};
                      });
  }
  PACKMULE_TRY_STATUS(writer.write(path));
  return summary;
}

}  // namespace packmule::bench
