#include "model/hparams.h"

#include <fmt/format.h>

#include <variant>

namespace packmule::model {
namespace {

constexpr std::string_view kPrefix = "qwen3next.";

// No model of this family comes near these; a file that exceeds them is damaged, and products of a few of
// them stay far from the range of int64_t.
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 8192;
constexpr int64_t kMaxExperts = int64_t{1} << 16;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxContext = int64_t{1} << 31;
constexpr int64_t kMaxConvTaps = 16;

class Reader {
 public:
  explicit Reader(const gguf::File& file) : file_(file) {}

  [[nodiscard]] static std::string full(std::string_view key) { return fmt::format("{}{}", kPrefix, key); }
  [[nodiscard]] bool has(std::string_view key) const { return file_.has(full(key)); }

  Result<int64_t> count(std::string_view key, int64_t lowest, int64_t highest) const {
    PACKMULE_TRY(const uint64_t value, file_.get_u64(full(key)));
    if (value < static_cast<uint64_t>(lowest) || value > static_cast<uint64_t>(highest))
      return wrong(key, fmt::format("a whole number from {} to {}", lowest, highest), value);
    return static_cast<int64_t>(value);
  }

  Result<float> number(std::string_view key, double lowest, double highest) const {
    PACKMULE_TRY(const double value, file_.get_f64(full(key)));
    if (!(value >= lowest && value <= highest))  // NaN is refused too
      return wrong(key, fmt::format("a number from {} to {}", lowest, highest), value);
    return static_cast<float>(value);
  }

  template <class T>
  [[nodiscard]] tl::unexpected<Error> wrong(std::string_view key, std::string_view expected,
                                            const T& found) const {
    return fail(ErrorKind::kInvalidFile, "{}: {}: expected {}, found {}", file_.path(), full(key), expected,
                found);
  }

