#include "cli/server_log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <limits>
#include <memory>

#include "base/json.h"
#include "base/utf8.h"

namespace packmule::cli {
namespace {

/// The members of an object without its braces, for a line whose beginning the pattern writes. All in ASCII:
/// there are line breaks beyond it.
std::string members(const Json& json) {
  const std::string text = json.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.substr(1, text.size() - 2);
}

}  // namespace

ServerLog::ServerLog(bool as_json)
    : as_json_(as_json), log_("serve", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
  if (as_json)
    log_.set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})", spdlog::pattern_time_type::utc);
  else
    log_.set_pattern("%Y-%m-%d %H:%M:%S.%e %v");
  log_.flush_on(spdlog::level::info);
}

void ServerLog::line(spdlog::level::level_enum level, const std::string& message) {
  log_.log(level, as_json_ ? members({{"message", message}}) : message);
}

void ServerLog::access(const server::Access& access) {
  const std::string method = printable(access.method, 20), path = printable(access.path, 100);
  log_.info(as_json_ ? members({{"method", method},
                                {"path", path},
                                {"status", access.status},
                                {"bytes", access.response_bytes},
                                {"ms", access.ms}})
                     : fmt::format("{} {} {} {} bytes {:.1f} ms", method, path, access.status,
                                   access.response_bytes, access.ms));
}

void ServerLog::text(const api::LoggedText& text) {
  log_.info(as_json_ ? members({{"id", text.id}, {text.what, text.text}})
                     : fmt::format("{} {}: {}", text.id, text.what,
                                   printable(text.text, std::numeric_limits<size_t>::max())));
}

}  // namespace packmule::cli
