// Loading a model: hyper-parameters, weights, the schedule; and running it.
#include <algorithm>
#include <cmath>
#include <utility>

#include "model/attention.h"
#include "model/delta_net.h"
#include "model/model.h"
#include "model/moe.h"
#include "model/placed_schedule.h"
#include "model/projection.h"
#include "model/schedule.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace packmule::model {
namespace {

constexpr int64_t kMaxUbatch = 1 << 16;

Status check_options(const ModelOptions& options) {
  if (!isa_usable(options.isa))
    return fail(ErrorKind::kUnsupported, "this processor has no {}; take ref", isa_name(options.isa));
  if (options.ubatch_size < 1 || options.ubatch_size > kMaxUbatch)
    return fail(ErrorKind::kInvalidArgument, "--ubatch-size: expected 1 to {}, found {}", kMaxUbatch,
                options.ubatch_size);
  if (options.attention_span < cache::kPageTokens || options.attention_span % cache::kPageTokens != 0)
    return fail(ErrorKind::kInvalidArgument, "spans of attention: expected a multiple of {} tokens, found {}",
                cache::kPageTokens, options.attention_span);
  return {};
}

/// How many rows of logits there is room for.
int64_t logit_rows_of(const ModelOptions& options) {
  return options.logit_rows > 0 ? std::min(options.logit_rows, options.ubatch_size) : options.ubatch_size;
}

WorkspaceShape shape_of(const ModelOptions& options, int n_threads, bool quantized) {
  return {.ubatch_size = options.ubatch_size,
          .n_logit_rows = logit_rows_of(options),
          .attention_span = options.attention_span,
          .n_threads = n_threads,
          .quantized = quantized,
          .placed = options.placement != nullptr};
}

cache::Layout layout_of(const Hparams& h, const ModelOptions& options) {
  cache::Layout layout;
  layout.recurrent = h.recurrent;
  layout.n_kv_heads = h.n_kv_heads;
  layout.head_dim = h.head_dim;
  layout.k_type = options.k_type;
  layout.v_type = options.v_type;
  layout.conv_channels = h.conv_channels();
  layout.conv_taps = h.conv_taps;
  layout.n_v_heads = h.n_v_heads;
  layout.dk = h.dk;
  layout.dv = h.dv;
  if (options.placement != nullptr && std::ranges::count(options.placement->caches, true) > 0)
    layout.on_device = options.placement->caches;
  return layout;
}

Schedule compile(const Hparams& h, const Weights& weights, const cache::Layout& layout, int64_t span_tokens,
                 int n_threads) {
  Schedule schedule;
  schedule.push_back(make_embedding(weights.embedding));
  for (int layer = 0; layer < h.n_layers; ++layer) {
    const LayerWeights& w = weights.layers[static_cast<size_t>(layer)];
    std::vector<const Projection*> in;
    for (const Projection& projection : w.recurrent ? w.delta_net.in : w.attention.in)
      in.push_back(&projection);
    schedule.push_back(make_input_projections(&w.mixer_norm, h.rms_eps, in, n_threads));
    schedule.push_back(w.recurrent ? make_delta_rule(layer, h, w.delta_net)
                                   : make_attention(layer, h, layout, w.attention, span_tokens));
    schedule.push_back(make_output_projection(w.recurrent ? w.delta_net.out : w.attention.out, n_threads));
    schedule.push_back(make_router(layer, h, w.moe_norm, w.moe, n_threads));
    schedule.push_back(make_gate_up(h, w.moe, n_threads));
    schedule.push_back(make_down(layer, h, w.moe, n_threads));
  }
  schedule.push_back(make_head(weights.output_norm, h.rms_eps, weights.output, n_threads));
  return schedule;
}

}  // namespace

