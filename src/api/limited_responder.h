// The answer to a request that may take only so long, from its arrival to its last token.
//
// Three may want to end it: the time, the work, the client that leaves. As long as the work waits for its
// turn, the time answers itself; once it has begun, the time only asks it to end, as it may have something
// to show by then.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>

#include "api/error.h"
#include "api/http.h"
#include "api/timer.h"

namespace packmule::api {

/// 504, for requests of which nothing was generated in time.
[[nodiscard]] ApiError too_late();

class LimitedResponder : public Responder {
 public:
  LimitedResponder(std::shared_ptr<Responder> next, ErrorForm form);

  /// Its time is up when the alarm rings.
  void keep(Timer::Alarm alarm) { alarm_ = std::move(alarm); }
  /// For the timer. True when this was the answer; else the work is asked to end, or all is said.
  bool ring();

  /// The work begins. False: it comes too late, all that it would send is dropped.
  [[nodiscard]] bool begin();
  /// Requested when work that has begun should end with what is there.
  [[nodiscard]] std::stop_token time_up() const { return time_up_.get_token(); }

  void send(HttpResponse response) override;
  void start(HttpResponse head) override { next_->start(std::move(head)); }
  bool write(std::string_view bytes) override { return next_->write(bytes); }
  void finish() override { next_->finish(); }
  /// Requested also when the time has answered.
  [[nodiscard]] std::stop_token stop_token() const override { return over_.get_token(); }

 private:
  enum class Stage { kWaiting, kWorking, kAnswered };
  const std::shared_ptr<Responder> next_;
  const ErrorForm form_;
  std::stop_source time_up_, over_;
  std::stop_callback<std::function<void()>> on_client_gone_;
  std::mutex mutex_;
  Stage stage_ = Stage::kWaiting;  // guarded by mutex_
  Timer::Alarm alarm_;
};

}  // namespace packmule::api
