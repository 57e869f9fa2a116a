#include "grammar/json_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "grammar/machine.h"
#include "grammar/schema_keywords.h"
#include "grammar/schema_numbers.h"
#include "grammar/schema_strings.h"

namespace packmule::grammar {
namespace {

bool has_constraints(const Json& schema) {
  return std::any_of(schema.items().begin(), schema.items().end(),
                     [](const auto& item) { return !is_annotation(item.key()); });
}

const Json kNothing = false;
const Json kAnything = true;

/// Properties that must be there, in the order in which they are written: those of the schema, then others.
struct Members {
  struct Member {
    std::string key;
    const Json* schema;
    bool required;
    std::string pointer;
  };
  std::vector<Member> list;
  const Json* others = nullptr;  // null: there are none
  std::string others_pointer;
};

}  // namespace

Result<Expr> SchemaReader::reference(const Json& ref, const std::string& pointer) {
  PACKMULE_TRY(const Json* target, resolve(ref, pointer));
  const auto& text = ref.get_ref<const std::string&>();
  const auto [found, added] = references_.try_emplace(text);
  if (added) {
    found->second = rules_.source().add_rule(text, RuleKind::kSeparate);
    const RuleId id = found->second;
    const auto body = value(*target, text.substr(1));
    if (!body) {
      references_.erase(text);
      return body;
    }
    rules_.source().define(id, *body);
    return rules_.source().rule(id);
  }
  return rules_.source().rule(found->second);
}

Result<Expr> SchemaReader::value(const Json& schema, const std::string& pointer) {
  const Deeper deeper(depth_);
  if (depth_ > kMaxDepth)
    return bad_schema(ErrorKind::kUnsupported, pointer, "schemas are nested too deeply, or without an end");
  if (!effort_.spend(50)) return Effort::exceeded();
  Source& source = rules_.source();
  if (schema == true) return rules_.value();
  if (schema == false) return source.choice({});
  if (!schema.is_object())
    return bad_schema(ErrorKind::kInvalidArgument, pointer, "expected a schema: an object, true or false");
  PACKMULE_TRY_STATUS(check_keywords(schema, pointer));
  if (const auto ref = schema.find("$ref"); ref != schema.end()) {
    Json beside = constraints(schema);
    beside.erase("$ref");
    if (beside.empty()) return reference(*ref, pointer);
  }
  if (schema.contains("$ref") || schema.contains("allOf")) {
    PACKMULE_TRY(const Json one, flat(schema, pointer));
    return value(one, pointer);
  }
  if (schema.contains("anyOf")) return alternatives(schema, "anyOf", pointer);
  if (schema.contains("oneOf")) return alternatives(schema, "oneOf", pointer);
  if (schema.contains("const") || schema.contains("enum")) return listed_values(schema, pointer);
  return typed(schema, pointer);
}

Result<Expr> SchemaReader::alternatives(const Json& schema, const char* keyword, const std::string& pointer) {
  Json beside = constraints(schema);
  beside.erase(keyword);
  const Json& list = schema[keyword];
  const bool alone = beside.empty();
  std::vector<Json> flats;
  std::vector<Expr> choices;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string here = step(step(pointer, keyword), std::to_string(i));
    Json one = list[i];
    if (!alone || keyword[0] == 'o') {
      PACKMULE_TRY(one, flat(list[i], here));
    }
    if (!alone) {
      PACKMULE_TRY(one, merged(beside, one, here));
    }
    if (keyword[0] == 'o') flats.push_back(one);
    PACKMULE_TRY(const Expr choice, value(alone ? list[i] : one, here));
    choices.push_back(choice);
  }
  for (size_t i = 0; i < flats.size(); ++i)
    for (size_t k = 0; k < flats.size(); ++k) {
      if (i == k) continue;
      PACKMULE_TRY(const bool apart, excludes(flats[i], flats[k], pointer, 0));
      if (!apart)
        return bad_schema(
            ErrorKind::kUnsupported, step(pointer, keyword),
            fmt::format("alternatives {} and {} may both hold for a value, which 'oneOf' forbids and a "
                        "grammar cannot see to: use 'anyOf'",
                        std::min(i, k), std::max(i, k)));
    }
  return rules_.source().choice(std::move(choices));
}

