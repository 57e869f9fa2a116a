// The endpoints: routes requests to the functions that answer them, and to the threads that do the work.
//
// Four kinds of work, so that no request waits for what it does not need: what is only looked up (health,
// models, errors) is answered at once on the caller's thread; parsing, templates and tokenizing happen on one
// thread; generating on others, one for each request that runs, further ones waiting in a bounded queue; and
// files of slots are read and written on one more.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/answer_job.h"
#include "api/backend.h"
#include "api/http.h"
#include "api/limited_responder.h"
#include "api/metrics.h"
#include "api/timer.h"
#include "api/work_queue.h"

namespace packmule::api {

struct ServiceOptions {
  std::vector<std::string> api_keys;  // any of them will do; empty: none is asked for
  std::string cors_origin;            // pages of it ("*": any) may ask; "": none is told so
  int n_parallel = 1;                 // requests that generate at the same time
  size_t max_waiting = 64;            // requests waiting to generate; one more is answered 503
  size_t max_preparing = 256;         // requests waiting to be parsed
  std::string slot_save_path;         // folder of the files of slots; "": there are none
  /// From the arrival of a request to its last token; 0: no limit. See api/limited_responder.h.
  std::chrono::milliseconds max_request_time{0};
  std::shared_ptr<Timer> timer;                      // that measures it; null: the clock
  std::function<void(const std::string& line)> log;  // may be unset
  std::function<void(const LoggedText&)> log_text;   // prompts and answers; unset: they are in no log
};

/// What is answered without work.
enum class Lookup { kNone, kHealth, kModels, kOneModel, kProps, kSlots, kMetrics };

class Service : public Handler {
 public:
  explicit Service(ServiceOptions options);
  /// Cancels what runs and drops what waits.
  ~Service() override;

  /// Until it is called, all that needs the model is answered 503. Once only.
  void set_backend(std::unique_ptr<Backend> backend);

  void handle(HttpRequest request, std::shared_ptr<Responder> responder) override;

 private:
  void dispatch(HttpRequest request, std::shared_ptr<Responder> responder);
  [[nodiscard]] bool authorized(const HttpRequest& request) const;
  [[nodiscard]] HttpResponse look_up(const Backend& backend, const HttpRequest& request, Lookup what) const;
  void act_on_slot(HttpRequest request, const std::shared_ptr<Responder>& responder);
  /// False when too many are waiting.
  [[nodiscard]] bool generate(std::shared_ptr<AnswerJob> job,
                              const std::shared_ptr<LimitedResponder>& responder);

  const ServiceOptions options_;
  std::unique_ptr<Backend> owned_backend_;
  std::atomic<Backend*> backend_ = nullptr;
  FirstTokenTimes first_token_;
  std::atomic<int64_t> n_timed_out_ = 0;
  std::shared_ptr<Timer> timer_;  // null: requests may take as long as they like
  WorkQueue generating_;
  WorkQueue slot_files_;  // one at a time: each may be in memory as a whole
  WorkQueue preparing_;   // submits to generating_: goes first
};

}  // namespace packmule::api
