#include "grammar/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "grammar/machine.h"

namespace packmule::grammar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

bool accepts(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  Machine machine(grammar);
  ConfigId config = machine.start();
  for (const char c : text) config = machine.step(config, static_cast<uint8_t>(c));
  EXPECT_FALSE(machine.overflowed());
  return machine.complete(config);
}

void check(std::string_view schema, const std::vector<std::string>& yes, const std::vector<std::string>& no) {
  SCOPED_TRACE(schema);
  const auto grammar = compile_json_schema(Json::parse(schema));
  ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
  for (const auto& text : yes) EXPECT_TRUE(accepts(*grammar, text)) << text;
  for (const auto& text : no) EXPECT_FALSE(accepts(*grammar, text)) << text;
}

std::string refused(std::string_view schema) {
  const auto grammar = compile_json_schema(Json::parse(schema));
  EXPECT_FALSE(grammar.has_value()) << schema;
  return grammar ? std::string() : grammar.error().message;
}

TEST(JsonSchema, AnyValue) {
  check("true", {"1", "-0.5e+3", "\"\"", "null", "[]", "[ 1, {\"a\": [true]} ]", "{}", "{\n  \"a\": 1\n}"},
        {"", "01", "1.", "{a:1}", "[1,]", "tru", "\"\n\"", "{\"a\" 1}", "[1]]", "+1", ".5", "nul l"});
  check("{}", {R"("\u00e4\ud83d\ude00\/")", R"("\n")"},
        {R"("\ud83d")", R"("\ude00x")", R"("\x")", "\"\xff\"", "\"\xc3\""});
}

TEST(JsonSchema, WhiteSpaceIsBounded) {
  check(R"({"type": "array"})", {"[1, 2]", "[1,2]", "[\n\t1\n,\n\n    2\n]", "[ 1 , 2 ]"},
        {"[  1]", "[\n\n\n1]", " [1]", "[1] ", "[\n" + std::string(65, ' ') + "1]"});
}

TEST(JsonSchema, ObjectsKeepTheirOrder) {
  const char* schema = R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"},
                                                            "c": {"type": "null"}}, "required": ["b"]})";
  check(schema, {R"({"b": ""})", R"({"a":1,"b":"x","c":null})", R"({"b":"","c":null})"},
        {R"({})", R"({"a":1})", R"({"b":"","a":1})", R"({"b":"","b":""})", R"({"b":"","d":1})", R"({"b":1})",
         R"({"b":"",})"});
  check(
      R"({"properties": {"a": true}, "additionalProperties": {"type": "integer"}, "required": ["z"]})",
      {R"({"a":1,"z":2,"y":3,"x":4})", R"({"z":1})"},
      {R"({"y":1})", R"({"a":1,"z":"2"})", R"({"z":1,"z":2})", R"({"z":1,"a":2})", R"({"z":1,"\u0061":2})"});
  check(R"({"type":"object","properties":{"a":{},"b":{},"c":{}},"minProperties":2,"maxProperties":2})",
        {R"({"a":1,"b":1})", R"({"b":1,"c":1})", R"({"a":1,"c":1})"},
        {R"({"a":1})", R"({"a":1,"b":1,"c":1})", "{}"});
  check(R"({"allOf":[{"type":"object"}],"unevaluatedProperties":false})", {"{}"}, {R"({"a":1})"});
  check(R"({"type":"object","maxProperties":1})", {"{}", R"({"a":1})"}, {R"({"a":1,"b":2})"});
  check(R"({"type":"object","properties":{"a":false,"b":{}}})", {"{}", R"({"b":1})"}, {R"({"a":1})"});
  check(R"({"type":"object","propertyNames":{"type":"string"},"additionalProperties":{}})", {R"({"x y":1})"},
        {});
  check(R"({"type":"object","propertyNames":{"enum":["x","y"]}})", {R"({"x":1,"y":2})", "{}"},
        {R"({"z":1})"});
}

TEST(JsonSchema, ManyOptionalProperties) {
  Json schema = {{"type", "object"}};
  std::string all = "{";
  for (int i = 0; i < 150; ++i) {
    const std::string key = "property_" + std::to_string(i);
    schema["properties"][key] = {{"type", "integer"}};
    all += (i == 0 ? "\"" : ",\"") + key + "\":1";
  }
  check(schema.dump(), {all + "}", R"({"property_3":1,"property_149":0})", "{}"},
        {R"({"property_4":1,"property_3":0})"});
}

