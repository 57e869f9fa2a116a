// The types of metadata values, and reading a value as one C++ type.
#include <limits>

#include "base/utf8.h"
#include "gguf/parse.h"

namespace packmule::gguf {
namespace {

template <class... Args>
tl::unexpected<Error> wrong(std::string_view path, std::string_view key, fmt::format_string<Args...> format,
                            Args&&... args) {
  return fail(ErrorKind::kInvalidFile, "{}: key '{}': {}", path, key,
              fmt::format(format, std::forward<Args>(args)...));
}

tl::unexpected<Error> wrong_type(std::string_view path, std::string_view key, std::string_view expected,
                                 const Value* value) {
  if (value == nullptr) return wrong(path, key, "expected {}, but the file does not have this key", expected);
  if (const auto* array = std::get_if<Array>(&value->value))
    return wrong(path, key, "expected {}, found an array of {}", expected,
                 value_type_name(array->element_type));
  if (const auto* text = std::get_if<std::string_view>(&value->value))
    return wrong(path, key, "expected {}, found the string '{}'", expected, printable(*text, 40));
  return wrong(path, key, "expected {}, found a {}", expected, value_type_name(value->type));
}

}  // namespace

std::string_view value_type_name(ValueType type) {
  switch (type) {
    case ValueType::kU8:
      return "u8";
    case ValueType::kI8:
      return "i8";
    case ValueType::kU16:
      return "u16";
    case ValueType::kI16:
      return "i16";
    case ValueType::kU32:
      return "u32";
    case ValueType::kI32:
      return "i32";
    case ValueType::kF32:
      return "f32";
    case ValueType::kBool:
      return "bool";
    case ValueType::kString:
      return "string";
    case ValueType::kArray:
      return "array";
    case ValueType::kU64:
      return "u64";
    case ValueType::kI64:
      return "i64";
    case ValueType::kF64:
      return "f64";
  }
  return "unknown type";
}

size_t Array::size() const {
  return std::visit([](const auto& elements) { return elements.size(); }, values);
}

Result<uint64_t> value_u64(const Value* value, std::string_view path, std::string_view key) {
  constexpr std::string_view kExpected = "an integer that is not negative";
  if (value == nullptr) return wrong_type(path, key, kExpected, value);
  if (const auto* u = std::get_if<uint64_t>(&value->value)) return *u;
  const auto* i = std::get_if<int64_t>(&value->value);
  if (i == nullptr) return wrong_type(path, key, kExpected, value);
  if (*i < 0) return wrong(path, key, "expected {}, found {}", kExpected, *i);
  return static_cast<uint64_t>(*i);
}

Result<double> value_f64(const Value* value, std::string_view path, std::string_view key) {
  if (value != nullptr) {
    if (const auto* d = std::get_if<double>(&value->value)) return *d;
    if (const auto* u = std::get_if<uint64_t>(&value->value)) return static_cast<double>(*u);
    if (const auto* i = std::get_if<int64_t>(&value->value)) return static_cast<double>(*i);
  }
  return wrong_type(path, key, "a number", value);
}

Result<bool> value_bool(const Value* value, std::string_view path, std::string_view key) {
  const auto* b = value == nullptr ? nullptr : std::get_if<bool>(&value->value);
  if (b == nullptr) return wrong_type(path, key, "a bool", value);
  return *b;
}

Result<std::string_view> value_string(const Value* value, std::string_view path, std::string_view key) {
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string_view>(&value->value);
  if (text == nullptr) return wrong_type(path, key, "a string", value);
  return *text;
}

Result<std::vector<std::string_view>> value_strings(const Value* value, std::string_view path,
                                                    std::string_view key) {
  const auto* array = value == nullptr ? nullptr : std::get_if<Array>(&value->value);
  const auto* strings =
      array == nullptr ? nullptr : std::get_if<std::vector<std::string_view>>(&array->values);
  if (strings == nullptr) return wrong_type(path, key, "an array of strings", value);
  return *strings;
}

Result<std::vector<int64_t>> value_integers(const Value* value, std::string_view path, std::string_view key) {
  const auto* array = value == nullptr ? nullptr : std::get_if<Array>(&value->value);
  if (array != nullptr) {
    if (const auto* signed_ones = std::get_if<std::vector<int64_t>>(&array->values)) return *signed_ones;
    if (const auto* bools = std::get_if<std::vector<bool>>(&array->values))
      return std::vector<int64_t>(bools->begin(), bools->end());
    if (const auto* unsigned_ones = std::get_if<std::vector<uint64_t>>(&array->values)) {
      for (const uint64_t element : *unsigned_ones)
        if (element > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
          return wrong(path, key, "expected integers below 2^63, found {}", element);
      return std::vector<int64_t>(unsigned_ones->begin(), unsigned_ones->end());
    }
  }
  return wrong_type(path, key, "an array of integers", value);
}

}  // namespace packmule::gguf