Result<Expr> SchemaReader::listed_values(const Json& schema, const std::string& pointer) {
  const bool one = schema.contains("const");
  const Json list = one ? Json::array({schema["const"]}) : schema["enum"];
  const unsigned types = types_of(schema);
  // What else is said of them is asked of a grammar of its own.
  Json beside = constraints(schema);
  for (const char* key : {"const", "enum", "type"}) beside.erase(key);
  std::optional<Machine> machine;
  if (!beside.empty()) {
    beside["type"] = type_names(types);
    Source source;
    JsonRules rules(source);
    PACKMULE_TRY(const Expr body, SchemaReader(rules, root_, effort_).value(beside, pointer));
    const RuleId root = source.add_rule("#" + pointer);
    // "?", which is no JSON, so that there is something even if nothing fits.
    source.define(root, source.choice({body, source.text("?")}));
    PACKMULE_TRY(auto grammar, Grammar::compile(source, root, effort_));
    machine.emplace(std::move(grammar));
  }
  std::vector<Expr> choices;
  for (const Json& value : list) {
    if ((type_of(value) & types) == 0) continue;
    if (one && schema.contains("enum") &&
        std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end())
      continue;
    if (!effort_.spend(8)) return Effort::exceeded();
    if (machine && value.is_structured())
      return bad_schema(ErrorKind::kUnsupported, pointer,
                        fmt::format("'{}' beside '{}' with arrays or objects in it is not supported",
                                    beside.begin().key(), one ? "const" : "enum"));
    if (machine) {
      ConfigId config = machine->start();
      for (const char c : json_of(value)) config = machine->step(config, static_cast<uint8_t>(c));
      if (!machine->complete(config)) continue;
    }
    choices.push_back(rules_.literal(value));
  }
  return rules_.source().choice(std::move(choices));
}

Result<Expr> SchemaReader::typed(const Json& schema, const std::string& pointer) {
  if (!has_constraints(schema) || types_of(schema) == kAnyType) {
    bool plain = true;
    for (const auto& [key, value] : schema.items())
      plain = plain && (is_annotation(key) || key == "format" || key == "type");
    if (plain) return rules_.value();
  }
  const unsigned types = types_of(schema);
  Source& source = rules_.source();
  std::vector<Expr> choices;
  if ((types & kNull) != 0) choices.push_back(source.text("null"));
  if ((types & kBoolean) != 0) choices.insert(choices.end(), {source.text("true"), source.text("false")});
  if ((types & kNumber) != 0) {
    PACKMULE_TRY(const Expr one, number(schema, (types & kFraction) == 0, pointer));
    choices.push_back(one);
  }
  if ((types & kString) != 0) {
    PACKMULE_TRY(const Expr one, string(schema, pointer));
    choices.push_back(one);
  }
  if ((types & kArray) != 0) {
    PACKMULE_TRY(const Expr one, array(schema, pointer));
    choices.push_back(one);
  }
  if ((types & kObject) != 0) {
    PACKMULE_TRY(const Expr one, object(schema, pointer));
    choices.push_back(one);
  }
  return source.choice(std::move(choices));
}

Result<Expr> SchemaReader::string(const Json& schema, const std::string& pointer) {
  if (!limits_strings(schema)) return rules_.string();
  auto content = string_content(rules_, schema, StringForm::kJson, effort_);
  if (!content) return bad_schema(content.error().kind, pointer, content.error().message);
  Source& source = rules_.source();
  return source.sequence({source.text("\""), *content, source.text("\"")});
}

Result<Expr> SchemaReader::number(const Json& schema, bool whole, const std::string& pointer) {
  std::optional<Bound> low, high;
  const auto tighten = [&](const char* keyword, std::optional<Bound>& bound, bool excluded, bool is_low) {
    const auto value = schema.find(keyword);
    if (value == schema.end()) return;
    if (!bound || (is_low ? *value >= bound->value : *value <= bound->value)) bound = Bound{*value, excluded};
  };
  tighten("minimum", low, false, true);
  tighten("exclusiveMinimum", low, true, true);
  tighten("maximum", high, false, false);
  tighten("exclusiveMaximum", high, true, false);
  if (!low && !high) return whole ? rules_.integer() : rules_.number();
  auto made = number_between(rules_, whole, low, high, effort_);
  if (!made) return bad_schema(made.error().kind, pointer, made.error().message);
  return *made;
}

