#include "chat/schema_types.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace packmule::chat {
namespace {

constexpr std::array<std::pair<std::string_view, ValueType>, 7> kTypeNames = {{
    {"string", ValueType::kString},
    {"boolean", ValueType::kBoolean},
    {"integer", ValueType::kInteger},
    {"number", ValueType::kNumber},
    {"array", ValueType::kArray},
    {"object", ValueType::kObject},
    {"null", ValueType::kNull},
}};

/// Keywords of one type, which say without `type` that it is meant.
constexpr std::array<std::pair<std::string_view, ValueType>, 18> kKeywords = {{
    {"pattern", ValueType::kString},
    {"minLength", ValueType::kString},
    {"maxLength", ValueType::kString},
    {"minimum", ValueType::kNumber},
    {"maximum", ValueType::kNumber},
    {"exclusiveMinimum", ValueType::kNumber},
    {"exclusiveMaximum", ValueType::kNumber},
    {"multipleOf", ValueType::kNumber},
    {"items", ValueType::kArray},
    {"prefixItems", ValueType::kArray},
    {"minItems", ValueType::kArray},
    {"maxItems", ValueType::kArray},
    {"properties", ValueType::kObject},
    {"required", ValueType::kObject},
    {"additionalProperties", ValueType::kObject},
    {"propertyNames", ValueType::kObject},
    {"minProperties", ValueType::kObject},
    {"maxProperties", ValueType::kObject},
}};

bool has(const ValueTypes& types, ValueType type) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

void add(ValueType type, ValueTypes& types) {
  if (!has(types, type)) types.push_back(type);
}

ValueType type_of(const Json& value) {
  if (value.is_string()) return ValueType::kString;
  if (value.is_boolean()) return ValueType::kBoolean;
  if (value.is_number_integer()) return ValueType::kInteger;
  if (value.is_number()) return ValueType::kNumber;
  if (value.is_array()) return ValueType::kArray;
  return value.is_object() ? ValueType::kObject : ValueType::kNull;
}

/// Those of both; where one says nothing, or both contradict each other, the first one's.
ValueTypes both(ValueTypes a, const ValueTypes& b) {
  if (a.empty()) return b;
  ValueTypes out;
  for (const ValueType type : a) {
    if (has(b, type) || (type == ValueType::kInteger && has(b, ValueType::kNumber)))
      add(type, out);
    else if (type == ValueType::kNumber && has(b, ValueType::kInteger))
      add(ValueType::kInteger, out);
  }
  return out.empty() ? a : out;
}

class Reader {
 public:
  /// `n_most`: schemas and properties to look at. References can make more of them than there are.
  Reader(const Json& root, int64_t n_most) : root_(root), n_left_(n_most) {}

  /// Schemas come from JSON that is limited in depth, and so is the recursion between two references.
  ValueTypes types(const Json& schema) {
    if (!schema.is_object() || n_left_-- <= 0) return {};
    ValueTypes out = own_types(schema);
    if (const auto ref = schema.find("$ref"); ref != schema.end())
      out = both(std::move(out),
                 followed<ValueTypes>(*ref, [this](const Json& target) { return types(target); }));
    if (const auto list = schema.find("allOf"); list != schema.end() && list->is_array())
      for (const Json& one : *list) out = both(std::move(out), types(one));
    for (const char* choice : {"anyOf", "oneOf"})
      if (const auto list = schema.find(choice); list != schema.end() && list->is_array()) {
        ValueTypes any;
        for (const Json& one : *list)
          for (const ValueType type : types(one)) add(type, any);
        out = both(std::move(out), any);
      }
    return out;
  }