 private:
  const gguf::File& file_;
};

Status check_architecture(const gguf::File& file) {
  PACKMULE_TRY(const std::string_view architecture, file.get_string("general.architecture"));
  if (architecture != "qwen3next")
    return fail(ErrorKind::kUnsupported,
                "{}: general.architecture: packmule runs qwen3next models, this file holds '{}'", file.path(),
                architecture);
  return {};
}

/// Context extension changes the rotation angles; running such a file without it would be silently wrong.
Status check_rope_scaling(const gguf::File& file, const Reader& reader) {
  if (!reader.has("rope.scaling.type")) return {};
  PACKMULE_TRY(const std::string_view type, file.get_string(Reader::full("rope.scaling.type")));
  if (type != "none" && !type.empty())
    return fail(ErrorKind::kUnsupported, "{}: {}: packmule has no RoPE scaling yet, this file asks for '{}'",
                file.path(), Reader::full("rope.scaling.type"), type);
  return {};
}

Status read_layers(const gguf::File& file, const Reader& reader, Hparams& h) {
  PACKMULE_TRY(const int64_t n_blocks, reader.count("block_count", 1, kMaxLayers));
  if (reader.has("nextn_predict_layers")) {
    PACKMULE_TRY(h.n_mtp_layers, reader.count("nextn_predict_layers", 0, n_blocks - 1));
  }
  h.n_layers = n_blocks - h.n_mtp_layers;
  if (h.n_mtp_layers > 0 && file.find_tensor("blk.0.attn_norm.weight") == nullptr)
    return fail(
        ErrorKind::kUnsupported,
        "{}: this file holds only the multi-token-prediction block, made to draft for a full model (it "
        "has no blk.0.attn_norm.weight); open the full model's file",
        file.path());

  if (reader.has("attention.recurrent_layers")) {
    PACKMULE_TRY(const std::vector<int64_t> flags,
                 file.get_integers(Reader::full("attention.recurrent_layers")));
    if (static_cast<int64_t>(flags.size()) != n_blocks)
      return reader.wrong("attention.recurrent_layers", fmt::format("{} entries, one a block", n_blocks),
                          flags.size());
    for (int64_t layer = 0; layer < h.n_layers; ++layer)
      h.recurrent.push_back(flags[static_cast<size_t>(layer)] != 0);
    return {};
  }
  int64_t interval = 4;
  if (reader.has("full_attention_interval")) {
    PACKMULE_TRY(interval, reader.count("full_attention_interval", 1, kMaxLayers));
  }
  for (int64_t layer = 0; layer < h.n_layers; ++layer) h.recurrent.push_back((layer + 1) % interval != 0);
  return {};
}

Status read_attention(const Reader& reader, Hparams& h) {
  PACKMULE_TRY(h.n_heads, reader.count("attention.head_count", 1, kMaxHeads));
  PACKMULE_TRY(h.n_kv_heads, reader.count("attention.head_count_kv", 1, kMaxHeads));
  if (h.n_heads % h.n_kv_heads != 0)
    return reader.wrong("attention.head_count", fmt::format("a multiple of the {} KV heads", h.n_kv_heads),
                        h.n_heads);
  PACKMULE_TRY(h.head_dim, reader.count("attention.key_length", 1, kMaxHeadDim));
  PACKMULE_TRY(const int64_t v_dim, reader.count("attention.value_length", 1, kMaxHeadDim));
  if (v_dim != h.head_dim)
    return reader.wrong("attention.value_length",
                        fmt::format("the same as attention.key_length, {}", h.head_dim), v_dim);
  PACKMULE_TRY(h.rope_dims, reader.count("rope.dimension_count", 2, h.head_dim));
  if (h.rope_dims % 2 != 0) return reader.wrong("rope.dimension_count", "an even number", h.rope_dims);
  PACKMULE_TRY(h.rope_theta, reader.number("rope.freq_base", 1, 1e30));
  return {};
}

Status read_delta_net(const Reader& reader, Hparams& h) {
  PACKMULE_TRY(h.n_k_heads, reader.count("ssm.group_count", 1, kMaxHeads));
  PACKMULE_TRY(h.n_v_heads, reader.count("ssm.time_step_rank", 1, kMaxHeads));
  if (h.n_v_heads % h.n_k_heads != 0)
    return reader.wrong("ssm.time_step_rank", fmt::format("a multiple of ssm.group_count, {}", h.n_k_heads),
                        h.n_v_heads);
  PACKMULE_TRY(h.dk, reader.count("ssm.state_size", 1, kMaxHeadDim));
  PACKMULE_TRY(const int64_t inner, reader.count("ssm.inner_size", 1, kMaxHeads * kMaxHeadDim));
  if (inner % h.n_v_heads != 0 || inner / h.n_v_heads > kMaxHeadDim)
    return reader.wrong(
        "ssm.inner_size",
        fmt::format("a multiple of ssm.time_step_rank, {}, at most {} times it", h.n_v_heads, kMaxHeadDim),
        inner);
  h.dv = inner / h.n_v_heads;
  PACKMULE_TRY(h.conv_taps, reader.count("ssm.conv_kernel", 2, kMaxConvTaps));
  return {};
}

Status read_experts(const Reader& reader, Hparams& h) {
  PACKMULE_TRY(h.n_experts, reader.count("expert_count", 1, kMaxExperts));
  PACKMULE_TRY(h.n_experts_used, reader.count("expert_used_count", 1, h.n_experts));
  PACKMULE_TRY(h.expert_ff, reader.count("expert_feed_forward_length", 1, kMaxWidth));
  PACKMULE_TRY(h.shared_ff, reader.count("expert_shared_feed_forward_length", 1, kMaxWidth));
  return {};
}

/// The vocabulary has as many tokens as token_embd has rows; the tokenizer's list must agree.
Status read_vocabulary(const gguf::File& file, Hparams& h) {
  const gguf::TensorInfo* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr)
    return fail(ErrorKind::kInvalidFile, "{}: token_embd.weight: expected this tensor, found none",
                file.path());
  h.n_vocab = embedding->ne[1];
  if (embedding->ne[0] != h.hidden || h.n_vocab < 1 || h.n_vocab > kMaxVocab ||
      embedding->n_elems() != h.hidden * h.n_vocab)
    return fail(ErrorKind::kInvalidFile,
                "{}: token_embd.weight: expected shape {{{}, 1 to {}}}, found {{{}, {}, {}, {}}}",
                file.path(), h.hidden, kMaxVocab, embedding->ne[0], embedding->ne[1], embedding->ne[2],
                embedding->ne[3]);
  const gguf::Value* tokens = file.find("tokenizer.ggml.tokens");
  if (tokens == nullptr) return {};
  const auto* list = std::get_if<gguf::Array>(&tokens->value);
  if (list == nullptr || static_cast<int64_t>(list->size()) != h.n_vocab)
    return fail(
        ErrorKind::kInvalidFile,
        "{}: tokenizer.ggml.tokens: expected {} entries, one for each row of token_embd.weight, found {}",
        file.path(), h.n_vocab,
        list == nullptr ? std::string("a single value") : std::to_string(list->size()));
  return {};
}

}  // namespace

Result<Hparams> Hparams::read(const gguf::File& file) {
  const Reader reader(file);
  Hparams h;
  PACKMULE_TRY_STATUS(check_architecture(file));
  PACKMULE_TRY_STATUS(check_rope_scaling(file, reader));
  if (file.has("general.name")) {
    PACKMULE_TRY(const std::string_view name, file.get_string("general.name"));
    h.name = name;
  }
  PACKMULE_TRY_STATUS(read_layers(file, reader, h));
  PACKMULE_TRY(h.hidden, reader.count("embedding_length", 1, kMaxWidth));
  PACKMULE_TRY(h.context_length, reader.count("context_length", 1, kMaxContext));
  PACKMULE_TRY(h.rms_eps, reader.number("attention.layer_norm_rms_epsilon", 1e-30, 1));
  PACKMULE_TRY_STATUS(read_attention(reader, h));
  PACKMULE_TRY_STATUS(read_delta_net(reader, h));
  PACKMULE_TRY_STATUS(read_experts(reader, h));
  PACKMULE_TRY_STATUS(read_vocabulary(file, h));
  return h;
}

}  // namespace packmule::model