struct Model::Impl {
  Impl(Hparams&& h, const ModelOptions& o, ThreadPool& p)
      : hparams(std::move(h)),
        options(o),
        pool(p),
        kernels(kernels::kernels_for(o.isa)),
        layout(layout_of(hparams, o)) {
    const auto n = static_cast<size_t>(o.ubatch_size);
    tokens.resize(n);
    slice_of.resize(n);
    logit_rows.resize(static_cast<size_t>(logit_rows_of(o)));
    slices.resize(n);
    attention_blocks.resize(n);
    // theta^(-2i/n): angles of far positions lose their fraction in float32.
    for (int64_t i = 0; i < hparams.rope_dims / 2; ++i)
      inverse_frequency.push_back(
          std::pow(static_cast<double>(hparams.rope_theta),
                   -2.0 * static_cast<double>(i) / static_cast<double>(hparams.rope_dims)));
  }

  /// Everything that a placement decides: weights, work space, steps.
  Status place(const gguf::File& file, const std::shared_ptr<const Placement>& placement);
  Status check(std::span<const Slice> batch) const;
  void lay_out(std::span<const Slice> batch);
  void rotate(Pass& pass) const;

  Hparams hparams;
  ModelOptions options;
  ThreadPool& pool;
  const kernels::Kernels& kernels;
  cache::Layout layout;
  Weights weights;
  Workspace ws;
  std::unique_ptr<PlacedModel> placed;  // null: nothing is on a device
  Schedule schedule;
  std::vector<double> inverse_frequency;

  // The batch at hand; sized for the largest.
  std::vector<int32_t> tokens;
  std::vector<int32_t> slice_of;
  std::vector<int32_t> logit_rows;
  std::vector<SliceRows> slices;
  std::vector<AttentionBlock> attention_blocks;
  size_t n_rows = 0, n_logit_rows = 0, n_slices = 0, n_attention_blocks = 0;
};

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

Result<ModelSizes> Model::sizes(const gguf::File& file, const ModelOptions& options, int n_threads) {
  PACKMULE_TRY_STATUS(check_options(options));
  PACKMULE_TRY(const Hparams h, Hparams::read(file));
  ModelSizes sizes;
  sizes.cache_layout = layout_of(h, options);
  PACKMULE_TRY_STATUS(sizes.cache_layout.validate());
  PACKMULE_TRY(const Weights weights,
               Weights::bind(file, h, kernels::kernels_for(options.isa), LoadMode::kMmap));
  sizes.weight_bytes = weights.total_bytes;
  sizes.weight_bytes_per_token = weights.bytes_per_token;
  PACKMULE_TRY(sizes.activation_bytes,
               Workspace::size_bytes(h, shape_of(options, n_threads, weights.take_quantized)));
  return sizes;
}

Result<std::unique_ptr<Model>> Model::load(const gguf::File& file, const ModelOptions& options,
                                           ThreadPool& pool) {
  PACKMULE_TRY_STATUS(check_options(options));
  PACKMULE_TRY(Hparams hparams, Hparams::read(file));
  auto impl = std::make_unique<Impl>(std::move(hparams), options, pool);
  PACKMULE_TRY_STATUS(impl->layout.validate());
  Status placed = impl->place(file, options.placement);
  if (!placed && placed.error().kind == ErrorKind::kOutOfMemory && impl->placed != nullptr &&
      impl->placed->streams_from() > 0) {
    // Nothing has been taken yet. What streaming needs may be what there is no room for.
    auto without = std::make_shared<Placement>(*options.placement);
    without->streaming = {};
    const std::string reason = placed.error().message;
    placed = impl->place(file, without);
    if (placed && without->warn)
      without->warn("experts are not streamed for prompts, which the device's memory has no room for: " +
                    reason);
  }
  PACKMULE_TRY_STATUS(placed);
  impl->weights.residency.load(file, pool);
  return std::unique_ptr<Model>(new Model(std::move(impl)));
}

