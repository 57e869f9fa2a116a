#include "grammar/schema_keywords.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/utf8.h"
#include "grammar/schema_strings.h"

namespace packmule::grammar {
namespace {

enum class Form {
  kAnnotation,
  kAnyValue,
  kString,
  kNonNegative,
  kNumber,
  kSchema,
  kSchemas,  // an array of them, not empty
  kSchemasByKey,
  kArray,  // of anything
  kStrings,
  kTypes,
  kPattern,
  kRefused,
};

struct Keyword {
  std::string_view name;
  Form form;
  unsigned type = 0;  // the type it speaks of
};

constexpr Keyword kKeywords[] = {
    {"$schema", Form::kAnnotation},
    {"$id", Form::kAnnotation},
    {"$comment", Form::kAnnotation},
    {"$anchor", Form::kAnnotation},
    {"$vocabulary", Form::kAnnotation},
    {"$defs", Form::kAnnotation},
    {"definitions", Form::kAnnotation},
    {"title", Form::kAnnotation},
    {"description", Form::kAnnotation},
    {"default", Form::kAnnotation},
    {"examples", Form::kAnnotation},
    {"deprecated", Form::kAnnotation},
    {"readOnly", Form::kAnnotation},
    {"writeOnly", Form::kAnnotation},
    {"contentEncoding", Form::kAnnotation},
    {"contentMediaType", Form::kAnnotation},
    {"contentSchema", Form::kAnnotation},
    {"$ref", Form::kString},
    {"type", Form::kTypes},
    {"enum", Form::kArray},
    {"const", Form::kAnyValue},
    {"anyOf", Form::kSchemas},
    {"oneOf", Form::kSchemas},
    {"allOf", Form::kSchemas},
    {"pattern", Form::kPattern, kString},
    {"format", Form::kString, 0},
    {"minLength", Form::kNonNegative, kString},
    {"maxLength", Form::kNonNegative, kString},
    {"minimum", Form::kNumber, kNumber},
    {"maximum", Form::kNumber, kNumber},
    {"exclusiveMinimum", Form::kNumber, kNumber},
    {"exclusiveMaximum", Form::kNumber, kNumber},
    {"items", Form::kSchema, kArray},
    {"prefixItems", Form::kSchemas, kArray},
    {"minItems", Form::kNonNegative, kArray},
    {"maxItems", Form::kNonNegative, kArray},
    {"properties", Form::kSchemasByKey, kObject},
    {"required", Form::kStrings, kObject},
    {"additionalProperties", Form::kSchema, kObject},
    {"propertyNames", Form::kSchema, kObject},
    {"minProperties", Form::kNonNegative, kObject},
    {"maxProperties", Form::kNonNegative, kObject},
    {"multipleOf", Form::kRefused},
    {"not", Form::kRefused},
    {"if", Form::kRefused},
    {"then", Form::kRefused},
    {"else", Form::kRefused},
    {"uniqueItems", Form::kRefused},
    {"contains", Form::kRefused},
    {"minContains", Form::kRefused},
    {"maxContains", Form::kRefused},
    {"additionalItems", Form::kRefused},
    {"unevaluatedItems", Form::kRefused},
    {"unevaluatedProperties", Form::kRefused},
    {"patternProperties", Form::kRefused},
    {"dependentRequired", Form::kRefused},
    {"dependentSchemas", Form::kRefused},
    {"dependencies", Form::kRefused},
    {"$dynamicRef", Form::kRefused},
    {"$dynamicAnchor", Form::kRefused},
    {"$recursiveRef", Form::kRefused},
};

constexpr std::pair<std::string_view, unsigned> kTypes[] = {
    {"null", kNull},     {"boolean", kBoolean}, {"integer", kInteger}, {"number", kNumber},
    {"string", kString}, {"array", kArray},     {"object", kObject},
};

bool speaks_of_strings(std::string_view format) {
  const auto pattern = format_pattern(format);
  return !pattern || !pattern->empty();
}

const Keyword* find(std::string_view name) {
  const auto* found = std::find_if(std::begin(kKeywords), std::end(kKeywords),
                                   [name](const Keyword& keyword) { return keyword.name == name; });
  return found == std::end(kKeywords) ? nullptr : found;
}

unsigned named_type(const Json& name) {
  for (const auto& [known, type] : kTypes)
    if (name == known) return type;
  return 0;
}

/// Values of refused keywords that say nothing.
bool is_harmless(std::string_view name, const Json& value) {
  if (name == "uniqueItems") return value == false;
  if (name == "not") return value == false;
  if (name == "unevaluatedProperties") return value.is_boolean();  // false: seen to where objects are read
  if (name == "unevaluatedItems" || name == "additionalItems") return value == true;
  if (name == "patternProperties" || name.starts_with("dependen")) return value.is_object() && value.empty();
  return false;
}

std::string_view expected(Form form, const Json& value) {
  const auto is_schema = [](const Json& v) { return v.is_object() || v.is_boolean(); };
  switch (form) {
    case Form::kAnnotation:
    case Form::kAnyValue:
    case Form::kRefused:
      return {};
    case Form::kString:
      return value.is_string() ? std::string_view() : "a string";
    case Form::kPattern:
      return value.is_string() || (value.is_array() && !value.empty()) ? std::string_view() : "a string";
    case Form::kNonNegative:
      return value.is_number() && value >= 0 && value <= 1e15 && value == std::floor(value.get<double>())
                 ? std::string_view()
                 : "a whole number, 0 or more";
    case Form::kNumber:
      return value.is_number() && std::abs(value.get<double>()) <= 1e300 ? std::string_view() : "a number";
    case Form::kSchema:
      return is_schema(value) || (value.is_array()) ? std::string_view() : "a schema";
    case Form::kSchemas:
      return value.is_array() && !value.empty() && std::all_of(value.begin(), value.end(), is_schema)
                 ? std::string_view()
                 : "an array of schemas";
    case Form::kSchemasByKey:
      return value.is_object() && std::all_of(value.begin(), value.end(), is_schema) ? std::string_view()
                                                                                     : "an object of schemas";
    case Form::kArray:
      return value.is_array() ? std::string_view() : "an array";
    case Form::kStrings:
      return value.is_array() &&
                     std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_string(); })
                 ? std::string_view()
                 : "an array of strings";
    case Form::kTypes: {
      const bool list =
          value.is_array() && !value.empty() &&
          std::all_of(value.begin(), value.end(), [](const Json& v) { return named_type(v) != 0; });
      return list || named_type(value) != 0
                 ? std::string_view()
                 : "\"null\", \"boolean\", \"integer\", \"number\", \"string\", \"array\", "
                   "\"object\" or a list of them";
    }
  }
  return {};
}

}  // namespace