TEST(JsonSchema, Strings) {
  check(R"({"type":"string","minLength":2,"maxLength":3})", {R"("ab")", R"("ä😀\n")", R"("\ud83d\ude00b")"},
        {R"("a")", R"("abcd")", R"("\\")"});
  const std::string many(5000, 'x');
  check(R"({"type":"string","maxLength":5000})", {"\"" + many + "\"", "\"\""}, {"\"" + many + "x\""});
  check(R"({"pattern":"b+"})", {R"("abc")", R"("b")"}, {R"("a")", "1"});
  check(R"({"pattern":"^\"\\s?$"})", {R"("\"")", R"("\" ")", R"("\"\n")", R"("\"\t")"}, {R"("x")"});
  check(R"({"pattern":"^a.c$"})", {R"("abc")", R"("a\"c")", R"("a\\c")"}, {R"("a\nc")"});
  check(R"({"pattern":"^[a-c]*$","minLength":2,"maxLength":3,"format":"hostname"})", {R"("abc")"},
        {R"("a")", R"("abca")", R"("xy")"});
  check(R"({"format":"date"})", {R"("2024-02-29")"}, {R"("2023-02-29")", "1"});
  check(R"({"format":"int32","type":"integer"})", {"1"}, {"\"1\""});
}

TEST(JsonSchema, Numbers) {
  check(R"({"type":"integer","minimum":-12,"maximum":105})", {"-12", "-9", "0", "7", "99", "100", "105"},
        {"-13", "106", "1000", "00", "1.0", "-100"});
  check(R"({"type":"integer","exclusiveMinimum":9,"exclusiveMaximum":12})", {"10", "11"},
        {"9", "12", "1", "-10"});
  check(R"({"type":"integer","minimum":1.5})", {"2", "10", "1000000"}, {"1", "0", "-2"});
  check(R"({"type":"number","minimum":0.25,"exclusiveMaximum":10})", {"0.25", "0.3", "1", "9.999", "0.250"},
        {"0.2", "0.249", "10", "10.0", "-1", "1e0", "0"});
  check(R"({"type":"number","exclusiveMinimum":-1.5,"maximum":-0.5})", {"-1.49", "-1", "-0.5", "-0.50"},
        {"-1.5", "-1.50", "-0.4", "0", "1", "-2"});
  check(R"({"type":"number","exclusiveMinimum":0})", {"0.001", "1", "12.5"}, {"0", "-0", "0.0", "-1"});
  check(R"({"type":"number","exclusiveMaximum":0})", {"-0.001", "-1"}, {"0", "-0", "0.0", "1"});
  check(R"({"type":"integer","minimum":9007199254740993,"maximum":9223372036854775807})",
        {"9007199254740993", "9223372036854775807"}, {"9007199254740992", "9223372036854775808"});
  check(R"({"type":"number","minimum":1e-3,"maximum":2.5e2})", {"0.001", "250", "249.9"},
        {"0.0009", "250.1"});
  // Every integer of a range, by counting.
  for (const auto& [low, high] : {std::pair{-21, 34}, {5, 5}, {-120, -99}, {88, 1203}, {0, 0}}) {
    const auto grammar = compile_json_schema(Json{{"type", "integer"}, {"minimum", low}, {"maximum", high}});
    ASSERT_TRUE(grammar.has_value());
    for (int i = low - 30; i <= high + 30; ++i)
      EXPECT_EQ(accepts(*grammar, std::to_string(i)), low <= i && i <= high)
          << low << " " << high << " " << i;
  }
}

TEST(JsonSchema, Combinations) {
  check(R"({"type":"object","properties":{"k":{"type":"string"}},"required":["k"],"anyOf":[
      {"properties":{"n":{"type":"integer"}},"required":["n"]},{"properties":{"s":{"type":"null"}},"required":["s"]}]})",
        {R"({"k":"","n":1})", R"({"k":"","s":null})"}, {R"({"k":""})", R"({"k":"","n":null})"});
  check(R"({"allOf":[{"$ref":"#/$defs/a"},{"properties":{"y":{"type":"integer"}},"required":["y"]}],
            "$defs":{"a":{"type":"object","properties":{"x":{"type":"string"}},"required":["x"]}}})",
        {R"({"x":"","y":1})"}, {R"({"x":""})", R"({"y":1})"});
  check(R"({"allOf":[{"type":["integer","string"]},{"type":["string","null"]}]})", {"\"a\""}, {"1", "null"});
  check(R"({"allOf":[{"enum":[1,2,3]},{"enum":[3,2,5]}]})", {"2", "3"}, {"1", "5"});
  check(R"({"enum":["a","2024-01-01",3,12],"format":"date","maximum":10})", {R"("2024-01-01")", "3"},
        {R"("a")", "12"});
  check(R"({"$ref":"#/$defs/a","maximum":3,"$defs":{"a":{"type":"integer","minimum":1}}})", {"1", "3"},
        {"0", "4"});
  check(R"({"oneOf":[{"type":"string","pattern":"^a"},{"type":"string","pattern":"^b"},{"type":"null"}]})",
        {"\"ax\"", "\"b\"", "null"}, {"\"c\""});
  check(R"({"$defs":{"t":{"type":"array","items":{"$ref":"#/$defs/t"}}},"$ref":"#/$defs/t"})",
        {"[]", "[[], [[]]]"}, {"[1]", "[[]"});
  check(
      R"({"anyOf":[{"$ref":"#/$defs/a~1b"},{"$ref":"#/$defs/c%25"}],"$defs":{"a/b":{"const":1},"c%":{"const":2}}})",
      {"1", "2"}, {"3"});
}

