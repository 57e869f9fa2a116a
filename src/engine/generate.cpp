// From a request to its outcome.
#include "base/utf8.h"
#include "engine/boundaries.h"
#include "engine/engine.h"
#include "engine/impl.h"

namespace packmule::engine {

Status Engine::Impl::check(const Request& request) const {
  const int64_t n_vocab = model->hparams().n_vocab;
  PACKMULE_TRY_STATUS(sampling::validate(request.sampling, n_vocab));
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  if (n_prompt == 0)
    return fail(ErrorKind::kInvalidArgument, "the prompt is empty: expected at least one token");
  if (n_prompt >= options.ctx_size)
    return fail(
        ErrorKind::kInvalidArgument,
        "the prompt has {} tokens, the context of {} leaves room for {}: {} too many; shorten the prompt "
        "or raise --ctx-size (the model was trained for {})",
        n_prompt, options.ctx_size, options.ctx_size - 1, n_prompt - options.ctx_size + 1,
        model->hparams().context_length);
  for (size_t i = 0; i < request.prompt.size(); ++i)
    if (request.prompt[i] < 0 || request.prompt[i] >= n_vocab)
      return fail(ErrorKind::kInvalidArgument, "prompt token {} is {}, expected 0 to {}", i,
                  request.prompt[i], n_vocab - 1);
  for (int64_t before = 0; const int64_t boundary : request.boundaries) {
    if (boundary <= before || boundary > n_prompt)
      return fail(
          ErrorKind::kInvalidArgument,
          "message boundaries: expected ascending positions in a prompt of {} tokens, found {} behind {}",
          n_prompt, boundary, before);
    before = boundary;
  }
  for (const std::string& stop : request.stop)
    if (const size_t bad = find_invalid_utf8(stop); bad != stop.size())
      return fail(ErrorKind::kInvalidArgument, "a stop string is not valid UTF-8 at byte {} of {}", bad,
                  stop.size());
  return {};
}

Result<Outcome> Engine::generate(const Request& request, const Callbacks& callbacks, std::stop_token stop) {
  Impl& engine = *impl_;
  PACKMULE_TRY_STATUS(engine.check(request));
  Request own = request;
  if (own.boundaries.empty()) own.boundaries = message_boundaries(own.prompt, *engine.tokenizer);
  own.boundaries = apart(own.boundaries);
  std::erase(own.boundaries, std::ssize(own.prompt));  // the end of the prompt is a checkpoint anyway
  const auto generation =
      std::make_shared<Generation>(std::move(own), engine.vocabulary, engine.options.ctx_size, stop);
  Outcome outcome;
  outcome.seed = generation->seed();
  engine.scheduler->submit(generation);
  return generation->delivery().run(callbacks, stop, std::move(outcome));
}

}  // namespace packmule::engine
