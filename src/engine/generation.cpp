#include "engine/generation.h"

#include <utility>

namespace packmule::engine {
namespace {

double milliseconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

std::vector<int32_t> never_drawn(const Request& request, const Vocabulary& vocabulary) {
  std::vector<int32_t> never = vocabulary.padding;
  if (request.ignore_eos) never.insert(never.end(), vocabulary.ends.begin(), vocabulary.ends.end());
  return never;
}

}  // namespace

Generation::Generation(Request request, const Vocabulary& vocabulary, int64_t context, std::stop_token stop,
                       std::function<Clock::time_point()> now)
    : request_(std::move(request)),
      vocabulary_(vocabulary),
      context_(context),
      stop_(std::move(stop)),
      now_(std::move(now)),
      on_stop_(stop_, [this] { halt_.request_stop(); }),
      on_time_up_(request_.time_up, [this] { halt_.request_stop(); }),
      tokens_(std::move(request_.prompt)),
      sampler_(request_.sampling, vocabulary.n_vocab, never_drawn(request_, vocabulary)),
      constraint_(request_.constraint ? request_.constraint() : nullptr),
      stops_(request_.stop) {
  statistics_.prompt_tokens = static_cast<int64_t>(tokens_.size());
  for (const int32_t token : tokens_) sampler_.accept(token);
}

std::optional<FinishReason> Generation::ended_from_outside() const {
  if (stop_.stop_requested()) return FinishReason::kCancelled;
  if (request_.time_up.stop_requested()) return FinishReason::kTimeLimit;
  return std::nullopt;
}

void Generation::begin(int64_t cached_tokens) {
  if (begun_) return;
  begun_ = now_();
  statistics_.cached_tokens = cached_tokens;
}

void Generation::prompt_progress(int64_t done) {
  if (prompt_done_) return;  // read once more, after the place was lost
  const auto now = now_();
  statistics_.prompt_ms = milliseconds(now - *begun_);
  if (done == n_prompt()) prompt_done_ = now;
  delivery_.prompt_progress(done, statistics_);
}

bool Generation::next(std::span<const float> logits) {
  end_ = draw(logits);
  return end_.has_value();
}

std::optional<Result<FinishReason>> Generation::draw(std::span<const float> logits) {
  const auto n_drawn = [this] { return static_cast<int64_t>(tokens_.size()) - n_prompt(); };
  const auto long_enough = [&] { return request_.max_tokens >= 0 && n_drawn() >= request_.max_tokens; };
  if (long_enough()) return FinishReason::kLength;
  sampling::TokenMask allowed;
  if (constraint_ != nullptr) {
    PACKMULE_TRY(allowed, constraint_->mask());
  }
  const int32_t token = sampler_.sample(logits, allowed);
  if (token < 0 && constraint_ != nullptr && constraint_->may_end()) return FinishReason::kEndOfTurn;
  if (token < 0)
    return fail(ErrorKind::kInvalidArgument, "every token is forbidden: nothing can be generated");
  sampler_.accept(token);
  ++statistics_.generated_tokens;
  const auto now = now_();
  if (!first_token_) first_token_ = now;
  statistics_.generate_ms = milliseconds(now - *prompt_done_);
  if (vocabulary_.tokenizer->is_end_of_generation(token)) return FinishReason::kEndOfTurn;
  if (constraint_ != nullptr) PACKMULE_TRY_STATUS(constraint_->accept(token));
  tokens_.push_back(token);
  const std::string text = write(token, logits);
  if (!stops_.met().empty()) return FinishReason::kStopString;
  const bool late = request_.max_predict_time.count() > 0 && now - *first_token_ > request_.max_predict_time;
  if (late && text.find('\n') != std::string::npos) return FinishReason::kTimeLimit;
  if (long_enough()) return FinishReason::kLength;
  // The token just drawn is not in the cache yet.
  if (static_cast<int64_t>(tokens_.size()) > context_) return FinishReason::kContextFull;
  return std::nullopt;
}

std::string Generation::write(int32_t token, std::span<const float> logits) {
  const bool silent = vocabulary_.tokenizer->kind(token) == text::TokenKind::kControl;
  const std::string characters =
      characters_.push(silent ? std::string_view() : vocabulary_.tokenizer->token_bytes(token));
  std::vector<TokenLogprob> logprobs;
  if (request_.n_logprobs >= 0)
    sampling::log_probabilities(logits, vocabulary_.padding, token, request_.n_logprobs, logprobs);
  std::string text = stops_.push(characters);
  delivery_.piece(text, token, std::move(logprobs), statistics_);
  return text;
}

void Generation::end(Result<FinishReason> how) {
  end_ = std::move(how);
}

void Generation::close() {
  if (!*end_) return delivery_.fail(end_->error());
  if (stops_.met().empty()) {
    std::string rest = stops_.push(characters_.finish());
    rest += stops_.finish();
    if (!rest.empty()) delivery_.piece(std::move(rest), -1, {}, statistics_);
  }
  delivery_.finish(stops_.met().empty() ? **end_ : FinishReason::kStopString, stops_.met(), statistics_);
}

}  // namespace packmule::engine