TEST(JsonSchema, RefusesWithTheReasonAndThePlace) {
  EXPECT_THAT(refused(R"({"properties":{"a/b":{"multipleOf":2}}})"),
              HasSubstr("#/properties/a~1b: 'multipleOf' is not supported"));
  EXPECT_THAT(refused(R"({"not":{}})"), HasSubstr("'not' is not supported"));
  EXPECT_THAT(refused(R"({"items":{"if":{}}})"), HasSubstr("#/items: 'if'"));
  EXPECT_THAT(refused(R"({"type":"array","uniqueItems":true})"), HasSubstr("uniqueItems"));
  EXPECT_THAT(refused(R"({"type":"strin"})"), HasSubstr("#/type: expected"));
  EXPECT_THAT(refused(R"({"minLength":-1})"), HasSubstr("#/minLength: expected a whole number"));
  EXPECT_THAT(refused(R"({"$ref":"other.json#/a"})"), HasSubstr("another document"));
  EXPECT_THAT(refused(R"({"$ref":"#/nowhere"})"), HasSubstr("leads nowhere"));
  EXPECT_THAT(refused(R"({"$ref":"#"})"), HasSubstr("no text at all"));
  EXPECT_THAT(refused(R"({"anyOf":[{"type":"null"},{"$ref":"#"}]})"), HasSubstr("left-recursive"));
  EXPECT_THAT(refused(R"({"type":"string","minLength":3,"maxLength":2})"), HasSubstr("no text at all"));
  EXPECT_THAT(refused(R"({"allOf":[{"$ref":"#"}]})"), HasSubstr("without an end"));
  EXPECT_THAT(refused(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})"),
              HasSubstr("#/oneOf: alternatives 0 and 1"));
  EXPECT_THAT(refused(R"({"oneOf":[{"type":"object"},{"type":"object"}]})"), HasSubstr("use 'anyOf'"));
  EXPECT_THAT(refused(R"j({"pattern":"(?=a)"})j"), HasSubstr("look-ahead"));
  EXPECT_THAT(refused(R"({"pattern":"(a)\\1"})"), HasSubstr("back-references"));
  EXPECT_THAT(refused(R"({"pattern":"a^b"})"), HasSubstr("beginning only"));
  EXPECT_THAT(refused(R"({"pattern":"["})"), HasSubstr("does not end"));
  EXPECT_THAT(refused(R"({"format":"regex"})"), HasSubstr("\"regex\" is not supported"));
  EXPECT_THAT(refused(R"({"patternProperties":{"^a":{}}})"), HasSubstr("patternProperties"));
  EXPECT_THAT(refused("false"), HasSubstr("no text at all"));
  EXPECT_THAT(refused(R"({"required":["a"],"additionalProperties":false})"), HasSubstr("no text at all"));
  EXPECT_THAT(refused("7"), HasSubstr("expected a schema"));
}

TEST(JsonSchema, HostileSchemasEnd) {
  // References that double at every step.
  Json schema;
  for (int i = 0; i < 40; ++i) {
    const std::string next = "#/$defs/d" + std::to_string(i + 1);
    schema["$defs"]["d" + std::to_string(i)] = {{"allOf", {{{"$ref", next}}, {{"$ref", next}}}}};
  }
  schema["$defs"]["d40"] = {{"type", "integer"}};
  schema["$ref"] = "#/$defs/d0";
  EXPECT_THAT(refused(schema.dump()), HasSubstr("too large"));
  Json lists = {{"type", "string"}};
  for (int i = 0; i < 40; ++i)
    lists = {{"type", "array"}, {"items", lists}, {"minItems", 1000}, {"maxItems", 100000}};
  EXPECT_TRUE(compile_json_schema(lists).has_value());
  EXPECT_THAT(refused(R"({"pattern":"^((([a-z]{1,90}x){1,90}y){1,90}z){1,90}$","maxLength":2000})"),
              HasSubstr("too large"));
}

}  // namespace
}  // namespace packmule::grammar