tl::unexpected<Error> bad_schema(ErrorKind kind, const std::string& pointer, std::string_view reason) {
  return fail(kind, "#{}: {}", printable(pointer, 200), reason);
}

std::string step(const std::string& pointer, std::string_view key) {
  std::string out = pointer + "/";
  for (const char c : key) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

Status check_keywords(const Json& schema, const std::string& pointer) {
  for (const auto& [key, value] : schema.items()) {
    const Keyword* keyword = find(key);
    if (keyword == nullptr) continue;
    if (keyword->form == Form::kRefused && !is_harmless(key, value))
      return bad_schema(ErrorKind::kUnsupported, pointer, fmt::format("'{}' is not supported", key));
    if (const std::string_view what = expected(keyword->form, value); !what.empty())
      return bad_schema(ErrorKind::kInvalidArgument, step(pointer, key), fmt::format("expected {}", what));
  }
  return {};
}

bool is_annotation(std::string_view keyword) {
  const Keyword* found = find(keyword);
  return found == nullptr || found->form == Form::kAnnotation ||
         (found->form == Form::kRefused && keyword != "unevaluatedProperties");
}

unsigned type_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return kNull;
    case Json::value_t::boolean:
      return kBoolean;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return kInteger;
    case Json::value_t::number_float:
      return value.get<double>() == std::floor(value.get<double>()) ? kInteger : kFraction;
    case Json::value_t::string:
      return kString;
    case Json::value_t::array:
      return kArray;
    default:
      return kObject;
  }
}

unsigned types_of(const Json& schema) {
  if (const auto type = schema.find("type"); type != schema.end()) {
    if (!type->is_array()) return named_type(*type);
    unsigned types = 0;
    for (const Json& name : *type) types |= named_type(name);
    return types;
  }
  if (const auto one = schema.find("const"); one != schema.end()) return type_of(*one);
  if (const auto list = schema.find("enum"); list != schema.end()) {
    unsigned types = 0;
    for (const Json& one : *list) types |= type_of(one);
    return types;
  }
  unsigned types = 0;
  for (const auto& [key, value] : schema.items())
    if (key == "format" && value.is_string() && speaks_of_strings(value.get_ref<const std::string&>()))
      types |= kString;
    else if (const Keyword* keyword = find(key))
      types |= keyword->type;
  return types == 0 ? kAnyType : types;
}

Json type_names(unsigned types) {
  Json out = Json::array();
  const auto add = [&](unsigned type, const char* name) {
    if ((types & type) == type) out.push_back(name);
  };
  add(kNull, "null");
  add(kBoolean, "boolean");
  if ((types & kNumber) == kInteger) add(kInteger, "integer");
  add(kNumber, "number");
  add(kString, "string");
  add(kArray, "array");
  add(kObject, "object");
  return out;
}

Json constraints(const Json& schema) {
  Json out = Json::object();
  for (const auto& [key, value] : schema.items())
    if (!is_annotation(key)) out[key] = value;
  return out;
}

}  // namespace packmule::grammar