Result<Expr> SchemaReader::array(const Json& schema, const std::string& pointer) {
  Source& source = rules_.source();
  const int64_t min = schema.value("minItems", int64_t{0});
  const int64_t max = schema.contains("maxItems") ? schema["maxItems"].get<int64_t>() : kUnlimited;
  // Before the draft of 2020 `items` could be the list that `prefixItems` is now.
  const bool old_form = schema.contains("items") && schema["items"].is_array();
  const Json first = old_form ? schema["items"] : schema.value("prefixItems", Json::array());
  const Json& rest = !old_form && schema.contains("items") ? schema["items"] : kAnything;
  const RuleId id = source.add_rule("#" + pointer, RuleKind::kSeparate);
  std::vector<Expr> items;
  for (size_t i = 0; i < first.size(); ++i) {
    const std::string here = step(step(pointer, old_form ? "items" : "prefixItems"), std::to_string(i));
    PACKMULE_TRY(const Expr one, value(first[i], here));
    items.push_back(one);
  }
  PACKMULE_TRY(const Expr other, value(rest, step(pointer, "items")));
  if (items.empty()) {
    source.define(id, rules_.listed('[', other, min, rest == kNothing ? 0 : max, ']'));
    return source.rule(id);
  }
  // Places: 0 begin, 1 end, then one behind each of the first items.
  const auto n = static_cast<int64_t>(items.size());
  std::vector<Source::Edge> edges;
  uint32_t next = 2, at = 0;
  for (int64_t i = 0; i <= n; ++i) {
    if (max != kUnlimited && i > max) break;
    if (i >= min && i < n) edges.push_back({at, 1, i == 0 ? source.text("") : rules_.space()});
    if (i == n) {
      const int64_t most = rest == kNothing ? 0 : max == kUnlimited ? kUnlimited : max - n;
      const Expr more =
          source.repeat(source.sequence({rules_.comma(), other}), std::max<int64_t>(min - n, 0), most);
      edges.push_back({at, 1, source.sequence({more, rules_.space()})});
      break;
    }
    const Expr item = items[static_cast<size_t>(i)];
    edges.push_back({at, next, i == 0 ? item : source.sequence({rules_.comma(), item})});
    at = next++;
  }
  source.define(id, source.sequence({source.text("["), rules_.space(), source.graph(next, std::move(edges)),
                                     source.text("]")}));
  return source.rule(id);
}