const Hparams& Model::hparams() const {
  return impl_->hparams;
}
cache::Layout Model::cache_layout() const {
  return impl_->layout;
}
int64_t Model::weight_bytes() const {
  return impl_->weights.total_bytes;
}
int64_t Model::weight_bytes_per_token() const {
  return impl_->weights.bytes_per_token;
}
int64_t Model::activation_bytes() const {
  return static_cast<int64_t>(impl_->ws.memory.size_bytes());
}

int64_t Model::device_weight_bytes() const {
  return impl_->placed == nullptr ? 0 : impl_->placed->device_weight_bytes();
}
int64_t Model::device_bytes() const {
  return impl_->placed == nullptr ? 0 : impl_->placed->device_bytes();
}
Result<std::shared_ptr<cache::PagePool>> Model::new_pool(int64_t capacity_tokens) const {
  return cache::PagePool::create(impl_->layout, capacity_tokens,
                                 impl_->placed == nullptr ? nullptr : impl_->placed->new_caches());
}

LoadMode Model::load_mode() const {
  return impl_->weights.residency.mode();
}

Status Model::Impl::place(const gguf::File& file, const std::shared_ptr<const Placement>& placement) {
  schedule.clear();
  placed = nullptr;
  if (placement != nullptr) {
    PACKMULE_TRY(
        placed, PlacedModel::create(hparams, layout, placement, options.ubatch_size, logit_rows_of(options)));
  }
  PACKMULE_TRY(weights, Weights::bind(file, hparams, kernels, options.load_mode, placement.get(),
                                      placed == nullptr ? nullptr : &placed->weights()));
  PACKMULE_TRY(ws, Workspace::allocate(hparams, shape_of(options, pool.n_threads(), weights.take_quantized)));
  if (placed == nullptr) {
    schedule = compile(hparams, weights, layout, options.attention_span, pool.n_threads());
    return {};
  }
  placed->compile(weights, ws, kernels, options.attention_span, pool.n_threads());
  return placed->load(file);
}

Status Model::Impl::check(std::span<const Slice> batch) const {
  int64_t total = 0, n_wanted = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const Slice& slice = batch[i];
    if (slice.sequence == nullptr || slice.tokens.empty())
      return fail(ErrorKind::kInvalidArgument, "batch: slice {} has {}", i,
                  slice.sequence == nullptr ? "no sequence" : "no tokens");
    if (slice.sequence->layout() != layout)
      return fail(ErrorKind::kInvalidArgument, "batch: slice {}: its cache was made for another model", i);
    for (size_t j = 0; j < i; ++j)
      if (batch[j].sequence == slice.sequence)
        return fail(ErrorKind::kInvalidArgument, "batch: slices {} and {} are of the same sequence", j, i);
    const auto n_tokens = static_cast<int64_t>(slice.tokens.size());
    for (int64_t before = 0; const Mark& mark : slice.marks) {
      if (mark.n_tokens <= before || mark.n_tokens > n_tokens ||
          (mark.n_tokens < hparams.conv_taps - 1 && mark.n_tokens < n_tokens))
        return fail(ErrorKind::kInvalidArgument,
                    "batch: slice {} of {} tokens has a mark behind {}, expected them ascending, from {} on",
                    i, n_tokens, mark.n_tokens, hparams.conv_taps - 1);
      before = mark.n_tokens;
    }
    total += n_tokens;
    if (total > options.ubatch_size)
      return fail(ErrorKind::kInvalidArgument, "batch: expected at most {} tokens, found {} or more",
                  options.ubatch_size, total);
    if (slice.want_logits != WantLogits::kNone)
      n_wanted += slice.want_logits == WantLogits::kLast ? 1 : static_cast<int64_t>(slice.tokens.size());
    if (n_wanted > logit_rows_of(options))
      return fail(ErrorKind::kInvalidArgument,
                  "batch: expected at most {} positions with logits, found {} or more",
                  logit_rows_of(options), n_wanted);
    for (const int32_t token : slice.tokens)
      if (token < 0 || token >= hparams.n_vocab)
        return fail(ErrorKind::kInvalidArgument, "batch: token id {} is outside the vocabulary, 0 to {}",
                    token, hparams.n_vocab - 1);
  }
  return {};
}

