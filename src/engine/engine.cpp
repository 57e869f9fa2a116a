#include "engine/engine.h"

#include <algorithm>
#include <filesystem>

#include "base/cpu.h"
#include "engine/impl.h"

namespace packmule::engine {
namespace {

Status check_options(const EngineOptions& options) {
  if (options.n_threads < 0)
    return fail(ErrorKind::kInvalidArgument, "--threads is {}, expected 1 or more, or 0 for all cores",
                options.n_threads);
  if (options.ctx_size < 0)
    return fail(ErrorKind::kInvalidArgument, "--ctx-size is {}, expected tokens, or 0 for the model's own",
                options.ctx_size);
  if (options.ubatch_size < 0)
    return fail(ErrorKind::kInvalidArgument, "--ubatch-size is {}, expected 1 or more, or 0 for what fits",
                options.ubatch_size);
  return {};
}

}  // namespace

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options,
                                             const std::function<void(double fraction)>& on_load) {
  constexpr double kSteps = 4;
  const auto finished = [&](int step) {
    if (on_load) on_load(step / kSteps);
  };
  PACKMULE_TRY_STATUS(check_options(options));
  PACKMULE_TRY_STATUS(apply_numa(options.numa));
  PACKMULE_TRY(const Isa isa, choose_isa());
  PACKMULE_TRY(gguf::File file, gguf::File::open(options.model_path));
  auto impl = std::make_unique<Impl>(std::move(file));
  PACKMULE_TRY(const model::Hparams hparams, model::Hparams::read(impl->file));
  impl->options = filled_in(options, hparams.context_length);
  model::ModelOptions model_options{.isa = isa,
                                    .k_type = options.k_type,
                                    .v_type = options.v_type,
                                    .load_mode = options.load_mode,
                                    .logit_rows = 1};
  PACKMULE_TRY(const int64_t fitting,
               ubatch_for(options, impl->file, model_options, impl->options.n_threads));
  model_options.ubatch_size = impl->options.ubatch_size = std::min(fitting, impl->options.ctx_size);
  finished(1);

  PACKMULE_TRY(impl->tokenizer, text::Tokenizer::load(impl->file));
  if (impl->tokenizer->n_tokens() > hparams.n_vocab)
    return fail(ErrorKind::kInvalidFile,
                "{}: tokenizer.ggml.tokens has {} entries, the embedding only {} rows", impl->file.path(),
                impl->tokenizer->n_tokens(), hparams.n_vocab);
  for (int64_t i = 0; i < hparams.n_vocab; ++i) {
    const auto id = static_cast<text::TokenId>(i);
    if (impl->tokenizer->is_padding(id)) impl->padding.push_back(id);
    if (impl->tokenizer->is_end_of_generation(id)) impl->ends.push_back(id);
  }
  if (static_cast<int64_t>(impl->padding.size()) == hparams.n_vocab)
    return fail(ErrorKind::kInvalidFile, "{}: all {} tokens are padding, expected some that can be generated",
                impl->file.path(), hparams.n_vocab);
  finished(2);

  impl->threads = std::make_unique<ThreadPool>(impl->options.n_threads);
  PACKMULE_TRY(impl->model, model::Model::load(impl->file, model_options, *impl->threads));
  finished(3);

  PACKMULE_TRY(impl->pages, cache::PagePool::create(impl->model->cache_layout(), impl->options.ctx_size));
  PACKMULE_TRY(impl->sequence, impl->pages->new_sequence());
  impl->held.reserve(static_cast<size_t>(impl->options.ctx_size));
  impl->state = {.slots = std::vector<SlotState>(1),
                 .context_tokens = impl->options.ctx_size,
                 .kv_page_tokens = cache::kPageTokens,
                 .kv_pages = impl->pages->capacity_tokens() / cache::kPageTokens,
                 .kv_bytes = impl->pages->capacity_bytes(),
                 .recurrent_bytes = impl->model->cache_layout().recurrent_bytes()};
  auto engine = std::unique_ptr<Engine>(new Engine(std::move(impl)));
  engine->impl_->default_sampling = sampling::defaults_for_model(engine->model_name());
  finished(4);
  return engine;
}

State Engine::state() const {
  const std::lock_guard lock(impl_->state_mutex);
  return impl_->state;
}
const EngineOptions& Engine::options() const {
  return impl_->options;
}
const text::Tokenizer& Engine::tokenizer() const {
  return *impl_->tokenizer;
}
const model::Model& Engine::model() const {
  return *impl_->model;
}
model::Model& Engine::model() {
  return *impl_->model;
}
const gguf::File& Engine::file() const {
  return impl_->file;
}

std::string Engine::model_name() const {
  if (const auto name = impl_->file.get_string("general.name"); name && !name->empty())
    return std::string(*name);
  return std::filesystem::path(impl_->file.path()).stem().string();
}

std::string_view Engine::chat_template() const {
  return impl_->file.get_string("tokenizer.chat_template").value_or(std::string_view());
}

const sampling::Params& Engine::default_sampling() const {
  return impl_->default_sampling;
}

}  // namespace packmule::engine
