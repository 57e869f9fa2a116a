// Reads the fields of a JSON object with their types and limits checked.
//
// The first thing wrong is kept and later reads do nothing, so that a parser reads field after field and asks
// once at the end. A field that is missing or null leaves the variable as it was.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/error.h"
#include "base/json.h"

namespace packmule::api {

class Fields {
 public:
  /// `object` must outlive this; `prefix` goes before field names in errors ("stream_options.").
  explicit Fields(const Json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  /// The value, or nullptr when missing or null.
  [[nodiscard]] const Json* get(std::string_view name) const;

  void read(std::string_view name, bool& out);
  void read(std::string_view name, std::string& out, size_t max_bytes);
  /// Any JSON number between the limits; never infinite.
  void read(std::string_view name, float& out, double lowest, double highest);
  /// A whole number between the limits; 3.0 counts as one.
  void read(std::string_view name, int64_t& out, int64_t lowest, int64_t highest);
  void read(std::string_view name, int32_t& out, int64_t lowest, int64_t highest);

  /// Keeps the error if it is the first; `name` is the field without the prefix.
  void fail(std::string_view name, std::string message);
  void fail(ApiError error);
  [[nodiscard]] const std::optional<ApiError>& error() const { return error_; }

 private:
  const Json& object_;
  std::string prefix_;
  std::optional<ApiError> error_;
};

/// "a string", "an object", ...: what a value is, for error messages.
[[nodiscard]] std::string_view type_name(const Json& value);

/// The whole number in a JSON value (3 or 3.0), if it is one and fits.
[[nodiscard]] std::optional<int64_t> whole_number(const Json& value);

/// A 400 that names the field at fault, in its message too.
[[nodiscard]] tl::unexpected<ApiError> refuse_field(const std::string& param, std::string_view message);

/// A 400 unless the value at `where` is an object, or an array.
[[nodiscard]] ApiResult<void> expect_object(const Json& value, const std::string& where);
[[nodiscard]] ApiResult<void> expect_array(const Json& value, const std::string& where);

/// The string under `name` in the object at `where` ("": the body), which must be there.
[[nodiscard]] ApiResult<std::string> required_string(const Json& object, std::string_view name,
                                                     const std::string& where);

/// The body of a request as a JSON object, or a 400.
[[nodiscard]] ApiResult<Json> parse_body(const HttpRequest& request);

}  // namespace packmule::api

/// Returns the error of a result from the enclosing function.
#define API_TRY_STATUS(...)                                                           \
  do {                                                                                \
    if (auto status_ = (__VA_ARGS__); !status_.has_value())                           \
      return ::tl::unexpected<::packmule::api::ApiError>(std::move(status_).error()); \
  } while (false)