Result<Expr> SchemaReader::object(const Json& schema, const std::string& pointer) {
  Source& source = rules_.source();
  Members members;
  const Json none = Json::object();
  const auto declared = schema.find("properties");
  const auto more = schema.find("additionalProperties");
  const bool unevaluated = schema.value("unevaluatedProperties", Json()) == false;
  if (more != schema.end())
    members.others = &*more;
  else if (declared == schema.end() && !unevaluated)
    members.others = &kAnything;
  if (members.others != nullptr && *members.others == false) members.others = nullptr;
  members.others_pointer = step(pointer, "additionalProperties");
  std::set<std::string> required;
  for (const Json& key : schema.value("required", Json::array())) required.insert(key.get<std::string>());
  std::vector<std::string> keys;
  if (declared != schema.end())
    for (const auto& [key, one] : declared->items()) {
      keys.push_back(key);
      if (one == false && !required.contains(key)) continue;  // it must not be there
      members.list.push_back({key, &one, required.contains(key), step(step(pointer, "properties"), key)});
    }
  for (const Json& key : schema.value("required", Json::array())) {
    const auto name = key.get<std::string>();
    if (std::find(keys.begin(), keys.end(), name) != keys.end()) continue;
    keys.push_back(name);
    // One that is not declared is one of the others; nothing forbids it if nothing is said of them.
    const Json* others = more != schema.end() || unevaluated ? members.others : &kAnything;
    members.list.push_back({name, others == nullptr ? &kNothing : others, true, members.others_pointer});
  }

  Expr other_key = 0;
  if (members.others != nullptr) {
    const auto names = schema.find("propertyNames");
    Json flat_names = Json::object();
    if (names != schema.end()) {
      PACKMULE_TRY(flat_names, flat(*names, step(pointer, "propertyNames")));
    }
    flat_names.erase("type");
    if (flat_names.empty()) {
      other_key = keys.empty() ? rules_.string() : rules_.key_except(keys);
    } else {
      if (!keys.empty())
        return bad_schema(ErrorKind::kUnsupported, pointer,
                          "'propertyNames' beside 'properties' is not supported");
      flat_names["type"] = "string";
      PACKMULE_TRY(other_key, value(flat_names, step(pointer, "propertyNames")));
    }
  }

  const int64_t min = std::max<int64_t>(schema.value("minProperties", int64_t{0}), 0);
  const int64_t max = schema.contains("maxProperties") ? schema["maxProperties"].get<int64_t>() : kUnlimited;
  const RuleId id = source.add_rule("#" + pointer, RuleKind::kSeparate);
  const auto n = static_cast<int64_t>(members.list.size());
  if (n == 0 && members.others != nullptr) {
    PACKMULE_TRY(const Expr other, value(*members.others, members.others_pointer));
    source.define(id, rules_.listed('{', source.sequence({other_key, rules_.colon(), other}), min, max, '}'));
    return source.rule(id);
  }

  // A place for each number of properties decided on and each number of those that are there; without limits
  // it matters only whether there are any.
  const int64_t most = max != kUnlimited ? std::min(max, n + (members.others != nullptr ? max : 0))
                                         : std::max<int64_t>(min, 1);
  constexpr int64_t kMaxPlaces = 40'000;
  if ((n + 1) * (most + 1) > kMaxPlaces)
    return bad_schema(ErrorKind::kUnsupported, pointer,
                      "'minProperties' or 'maxProperties' this large beside 'properties' are not supported");
  const auto place = [&](int64_t decided, int64_t there) {
    return static_cast<uint32_t>(2 + decided * (most + 1) + there);
  };
  const auto n_places = place(n, most) + 1;
  std::vector<Source::Edge> edges{{0, place(0, 0), source.text("")}};
  uint32_t n_all = n_places;
  // From any of the places before a property to those behind it, by way of one place for each number.
  const auto add_property = [&](Expr key, Expr value_expr, int64_t before, int64_t after) {
    std::vector<std::optional<uint32_t>> middle(static_cast<size_t>(most) + 1);
    for (int64_t there = 0; there <= most; ++there) {
      if (max != kUnlimited && there == most) continue;
      const int64_t then = std::min(there + 1, most);
      auto& m = middle[static_cast<size_t>(then)];
      if (!m) {
        m = n_all++;
        edges.push_back({*m, place(after, then), source.sequence({rules_.colon(), value_expr})});
      }
      edges.push_back({place(before, there), *m, there == 0 ? key : source.sequence({rules_.comma(), key})});
    }
  };
  for (int64_t i = 0; i < n; ++i) {
    const Members::Member& member = members.list[static_cast<size_t>(i)];
    PACKMULE_TRY(const Expr one, value(*member.schema, member.pointer));
    if (!effort_.spend(8 * most)) return Effort::exceeded();
    add_property(source.text(json_of(Json(member.key))), one, i, i + 1);
    if (!member.required)
      for (int64_t there = 0; there <= most; ++there)
        edges.push_back({place(i, there), place(i + 1, there), source.text("")});
  }
  if (members.others != nullptr) {
    PACKMULE_TRY(const Expr other, value(*members.others, members.others_pointer));
    add_property(other_key, other, n, n);
  }
  for (int64_t there = 0; there <= most; ++there)
    if (there >= min) edges.push_back({place(n, there), 1, there == 0 ? source.text("") : rules_.space()});
  source.define(id, source.sequence({source.text("{"), rules_.space(), source.graph(n_all, std::move(edges)),
                                     source.text("}")}));
  return source.rule(id);
}

namespace {

Result<std::shared_ptr<const Grammar>> compiled(Source& source, Expr body, Effort& effort) {
  const RuleId root = source.add_rule("the schema", RuleKind::kSeparate);
  source.define(root, body);
  return Grammar::compile(source, root, effort);
}

}  // namespace

Result<std::shared_ptr<const Grammar>> compile_json_schema(const Json& schema) {
  Source source;
  JsonRules rules(source);
  Effort effort;
  PACKMULE_TRY(const Expr body, SchemaReader(rules, schema, effort).value(schema, ""));
  return compiled(source, body, effort);
}

Result<std::shared_ptr<const Grammar>> compile_json_object() {
  Source source;
  JsonRules rules(source);
  Effort effort;
  const Expr body = rules.any_object();
  return compiled(source, body, effort);
}

}  // namespace packmule::grammar
