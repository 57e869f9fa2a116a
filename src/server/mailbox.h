// Where an answer passes from the thread that makes it to the I/O thread that sends it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "api/http.h"

namespace packmule::server {

class Mailbox {
 public:
  /// `wake` is called (under a lock: it must only post) when there is something to take, never after close().
  Mailbox(std::function<void()> wake, size_t max_waiting_bytes)
      : wake_(std::move(wake)), max_waiting_bytes_(max_waiting_bytes) {}

  /// The end the handler holds. When the last copy is dropped before the answer was complete, the answer
  /// counts as abandoned.
  static std::shared_ptr<api::Responder> responder(std::shared_ptr<Mailbox> mailbox);

  // ---- for the I/O thread ----
  struct Taken {
    std::optional<api::HttpResponse> head;  // the first time; its body is in `bytes`
    bool whole = false;                     // with head: the length is known, all is here
    std::string bytes;
    bool finished = false;
    bool abandoned = false;
  };
  [[nodiscard]] Taken take();
  /// Nobody will take any more: the work should end, what is still written is thrown away.
  void close();
  void request_stop() { stop_.request_stop(); }

  // ---- for the handler's end ----
  void send(api::HttpResponse response);
  void start(api::HttpResponse head);
  bool write(std::string_view bytes);
  void finish();
  void abandon();
  [[nodiscard]] std::stop_token stop_token() const { return stop_.get_token(); }

 private:
  void wake_locked() {
    if (wake_) wake_();
  }

  std::mutex mutex_;
  std::function<void()> wake_;
  const size_t max_waiting_bytes_;
  std::stop_source stop_;
  Taken waiting_;
  bool started_ = false;
  bool closed_ = false;
  bool overflowed_ = false;
};

}  // namespace packmule::server
