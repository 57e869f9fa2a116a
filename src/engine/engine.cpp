#include "engine/engine.h"

#include <algorithm>
#include <filesystem>

#include "base/cpu.h"
#include "engine/impl.h"
#include "engine/model_hash.h"

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
  if (options.n_parallel < 1 || options.n_parallel > kMaxParallel)
    return fail(ErrorKind::kInvalidArgument, "--parallel is {}, expected 1 to {}", options.n_parallel,
                kMaxParallel);
  if (options.cache_ram_bytes.value_or(0) < 0)
    return fail(ErrorKind::kInvalidArgument, "--cache-ram is {} bytes, expected 0 or more",
                *options.cache_ram_bytes);
  if (!options.cache_disk_path.empty() && options.cache_ram_bytes == 0)
    return fail(ErrorKind::kInvalidArgument,
                "--cache-disk needs memory to read into: leave out --cache-ram 0, or --cache-disk");
  if (options.cache_disk_bytes < 0)
    return fail(ErrorKind::kInvalidArgument, "--cache-disk-size is {} bytes, expected 0 or more",
                options.cache_disk_bytes);
  if (options.prompt_chunk < 1)
    return fail(ErrorKind::kInvalidArgument, "tokens of prompts beside decoding: {}, expected 1 or more",
                options.prompt_chunk);
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
                                    .logit_rows = options.n_parallel,
                                    .placement = options.placement};
  PACKMULE_TRY(const int64_t fitting,
               ubatch_for(options, impl->file, model_options, impl->options.n_threads));
  impl->options.ubatch_size = std::min(fitting, impl->options.ctx_size);
  model_options.ubatch_size = batch_tokens(impl->options);
  finished(1);

  PACKMULE_TRY(impl->tokenizer, text::Tokenizer::load(impl->file));
  impl->vocabulary = {.tokenizer = impl->tokenizer.get(), .n_vocab = hparams.n_vocab};
  if (impl->tokenizer->n_tokens() > hparams.n_vocab)
    return fail(ErrorKind::kInvalidFile,
                "{}: tokenizer.ggml.tokens has {} entries, the embedding only {} rows", impl->file.path(),
                impl->tokenizer->n_tokens(), hparams.n_vocab);
  for (int64_t i = 0; i < hparams.n_vocab; ++i) {
    const auto id = static_cast<text::TokenId>(i);
    if (impl->tokenizer->is_padding(id)) impl->vocabulary.padding.push_back(id);
    if (impl->tokenizer->is_end_of_generation(id)) impl->vocabulary.ends.push_back(id);
  }
  if (static_cast<int64_t>(impl->vocabulary.padding.size()) == hparams.n_vocab)
    return fail(ErrorKind::kInvalidFile, "{}: all {} tokens are padding, expected some that can be generated",
                impl->file.path(), hparams.n_vocab);
  finished(2);

  impl->threads = std::make_unique<ThreadPool>(impl->options.n_threads);
  PACKMULE_TRY(impl->model, model::Model::load(impl->file, model_options, *impl->threads));
  finished(3);

  const bool mapped = impl->model->load_mode() == model::LoadMode::kMmap;
  const int64_t host_bytes = impl->model->weight_bytes() - impl->model->device_weight_bytes();
  impl->options.cache_ram_bytes = cache_ram_for(impl->options, mapped ? host_bytes : 0);
  PACKMULE_TRY(impl->scheduler, Scheduler::start(*impl->model, *impl->threads, impl->options,
                                                 *impl->options.cache_ram_bytes, model_hash(impl->file)));
  auto engine = std::unique_ptr<Engine>(new Engine(std::move(impl)));
  engine->impl_->default_sampling = sampling::defaults_for_model(engine->model_name());
  finished(4);
  return engine;
}

State Engine::state() const {
  return impl_->scheduler->state();
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
