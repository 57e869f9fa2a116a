// Schemas that hold together, as one (allOf, $ref with something beside it), and schemas that exclude each
// other.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "grammar/json_schema.h"
#include "grammar/schema_keywords.h"
#include "grammar/schema_strings.h"

namespace packmule::grammar {
namespace {

Json as_list(const Json& type) {
  return type.is_array() ? type : Json::array({type});
}

std::string decoded(std::string_view step) {
  std::string out;
  const auto hex = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  for (size_t i = 0; i < step.size(); ++i) {
    if (step[i] == '%' && i + 2 < step.size() && hex(step[i + 1]) >= 0 && hex(step[i + 2]) >= 0) {
      out += static_cast<char>(hex(step[i + 1]) << 4 | hex(step[i + 2]));
      i += 2;
    } else {
      out += step[i];
    }
  }
  for (size_t at = 0; (at = out.find('~', at)) != std::string::npos; ++at) {
    if (out.compare(at, 2, "~1") == 0)
      out.replace(at, 2, "/");
    else if (out.compare(at, 2, "~0") == 0)
      out.replace(at, 2, "~");
  }
  return out;
}

}  // namespace

Result<const Json*> SchemaReader::resolve(const Json& ref, const std::string& pointer) const {
  const auto& text = ref.get_ref<const std::string&>();
  const auto refuse = [&](std::string_view reason) {
    return bad_schema(ErrorKind::kUnsupported, step(pointer, "$ref"), fmt::format("\"{}\" {}", text, reason));
  };
  if (text.empty() || text[0] != '#')
    return refuse("is a reference to another document, which is not supported");
  if (text.size() > 1 && text[1] != '/') return refuse("is a reference to an anchor, which is not supported");
  const Json* at = &root_;
  for (size_t begin = 2; begin <= text.size();) {
    const size_t end = std::min(text.find('/', begin), text.size());
    const std::string key = decoded(std::string_view(text).substr(begin, end - begin));
    if (at->is_object() && at->contains(key)) {
      at = &(*at)[key];
    } else if (at->is_array() && !key.empty() && key.size() < 9 &&
               std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
               std::stoul(key) < at->size()) {
      at = &(*at)[std::stoul(key)];
    } else {
      return refuse("leads nowhere in the schema");
    }
    begin = end + 1;
  }
  if (!at->is_object() && !at->is_boolean()) return refuse("does not lead to a schema");
  return at;
}

Result<Json> SchemaReader::flat(const Json& schema, const std::string& pointer) {
  const Deeper deeper(depth_);
  if (depth_ > kMaxDepth)
    return bad_schema(ErrorKind::kUnsupported, pointer, "schemas are nested too deeply, or without an end");
  if (!effort_.spend(50)) return Effort::exceeded();
  if (schema.is_boolean()) {
    if (schema == true) return Json::object();
    return Json{{"enum", Json::array()}};
  }
  PACKMULE_TRY_STATUS(check_keywords(schema, pointer));
  Json out = constraints(schema);
  out.erase("$ref");
  out.erase("allOf");
  if (const auto ref = schema.find("$ref"); ref != schema.end()) {
    PACKMULE_TRY(const Json* target, resolve(*ref, pointer));
    PACKMULE_TRY(const Json one, flat(*target, ref->get_ref<const std::string&>().substr(1)));
    PACKMULE_TRY(out, merged(one, out, pointer));
  }
  if (const auto all = schema.find("allOf"); all != schema.end()) {
    // The schemas of the list come first: what stands beside it is said last, as a rule for more.
    Json sum = Json::object();
    for (size_t i = 0; i < all->size(); ++i) {
      const std::string here = step(step(pointer, "allOf"), std::to_string(i));
      PACKMULE_TRY(const Json one, flat((*all)[i], here));
      PACKMULE_TRY(sum, merged(sum, one, here));
    }
    PACKMULE_TRY(out, merged(sum, out, pointer));
  }
  return out;
}

/// Of two flat schemas.
Result<Json> SchemaReader::merged(const Json& a, const Json& b, const std::string& pointer) {
  if (!effort_.spend(static_cast<int64_t>(a.size() + b.size()))) return Effort::exceeded();
  if (a.empty()) return b;
  if (b.empty()) return a;
  const auto refuse = [&](std::string_view what) {
    return bad_schema(ErrorKind::kUnsupported, pointer,
                      fmt::format("{} that hold together are not supported", what));
  };
  Json out = a;
  const auto both_hold = [](const Json& x, const Json& y) { return Json{{"allOf", Json::array({x, y})}}; };
  const auto listed = [](const Json& s) -> std::optional<Json> {
    if (const auto one = s.find("const"); one != s.end()) return Json::array({*one});
    if (const auto list = s.find("enum"); list != s.end()) return *list;
    return std::nullopt;
  };

  // A property that only one declares is subject to the other's additionalProperties.
  if (a.contains("properties") || b.contains("properties")) {
    Json properties = Json::object();
    const auto add_all = [&](const Json& from, const Json& other) {
      const Json declared = from.value("properties", Json::object());
      const Json elsewhere = other.value("properties", Json::object());
      for (const auto& [key, schema] : declared.items()) {
        if (properties.contains(key)) continue;
        if (elsewhere.contains(key))
          properties[key] = schema == elsewhere[key] ? schema : both_hold(schema, elsewhere[key]);
        else if (const auto more = other.find("additionalProperties"); more != other.end() && *more != true)
          properties[key] = both_hold(schema, *more);
        else
          properties[key] = schema;
      }
    };
    add_all(a, b);
    add_all(b, a);
    out["properties"] = std::move(properties);
  }
  for (const auto& [key, value] : b.items()) {
    const auto mine = a.find(key);
    if (key == "properties") continue;
    if (key == "enum" || key == "const") {
      const auto other = listed(a);
      const Json list = *listed(b);
      Json both = Json::array();
      for (const Json& one : list)
        if (!other || std::find(other->begin(), other->end(), one) != other->end()) both.push_back(one);
      out.erase("const");
      out["enum"] = std::move(both);
    } else if (mine == a.end() || *mine == value) {
      out[key] = value;
    } else if (key == "type") {
      out[key] = type_names(types_of(Json{{"type", *mine}}) & types_of(Json{{"type", value}}));
    } else if (key == "required") {
      for (const Json& one : value)
        if (std::find(mine->begin(), mine->end(), one) == mine->end()) out[key].push_back(one);
    } else if (key.starts_with("min") || key == "exclusiveMinimum") {
      out[key] = std::max(*mine, value);
    } else if (key.starts_with("max") || key == "exclusiveMaximum") {
      out[key] = std::min(*mine, value);
    } else if (key == "pattern") {
      out[key] = as_list(*mine);
      for (const Json& one : as_list(value)) out[key].push_back(one);
    } else if (key == "additionalProperties" || key == "propertyNames" ||
               (key == "items" && !a.contains("prefixItems") && !b.contains("prefixItems"))) {
      out[key] = *mine == false || value == false ? Json(false) : both_hold(*mine, value);
    } else if (key == "unevaluatedProperties") {
      out[key] = false;
    } else {
      return refuse(fmt::format("several '{}'", key));
    }
  }
  if ((a.contains("prefixItems") && b.contains("items")) ||
      (b.contains("prefixItems") && a.contains("items")))
    if (a.value("items", Json()) != b.value("items", Json())) return refuse("'prefixItems' and 'items'");
  if (out.contains("type") && out["type"].is_array() && out["type"].empty())
    return Json{{"enum", Json::array()}};
  return out;
}

Result<bool> SchemaReader::excludes(const Json& a, const Json& b, const std::string& pointer, int depth) {
  constexpr int kDepth = 8;
  if (depth > kDepth) return false;
  if (!effort_.spend(20)) return Effort::exceeded();
  // Alternatives exclude what all of them exclude.
  for (const char* keyword : {"anyOf", "oneOf"}) {
    for (const bool of_a : {true, false}) {
      const Json& with = of_a ? a : b;
      const auto list = with.find(keyword);
      if (list == with.end()) continue;
      bool all = true;
      for (const Json& one : *list) {
        PACKMULE_TRY(const Json flattened, flat(one, pointer));
        PACKMULE_TRY(const bool apart, of_a ? excludes(flattened, b, pointer, depth + 1)
                                            : excludes(a, flattened, pointer, depth + 1));
        all = all && apart;
      }
      if (all) return true;
    }
  }
  const unsigned common = types_of(a) & types_of(b);
  if (common == 0) return true;
  const auto values = [](const Json& s) -> std::optional<Json> {
    if (const auto one = s.find("const"); one != s.end()) return Json::array({*one});
    if (const auto list = s.find("enum"); list != s.end()) return *list;
    return std::nullopt;
  };
  const auto of_a = values(a), of_b = values(b);
  if (of_a && of_b)
    return std::none_of(of_a->begin(), of_a->end(), [&](const Json& one) {
      return std::find(of_b->begin(), of_b->end(), one) != of_b->end();
    });
  if (common == kString && limits_strings(a) && limits_strings(b) && !of_a && !of_b) {
    Effort some{std::min<int64_t>(effort_.left, 300'000)};
    const auto x = string_content(rules_, a, StringForm::kRaw, some);
    const auto y = string_content(rules_, b, StringForm::kRaw, some);
    if (!x || !y) return false;
    const auto p = automaton_of(rules_.source(), *x, some);
    const auto q = automaton_of(rules_.source(), *y, some);
    if (!p || !q) return false;
    const auto both = intersect(*p, *q, some);
    return both && is_empty(*both);
  }
  if (common == kObject) {
    const Json none = Json::object();
    const Json properties_a = a.value("properties", none), properties_b = b.value("properties", none);
    const auto requires_key = [](const Json& s, const std::string& key) {
      const auto required = s.find("required");
      return required != s.end() && std::find(required->begin(), required->end(), key) != required->end();
    };
    const Json required_a = a.value("required", Json::array()),
               required_b = b.value("required", Json::array());
    const bool a_is_closed =
        a.contains("additionalProperties") ? a["additionalProperties"] == false : a.contains("properties");
    for (const Json& key : required_b)
      if (a_is_closed && !properties_a.contains(key) && !requires_key(a, key)) return true;
    for (const Json& key : required_a)
      if (b.value("additionalProperties", Json()) == false && !properties_b.contains(key)) return true;
    for (const auto& [key, of_property] : properties_a.items()) {
      if (!requires_key(a, key) || !properties_b.contains(key)) continue;
      PACKMULE_TRY(const Json x, flat(of_property, pointer));
      PACKMULE_TRY(const Json y, flat(properties_b[key], pointer));
      PACKMULE_TRY(const bool apart, excludes(x, y, pointer, depth + 1));
      if (apart) return true;
    }
  }
  return false;
}

}  // namespace packmule::grammar
