// JSON Schema (draft 2020-12) compiled to a grammar of the JSON texts to be generated.
//
// Every text that is generated is valid by the schema; what cannot be promised is refused, with the reason
// and the place as a JSON pointer ("#/properties/age: 'multipleOf' is not supported"). The other way round,
// not every valid text can be generated:
//   - properties come in the order of the schema, those not declared behind them, each once
//   - without `additionalProperties` an object with `properties` has no others (as in llama.cpp)
//   - keywords of one type, without `type`, mean that type
//   - strings of `const` and `enum` and keys are written with the shortest escapes, numbers of `const` and
//     `enum` as in the schema, integers without a point, numbers with bounds without an exponent
//   - white space as json_rules.h has it, none around the text
//
// Understood: boolean schemas, type (also a list), enum, const, anyOf, oneOf (where the alternatives cannot
// overlap, else refused), allOf, $ref within the schema, $defs, definitions; pattern, format, minLength,
// maxLength (schema_strings.h); minimum, maximum, exclusiveMinimum, exclusiveMaximum; items, prefixItems,
// minItems, maxItems; properties, required, additionalProperties, propertyNames, minProperties,
// maxProperties. Annotations, and keywords and formats the standard does not know, constrain nothing.
// Refused: multipleOf, not, if/then/else, uniqueItems, contains, patternProperties, dependentRequired,
// dependentSchemas, references to other documents or to anchors, and what the list above does not name.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "grammar/grammar.h"
#include "grammar/json_rules.h"

namespace packmule::grammar {

/// Reads a schema, and the schemas in it, into rules of a source.
class SchemaReader {
 public:
  /// `root` is what references are relative to; it must outlive this.
  SchemaReader(JsonRules& rules, const Json& root, Effort& effort)
      : rules_(rules), root_(root), effort_(effort) {}

  /// The JSON texts of a schema that is a part of the root, at this pointer ("" for the root itself).
  [[nodiscard]] Result<Expr> value(const Json& schema, const std::string& pointer);
  /// The schema without $ref, allOf and boolean schemas at its top.
  [[nodiscard]] Result<Json> flat(const Json& schema, const std::string& pointer);

 private:
  static constexpr int kMaxDepth = 128;  // schemas in schemas, references put in their places included
  class Deeper {
   public:
    explicit Deeper(int& depth) : depth_(depth) { ++depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    ~Deeper() { --depth_; }

   private:
    int& depth_;
  };

  Result<Expr> reference(const Json& ref, const std::string& pointer);
  Result<Expr> alternatives(const Json& schema, const char* keyword, const std::string& pointer);
  Result<Expr> listed_values(const Json& schema, const std::string& pointer);
  Result<Expr> typed(const Json& schema, const std::string& pointer);
  Result<Expr> string(const Json& schema, const std::string& pointer);
  Result<Expr> number(const Json& schema, bool whole, const std::string& pointer);
  Result<Expr> array(const Json& schema, const std::string& pointer);
  Result<Expr> object(const Json& schema, const std::string& pointer);
  Result<Json> merged(const Json& a, const Json& b, const std::string& pointer);
  Result<const Json*> resolve(const Json& ref, const std::string& pointer) const;
  /// Nothing generated from `a` is valid by `b`.
  Result<bool> excludes(const Json& a, const Json& b, const std::string& pointer, int depth);

  JsonRules& rules_;
  const Json& root_;
  Effort& effort_;
  std::map<std::string, RuleId> references_;  // by pointer
  int depth_ = 0;
};

/// The grammar of the texts that are valid by a schema.
[[nodiscard]] Result<std::shared_ptr<const Grammar>> compile_json_schema(const Json& schema);
/// Of any JSON object.
[[nodiscard]] Result<std::shared_ptr<const Grammar>> compile_json_object();

}  // namespace packmule::grammar
