#include "chat/tool_arguments.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace packmule::chat {
namespace {

using enum ValueType;

TEST(ToolArguments, TakesTheFirstTypeThatFits) {
  struct Case {
    ValueTypes types;
    std::string_view text;
    std::string_view json;
  };
  const Case cases[] = {
      {{}, " 12 ", R"(" 12 ")"},
      {{kString}, "null", R"("null")"},
      {{kBoolean}, " TRUE\n", "true"},
      {{kBoolean}, "False", "false"},
      {{kBoolean}, "yes", R"("yes")"},
      {{kInteger}, "-7", "-7"},
      {{kInteger}, "3.0", "3"},
      {{kInteger}, "2e3", "2000"},
      {{kInteger}, "3.5", R"("3.5")"},
      {{kInteger}, "123456789012345678901234567890", "123456789012345678901234567890"},
      {{kInteger}, "01", R"("01")"},
      {{kInteger}, "true", R"("true")"},
      {{kNumber}, "1.50", "1.50"},
      {{kNumber}, "NaN", R"("NaN")"},
      {{kNumber}, "", R"("")"},
      {{kArray}, " [1, \"a\"]", R"([1, "a"])"},
      {{kArray}, "{}", R"("{}")"},
      {{kObject}, "{\"a\": {}}\n", R"({"a": {}})"},
      {{kObject}, "{'a': 1}", R"("{'a': 1}")"},
      {{kNull}, "None", "null"},
      {{kNull}, "none", R"("none")"},
      {{kString, kNull}, "null", "null"},
      {{kString, kNull}, " null and void", R"(" null and void")"},
      {{kString, kInteger, kBoolean}, "7", "7"},
      {{kInteger, kNumber}, "7.5", "7.5"},
  };
  for (const Case& c : cases) EXPECT_EQ(argument_json(c.text, c.types), c.json) << c.text;
}

TEST(ToolArguments, EscapesWhatJsonCannotHold) {
  EXPECT_EQ(json_escaped("a\"b\\c\n\r\t\x01\x1f\x7f\xc3\xa4"),
            "a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa4");
  std::string all;
  for (char c = 0; c < 127; ++c) all += c;
  EXPECT_EQ(Json::parse('"' + json_escaped(all) + '"'), Json(all));
}

TEST(ToolArguments, ReadsTheTypesOfSchemas) {
  const auto types = [](std::string_view schema) {
    Json tools =
        Json::parse(R"([{"type":"function","function":{"name":"f","parameters":{"properties":{"p":0}}}}])");
    tools[0]["function"]["parameters"]["properties"]["p"] = Json::parse(schema);
    return ToolSchemas(tools).find("f")->at("p");
  };
  EXPECT_EQ(types(R"({"type":"integer"})"), ValueTypes{kInteger});
  EXPECT_EQ(types(R"({"type":["string","null"]})"), (ValueTypes{kString, kNull}));
  EXPECT_EQ(types(R"({"anyOf":[{"type":"integer"},{"oneOf":[{"type":"null"},{"type":"integer"}]}]})"),
            (ValueTypes{kInteger, kNull}));
  for (const char* nothing : {"{}", "1", R"({"type":1})", R"({"type":"date"})", R"({"anyOf":{}})"})
    EXPECT_EQ(types(nothing), ValueTypes{}) << nothing;
}

TEST(ToolArguments, FollowsReferences) {
  const Json root = Json::parse(R"({
    "$defs": {
      "point": {"type": "object", "properties": {"x": {"type": "number"}}},
      "a/b~c d": {"type": "boolean"},
      "list": {"anyOf": [{"$ref": "#/$defs/point"}, {"type": "null"}]},
      "own": {"anyOf": [{"$ref": "#/$defs/own"}, {"type": "integer"}]},
      "ring": {"$ref": "#/$defs/ring2"}, "ring2": {"allOf": [{"$ref": "#/$defs/ring"}]},
      "wide": {"anyOf": [{"$ref": "#/$defs/wide2"}, {"$ref": "#/$defs/wide2"}]},
      "wide2": {"anyOf": [{"$ref": "#/$defs/wide3"}, {"$ref": "#/$defs/wide3"}]},
      "wide3": {"oneOf": [{"type": "array"}, {"type": "array"}]}},
    "properties": {"p": {"type": "array"}, "q": [{"type": "null"}]}})");
  const struct {
    const char* schema;
    ValueTypes types;
  } cases[] = {
      {R"({"$ref": "#/$defs/point"})", {kObject}},
      {R"({"$ref": "#/$defs/a~1b~0c%20d"})", {kBoolean}},
      {R"({"$ref": "#/$defs/list", "description": "d"})", {kObject, kNull}},
      {R"({"allOf": [{"$ref": "#/$defs/point"}], "description": "d"})", {kObject}},
      {R"({"anyOf": [{"$ref": "#/$defs/point"}, {"type": "string"}]})", {kObject, kString}},
      {R"({"$ref": "#/$defs/list", "type": "object"})", {kObject}},
      {R"({"$ref": "#/properties/p"})", {kArray}},
      {R"({"$ref": "#/properties/q/0"})", {kNull}},
      {R"({"$ref": "#/$defs/own"})", {kInteger}},
      {R"({"$ref": "#/$defs/wide"})", {kArray}},
      {R"({"allOf": [{"type": "number"}, {"type": ["integer", "null"]}]})", {kInteger}},
      {R"({"enum": [1, "a", null]})", {kInteger, kString, kNull}},
      {R"({"const": 2.5})", {kNumber}},
      {R"({"properties": {"x": {}}})", {kObject}},
      {R"({"minimum": 1})", {kNumber}},
      {R"({"$ref": "#/$defs/ring"})", {}},
      {R"({"$ref": "#/$defs/none"})", {}},
      {R"({"$ref": "#/properties/q/1"})", {}},
      {R"({"$ref": "#/properties/q/01x"})", {}},
      {R"({"$ref": "#anchor"})", {}},
      {R"({"$ref": "other.json#/a"})", {}},
      {R"({"$ref": 5})", {}},
  };
  for (const auto& c : cases) EXPECT_EQ(value_types(Json::parse(c.schema), root), c.types) << c.schema;

  // As a tool has it.
  const ToolSchemas tools(Json::array(
      {{{"function",
         {{"name", "f"},
          {"parameters",
           {{"$defs", root["$defs"]}, {"properties", {{"p", {{"$ref", "#/$defs/point"}}}}}}}}}}}));
  EXPECT_EQ(tools.find("f")->at("p"), ValueTypes{kObject});
}

TEST(ToolArguments, FindsPropertiesWhereverTheyAreDeclared) {
  const PropertyTypes expected = {{"n", {kInteger}}, {"s", {kString}}};
  for (
      const char* schema : {
          R"({"$ref": "#/$defs/X", "$defs": {"X": {"properties": {"n": {"type": "integer"}, "s": {"$ref": "#/$defs/S"}}},
               "S": {"type": "string"}}})",
          R"({"$ref": "#/$defs/Y", "$defs": {"Y": {"$ref": "#/$defs/X"},
               "X": {"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}}})",
          R"({"allOf": [{"$ref": "#/definitions/X"}], "description": "d", "definitions": {"X": {"type": "object",
               "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}}})",
          R"({"allOf": [{"properties": {"n": {"type": "number"}}}, {"properties": {"s": {"type": "string"}}}],
               "properties": {"n": {"type": "integer"}}})",
          R"({"properties": {"n": {"type": "integer"}}, "anyOf": [{"properties": {"s": {"type": "string"}}}, {"required": ["n"]}]})",
          R"({"$ref": "#", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}})",
      })
    EXPECT_EQ(property_types(Json::parse(schema)), expected) << schema;
  EXPECT_EQ(
      property_types(Json::parse(
          R"({"oneOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"a": {"type": "string"}}}]})")),
      (PropertyTypes{{"a", {kInteger, kString}}}))
      << "either";
  for (const char* nothing :
       {"[]", "{}", R"({"$ref": "#/$defs/none"})", R"({"properties": []})", R"({"allOf": {}})"})
    EXPECT_TRUE(property_types(Json::parse(nothing)).empty()) << nothing;
}

TEST(ToolArguments, BoundsWhatReferencesCost) {
  // Each doubles what is behind it.
  Json root = {{"$defs", {{"d0", {{"type", "integer"}}}}}};
  for (int i = 1; i < 60; ++i) {
    const Json one = {{"$ref", fmt::format("#/$defs/d{}", i - 1)}};
    root["$defs"][fmt::format("d{}", i)] = {{"anyOf", Json::array({one, one})}};
  }
  const ValueTypes types = value_types({{"$ref", "#/$defs/d59"}}, root);
  EXPECT_TRUE(types.empty() || types == ValueTypes{kInteger});
  root["$ref"] = "#/$defs/d59";
  EXPECT_TRUE(property_types(root).empty());
  // Many properties, many times.
  Json wide = {{"$defs", {{"all", {{"properties", Json::object()}}}}}, {"allOf", Json::array()}};
  for (int i = 0; i < 4000; ++i) {
    wide["$defs"]["all"]["properties"][fmt::format("p{}", i)] = true;
    wide["allOf"].push_back({{"$ref", "#/$defs/all"}});
  }
  EXPECT_EQ(property_types(wide).size(), 4000u) << "16 million, if all were looked at";
  // A large tool that is only large.
  Json large = {{"properties", Json::object()}};
  for (int i = 0; i < 1000; ++i)
    large["properties"][fmt::format("p{}", i)] = {
        {"anyOf", Json::array({{{"type", "null"}}, {{"type", "integer"}}, {{"const", 1}}})}};
  const PropertyTypes found = property_types(large);
  EXPECT_EQ(found.size(), 1000u);
  for (const auto& [key, of_one] : found) EXPECT_EQ(of_one, (ValueTypes{kNull, kInteger})) << key;
}

TEST(ToolArguments, TakesToolsWithoutASchema) {
  const ToolSchemas tools(Json::parse(
      R"([{"function":{"name":"a"}},{"function":{"name":"b","parameters":[]}},
          {"function":{"name":"c","parameters":{"properties":null}}}])"));
  for (const char* name : {"a", "b", "c"}) EXPECT_TRUE(tools.find(name)->empty());
  EXPECT_EQ(tools.find("d"), nullptr);
  EXPECT_EQ(ToolSchemas(nullptr).find("a"), nullptr);
}

}  // namespace
}  // namespace packmule::chat
