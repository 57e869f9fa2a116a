// The process that renders templates: a Python interpreter running template_worker.py.
//
// It is started with posix_spawn, which does not copy the page tables of a parent that has 46 GB mapped, with
// an empty environment, no inherited file and a process group of its own (Ctrl-C in the terminal is not for
// it). The protocol is described in template_worker.py.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "chat/template_engine.h"

namespace packmule::chat {

/// The text of template_worker.py.
extern const std::string_view kTemplateWorkerScript;

class WorkerProcess {
 public:
  struct Reply {
    char kind = 0;  // the letters of template_worker.py
    std::string text;
  };

  /// Starts the interpreter and waits until it is ready. An error says what has to be installed.
  static Result<std::unique_ptr<WorkerProcess>> start(const TemplateLimits& limits);
  /// Ends the process, whatever it is doing.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  /// Sends a request and waits for the answer within the time limit. After an error the process is of no use
  /// any more. `doing` names the call in errors ("rendering").
  [[nodiscard]] Result<Reply> call(std::string_view request, std::string_view doing);
  /// False once the process has ended by itself.
  [[nodiscard]] bool is_alive() const;
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  struct Deadline;
  WorkerProcess(pid_t pid, int socket, const TemplateLimits& limits)
      : pid_(pid), socket_(socket), limits_(limits) {}
  Status send_frame(std::string_view body, const Deadline& deadline);
  Result<Reply> receive_reply(const Deadline& deadline);
  Status receive(char* to, size_t size, const Deadline& deadline);
  Status wait_until_ready(short events, const Deadline& deadline) const;
  [[nodiscard]] std::optional<std::chrono::nanoseconds> cpu_time() const;
  [[nodiscard]] tl::unexpected<Error> ended();

  pid_t pid_;
  int socket_;
  TemplateLimits limits_;
};

}  // namespace packmule::chat
