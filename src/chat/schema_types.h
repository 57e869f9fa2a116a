// Which types a schema lets a value have. The constraint reads the same schemas (grammar/), and both must
// agree on whether what the model writes is a text or JSON; where there is no constraint, or it refuses the
// schema, the types are all there is.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace packmule::chat {

enum class ValueType { kString, kBoolean, kInteger, kNumber, kArray, kObject, kNull };

/// What a value may be, in the order in which it is tried. Empty: nothing is said about it.
using ValueTypes = std::vector<ValueType>;

/// By the names of properties.
using PropertyTypes = std::map<std::string, ValueTypes, std::less<>>;

/// The types of `schema`, a part of `root`. Understands `type` (a name or a list), `const`, `enum`, the
/// keywords that mean objects, arrays or numbers, `anyOf`, `oneOf`, `allOf`, and `$ref` into `root`. What is
/// no schema, leads nowhere or comes back to itself says nothing.
[[nodiscard]] ValueTypes value_types(const Json& schema, const Json& root);

/// Those of the properties of an object, wherever the schema `root` of the object declares them: in place,
/// behind a `$ref`, or in parts (`allOf`, `anyOf`, `oneOf`).
[[nodiscard]] PropertyTypes property_types(const Json& root);

}  // namespace packmule::chat