  PropertyTypes properties(const Json& schema) {
    PropertyTypes out;
    if (!schema.is_object() || n_left_-- <= 0) return out;
    const auto all = [&](const PropertyTypes& more) {
      n_left_ -= std::ssize(more);
      for (const auto& [key, types] : more) {
        const auto [at, is_new] = out.try_emplace(key, types);
        if (!is_new) at->second = both(std::move(at->second), types);
      }
    };
    if (const auto own = schema.find("properties"); own != schema.end() && own->is_object())
      for (const auto& [key, declared] : own->items()) all({{key, types(declared)}});
    if (const auto ref = schema.find("$ref"); ref != schema.end())
      all(followed<PropertyTypes>(*ref, [this](const Json& target) { return properties(target); }));
    if (const auto list = schema.find("allOf"); list != schema.end() && list->is_array())
      for (const Json& one : *list) all(properties(one));
    for (const char* choice : {"anyOf", "oneOf"})
      if (const auto list = schema.find(choice); list != schema.end() && list->is_array()) {
        PropertyTypes any;
        for (const Json& one : *list)
          for (const auto& [key, types] : properties(one)) {
            ValueTypes& known = any[key];
            for (const ValueType type : types) add(type, known);
          }
        all(any);
      }
    return out;
  }

 private:
  static ValueTypes own_types(const Json& schema) {
    ValueTypes out;
    const auto named = [&](const Json& name) {
      for (const auto& [known, type] : kTypeNames)
        if (name == known) add(type, out);
    };
    if (const auto type = schema.find("type"); type != schema.end()) {
      if (!type->is_array()) named(*type);
      if (type->is_array())
        for (const Json& name : *type) named(name);
    } else if (const auto one = schema.find("const"); one != schema.end()) {
      add(type_of(*one), out);
    } else if (const auto list = schema.find("enum"); list != schema.end() && list->is_array()) {
      for (const Json& value : *list) add(type_of(value), out);
    } else {
      for (const auto& [key, implied] : kKeywords)
        if (schema.contains(key)) add(implied, out);
    }
    return out;
  }

  /// What is read where a reference leads; nothing, if that is nowhere or back to itself.
  template <class T, class Read>
  T followed(const Json& ref, Read&& read) {
    if (!ref.is_string()) return {};
    const auto& text = ref.get_ref<const std::string&>();
    if (std::find(open_.begin(), open_.end(), text) != open_.end()) return {};
    const Json* target = resolve(text);
    if (target == nullptr) return {};
    open_.push_back(text);
    T out = read(*target);
    open_.pop_back();
    return out;
  }

  /// What "#/$defs/name" leads to; nullptr: nothing, or another document.
  [[nodiscard]] const Json* resolve(std::string_view ref) const {
    if (!ref.starts_with('#')) return nullptr;
    const Json* at = &root_;
    for (size_t begin = 1; begin < ref.size();) {
      if (ref[begin] != '/') return nullptr;
      const size_t end = std::min(ref.find('/', begin + 1), ref.size());
      const std::string key = unescaped(ref.substr(begin + 1, end - begin - 1));
      begin = end;
      if (at->is_object()) {
        const auto found = at->find(key);
        if (found == at->end()) return nullptr;
        at = &*found;
      } else {
        size_t index = 0;
        const auto [rest, error] = std::from_chars(key.data(), key.data() + key.size(), index);
        if (!at->is_array() || error != std::errc() || rest != key.data() + key.size() || index >= at->size())
          return nullptr;
        at = &(*at)[index];
      }
    }
    return at;
  }

  /// A step of a pointer in a URI: %25 for any byte, then ~1 for "/" and ~0 for "~".
  static std::string unescaped(std::string_view text) {
    std::string bytes;
    for (size_t i = 0; i < text.size(); ++i) {
      unsigned value = 0;
      const char* hex = text.data() + i + 1;
      if (text[i] == '%' && i + 2 < text.size() && std::from_chars(hex, hex + 2, value, 16).ptr == hex + 2) {
        bytes += static_cast<char>(value);
        i += 2;
      } else {
        bytes += text[i];
      }
    }
    std::string out;
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] == '~' && i + 1 < bytes.size() && (bytes[i + 1] == '0' || bytes[i + 1] == '1'))
        out += bytes[++i] == '0' ? '~' : '/';
      else
        out += bytes[i];
    }
    return out;
  }

  const Json& root_;
  std::vector<std::string> open_;  // references that are being followed
  int64_t n_left_;
};

}  // namespace

ValueTypes value_types(const Json& schema, const Json& root) {
  constexpr int64_t kMost = 2000;
  return Reader(root, kMost).types(schema);
}

PropertyTypes property_types(const Json& root) {
  constexpr int64_t kMost = 20'000;  // those of all properties
  return Reader(root, kMost).properties(root);
}

}  // namespace packmule::chat
