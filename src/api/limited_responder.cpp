#include "api/limited_responder.h"

#include <utility>

namespace packmule::api {

ApiError too_late() {
  return {.status = 504,
          .type = "timeout_error",
          .message = "the time for a request (--request-timeout) was over before anything was generated",
          .code = "request_timeout"};
}

LimitedResponder::LimitedResponder(std::shared_ptr<Responder> next, ErrorForm form)
    : next_(std::move(next)),
      form_(form),
      on_client_gone_(next_->stop_token(), [this] { over_.request_stop(); }) {}

bool LimitedResponder::ring() {
  bool time_up = false, answers = false;
  {
    const std::lock_guard lock(mutex_);
    time_up = stage_ == Stage::kWorking;
    answers = stage_ == Stage::kWaiting;
    if (answers) stage_ = Stage::kAnswered;
  }
  if (time_up) time_up_.request_stop();
  if (!answers) return false;
  next_->send(too_late().response(form_));
  over_.request_stop();
  return true;
}

bool LimitedResponder::begin() {
  const std::lock_guard lock(mutex_);
  if (stage_ != Stage::kWaiting) return false;
  stage_ = Stage::kWorking;
  return true;
}

void LimitedResponder::send(HttpResponse response) {
  {
    const std::lock_guard lock(mutex_);
    if (stage_ == Stage::kAnswered) return;
    stage_ = Stage::kAnswered;
  }
  next_->send(std::move(response));
}

}  // namespace packmule::api
