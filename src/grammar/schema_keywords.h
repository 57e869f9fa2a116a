// The keywords of JSON Schema, and what their values must look like.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace packmule::grammar {

/// "#/a/b: reason"
[[nodiscard]] tl::unexpected<Error> bad_schema(ErrorKind kind, const std::string& pointer,
                                               std::string_view reason);
/// `pointer` with one more step.
[[nodiscard]] std::string step(const std::string& pointer, std::string_view key);

/// An error for a keyword that is not supported or has a value it must not have.
[[nodiscard]] Status check_keywords(const Json& schema, const std::string& pointer);

/// Whether it says nothing about what is valid: $defs, title, ..., and keywords unknown to the standard.
[[nodiscard]] bool is_annotation(std::string_view keyword);

enum Type : unsigned {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,  // numbers that are not integers
  kString = 16,
  kArray = 32,
  kObject = 64,
  kNumber = kInteger | kFraction,
  kAnyType = 127,
};

/// The types a schema allows by `type`, or else those that its keywords speak of, or else all. The schema
/// was checked.
[[nodiscard]] unsigned types_of(const Json& schema);
[[nodiscard]] unsigned type_of(const Json& value);
/// The other way round, for `type`.
[[nodiscard]] Json type_names(unsigned types);

/// The schema without what says nothing.
[[nodiscard]] Json constraints(const Json& schema);

}  // namespace packmule::grammar
