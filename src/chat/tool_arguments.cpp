#include "chat/tool_arguments.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace packmule::chat {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

bool equals_in_any_case(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; });
}

bool is_number(std::string_view text) {
  return !text.empty() && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) && Json::accept(text);
}

std::optional<std::string> integer(std::string_view text) {
  if (!is_number(text)) return std::nullopt;
  // A whole number is passed on digit for digit, however large it is.
  if (text.find_first_of(".eE") == std::string_view::npos) return std::string(text);
  constexpr double kExact = 9007199254740992.0;  // 2^53: up to here a double holds every integer
  const double value = Json::parse(text).get<double>();
  if (value != std::floor(value) || std::abs(value) > kExact) return std::nullopt;
  return std::to_string(static_cast<int64_t>(value));
}

/// The JSON of `text`, which is trimmed, if it is of this type.
std::optional<std::string> as_type(std::string_view text, ValueType type) {
  const auto json_that_begins_with = [&](char first) -> std::optional<std::string> {
    if (!text.starts_with(first) || !Json::accept(text)) return std::nullopt;
    return std::string(text);
  };
  switch (type) {
    case ValueType::kBoolean:
      if (equals_in_any_case(text, "true")) return "true";
      if (equals_in_any_case(text, "false")) return "false";
      return std::nullopt;
    case ValueType::kInteger:
      return integer(text);
    case ValueType::kNumber:
      if (!is_number(text)) return std::nullopt;
      return std::string(text);
    case ValueType::kArray:
      return json_that_begins_with('[');
    case ValueType::kObject:
      return json_that_begins_with('{');
    case ValueType::kNull:
      if (text == "null" || text == "None") return "null";
      return std::nullopt;
    case ValueType::kString:
      break;  // what is left when nothing else fits
  }
  return std::nullopt;
}

}  // namespace

bool is_text(const ValueTypes& types) {
  return std::all_of(types.begin(), types.end(), [](ValueType type) { return type == ValueType::kString; });
}

std::string argument_json(std::string_view text, const ValueTypes& types) {
  for (const ValueType type : types)
    if (auto json = as_type(trimmed(text), type)) return *std::move(json);
  return '"' + json_escaped(text) + '"';
}

std::string json_escaped(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += kHex[static_cast<size_t>(c) >> 4];
      out += kHex[static_cast<size_t>(c) & 15];
    } else {
      out += c;
    }
  }
  return out;
}

ToolSchemas::ToolSchemas(const Json& tools) {
  if (!tools.is_array()) return;
  for (const Json& tool : tools) {
    const Json& function = tool.at("function");
    Parameters& parameters = tools_[function.at("name").get<std::string>()];
    const auto schema = function.find("parameters");
    if (schema != function.end()) parameters = property_types(*schema);
  }
}

const ToolSchemas::Parameters* ToolSchemas::find(std::string_view tool) const {
  const auto found = tools_.find(tool);
  return found == tools_.end() ? nullptr : &found->second;
}

}  // namespace packmule::chat
