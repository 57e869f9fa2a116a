// The log of the server on standard error: lines for people, or JSON for programs.
#pragma once

#include <spdlog/logger.h>

#include <string>
#include <string_view>

#include "api/answer_job.h"
#include "server/server.h"

namespace packmule::cli {

class ServerLog {
 public:
  /// `as_json`: each line is an object with "time" (UTC) and "level", and "message", or "method", "path",
  /// "status", "bytes" and "ms" for a request that was answered, or "id" and "prompt" or "answer".
  explicit ServerLog(bool as_json);

  // From any thread.
  void info(const std::string& message) { line(spdlog::level::info, message); }
  void warn(const std::string& message) { line(spdlog::level::warn, message); }
  void access(const server::Access& access);
  /// All of it, on one line whatever it is.
  void text(const api::LoggedText& text);

 private:
  void line(spdlog::level::level_enum level, const std::string& message);

  const bool as_json_;
  spdlog::logger log_;
};

}  // namespace packmule::cli
