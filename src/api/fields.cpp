#include "api/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace packmule::api {

std::string_view type_name(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

std::optional<int64_t> whole_number(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    // Up to 2^53 every whole double is exactly the number that was written.
    if (number == std::floor(number) && std::abs(number) <= 9007199254740992.0)
      return static_cast<int64_t>(number);
  }
  return std::nullopt;
}

const Json* Fields::get(std::string_view name) const {
  const auto it = object_.find(std::string(name));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void Fields::read(std::string_view name, bool& out) {
  const Json* value = get(name);
  if (value == nullptr) return;
  if (value->is_boolean())
    out = value->get<bool>();
  else
    fail(name, fmt::format("expected a boolean, found {}", type_name(*value)));
}

void Fields::read(std::string_view name, std::string& out, size_t max_bytes) {
  const Json* value = get(name);
  if (value == nullptr) return;
  if (!value->is_string()) return fail(name, fmt::format("expected a string, found {}", type_name(*value)));
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes)
    return fail(name, fmt::format("expected a string of at most {} bytes, found {}", max_bytes, text.size()));
  out = text;
}

void Fields::read(std::string_view name, float& out, double lowest, double highest) {
  const Json* value = get(name);
  if (value == nullptr) return;
  if (!value->is_number()) return fail(name, fmt::format("expected a number, found {}", type_name(*value)));
  const double number = value->get<double>();
  if (!(number >= lowest && number <= highest))
    return fail(name, fmt::format("expected a number from {} to {}, found {}", lowest, highest, number));
  out = static_cast<float>(number);
}

void Fields::read(std::string_view name, int64_t& out, int64_t lowest, int64_t highest) {
  const Json* value = get(name);
  if (value == nullptr) return;
  if (!value->is_number())
    return fail(name, fmt::format("expected a whole number, found {}", type_name(*value)));
  const auto number = whole_number(*value);
  if (!number || *number < lowest || *number > highest)
    return fail(
        name, fmt::format("expected a whole number from {} to {}, found {}", lowest, highest, value->dump()));
  out = *number;
}

void Fields::read(std::string_view name, int32_t& out, int64_t lowest, int64_t highest) {
  int64_t wide = out;
  read(name, wide, std::max<int64_t>(lowest, std::numeric_limits<int32_t>::min()),
       std::min<int64_t>(highest, std::numeric_limits<int32_t>::max()));
  out = static_cast<int32_t>(wide);
}

void Fields::fail(std::string_view name, std::string message) {
  const std::string param = prefix_ + std::string(name);
  fail(bad_field(param, fmt::format("'{}': {}", param, message)));
}

void Fields::fail(ApiError error) {
  if (!error_) error_ = std::move(error);
}

tl::unexpected<ApiError> refuse_field(const std::string& param, std::string_view message) {
  return tl::unexpected(bad_field(param, fmt::format("'{}': {}", param, message)));
}

ApiResult<void> expect_object(const Json& value, const std::string& where) {
  if (value.is_object()) return {};
  return refuse_field(where, fmt::format("expected an object, found {}", type_name(value)));
}

ApiResult<void> expect_array(const Json& value, const std::string& where) {
  if (value.is_array()) return {};
  return refuse_field(where, fmt::format("expected an array, found {}", type_name(value)));
}

ApiResult<std::string> required_string(const Json& object, std::string_view name, const std::string& where) {
  const auto it = object.find(std::string(name));
  if (it == object.end() || !it->is_string())
    return refuse_field(where.empty() ? std::string(name) : fmt::format("{}.{}", where, name),
                        "expected a string");
  return it->get<std::string>();
}

ApiResult<Json> parse_body(const HttpRequest& request) {
  auto json = parse_json(request.body, "the request body");
  if (!json) return tl::unexpected(from_error(json.error()));
  if (!json->is_object())
    return tl::unexpected(
        bad_field("", fmt::format("the request body: expected a JSON object, found {}", type_name(*json))));
  return std::move(json).value();
}

}  // namespace packmule::api