void Model::Impl::lay_out(std::span<const Slice> batch) {
  n_rows = n_logit_rows = n_slices = n_attention_blocks = 0;
  for (const Slice& slice : batch) {
    const auto first = static_cast<int64_t>(n_rows);
    const auto n = static_cast<int64_t>(slice.tokens.size());
    for (int64_t begin = 0; begin < n; begin += kAttentionTokens)
      attention_blocks[n_attention_blocks++] = {static_cast<int32_t>(n_slices), first + begin,
                                                std::min(kAttentionTokens, n - begin)};
    for (int64_t i = 0; i < n; ++i) {
      if (slice.want_logits == WantLogits::kAll || (slice.want_logits == WantLogits::kLast && i == n - 1))
        logit_rows[n_logit_rows++] = static_cast<int32_t>(n_rows);
      slice_of[n_rows] = static_cast<int32_t>(n_slices);
      tokens[n_rows++] = slice.tokens[static_cast<size_t>(i)];
    }
    slices[n_slices++] = {slice.sequence, first, n, slice.sequence->n_tokens(), slice.marks};
  }
}

void Model::Impl::rotate(Pass& pass) const {
  const int64_t half = hparams.rope_dims / 2;
  pass.for_each_row(pass.n_rows, [&](int64_t row) {
    const SliceRows& slice = pass.slices[static_cast<size_t>(pass.slice_of[static_cast<size_t>(row)])];
    const auto position = static_cast<double>(slice.position + row - slice.row);
    for (int64_t i = 0; i < half; ++i) {
      const double angle = position * inverse_frequency[static_cast<size_t>(i)];
      pass.ws.cos[row * half + i] = static_cast<float>(std::cos(angle));
      pass.ws.sin[row * half + i] = static_cast<float>(std::sin(angle));
    }
  });
}

Result<std::span<const float>> Model::forward(std::span<const Slice> batch, Probe* probe,
                                              const std::stop_token& stop) {
  Impl& impl = *impl_;
  PACKMULE_TRY_STATUS(impl.check(batch));
  for (const Slice& slice : batch)
    PACKMULE_TRY_STATUS(slice.sequence->reserve(static_cast<int64_t>(slice.tokens.size())));
  impl.lay_out(batch);
  Pass pass{impl.kernels,
            impl.pool,
            impl.ws,
            static_cast<int64_t>(impl.n_rows),
            {impl.slices.data(), impl.n_slices},
            {impl.tokens.data(), impl.n_rows},
            {impl.slice_of.data(), impl.n_rows},
            {impl.attention_blocks.data(), impl.n_attention_blocks},
            {impl.logit_rows.data(), impl.n_logit_rows},
            probe};
  impl.rotate(pass);
  if (impl.placed != nullptr) PACKMULE_TRY_STATUS(impl.placed->begin(pass));
  const Schedule& schedule = impl.placed == nullptr ? impl.schedule : impl.placed->schedule(pass.n_rows);
  for (const std::unique_ptr<Step>& step : schedule) {
    if (stop.stop_requested()) {
      if (impl.placed != nullptr) (void)impl.placed->finish();
      for (const SliceRows& slice : pass.slices) slice.sequence->reset();
      return fail(ErrorKind::kCancelled, "stopped while {} tokens were computed", pass.n_rows);
    }
    step->run(pass);
    if (!pass.failure) break;
  }
  if (impl.placed != nullptr && pass.failure) pass.failure = impl.placed->finish();
  if (!pass.failure) {
    for (const SliceRows& slice : pass.slices) slice.sequence->reset();
    return tl::unexpected(pass.failure.error());
  }
  for (const SliceRows& slice : pass.slices) slice.sequence->advance(slice.n_rows);
  return std::span<const float>(impl.ws.logits,
                                impl.n_logit_rows * static_cast<size_t>(impl.hparams.n_vocab));
}

}  // namespace packmule::model
