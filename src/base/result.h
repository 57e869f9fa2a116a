// Result<T>: a value, or an Error that a person can act on.
//
// A message is one line and says what was being done, where, what was expected and what was found, and what
// to do next if that is known. Nothing a user can send reaches an assert or an exception outside the library
// edge that threw it.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace packmule {

enum class ErrorKind {
  kInvalidFile,      // a file is damaged, truncated or not what it claims to be
  kInvalidArgument,  // a flag, a request or a parameter is wrong
  kUnsupported,      // valid, but packmule cannot do it
  kOutOfMemory,      // does not fit
  kIo,               // the system refused to read, write, map or connect
  kCancelled,        // the caller asked to stop
  kInternal,         // our own mistake
};

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;  // one line, no trailing newline
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// `return fail(ErrorKind::kIo, "cannot open {}: {}", path, strerror(errno));`
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{kind, fmt::format(format, std::forward<Args>(args)...)});
}

}  // namespace packmule

/// Evaluates a Result and returns its error from the enclosing function; assigns the value otherwise.
/// `PACKMULE_TRY(auto file, File::open(path));`
#define PACKMULE_TRY(declaration, ...) \
  PACKMULE_TRY_IMPL(PACKMULE_TRY_NAME(try_, __LINE__), declaration, __VA_ARGS__)
#define PACKMULE_TRY_STATUS(...)                                              \
  do {                                                                        \
    if (auto status_ = (__VA_ARGS__); !status_.has_value())                   \
      return ::tl::unexpected<::packmule::Error>(std::move(status_).error()); \
  } while (false)
#define PACKMULE_TRY_IMPL(name, declaration, ...)                                             \
  auto name = (__VA_ARGS__);                                                                  \
  if (!name.has_value()) return ::tl::unexpected<::packmule::Error>(std::move(name).error()); \
  declaration = std::move(name).value()
#define PACKMULE_TRY_NAME(a, b) PACKMULE_TRY_NAME2(a, b)
#define PACKMULE_TRY_NAME2(a, b) a##b
