// The arguments of XML calls as JSON: their types come from the schemas of the request's tools.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "chat/schema_types.h"

namespace packmule::chat {

/// A value of these types is its text, whatever that is.
[[nodiscard]] bool is_text(const ValueTypes& types);

/// The value of a parameter as JSON: the first type but string that its text fits, white space around it left
/// out, else the text itself as a string. Arrays, objects and numbers stay as they are written; an integer
/// written 3.0 becomes 3. Booleans may be written as Python does, null as None.
[[nodiscard]] std::string argument_json(std::string_view text, const ValueTypes& types);

/// What stands between the quotes of a JSON string. A text may be converted in parts.
[[nodiscard]] std::string json_escaped(std::string_view text);

/// The types of the parameters of all tools of a request.
class ToolSchemas {
 public:
  /// As api::parse_tools gives them; null for none.
  explicit ToolSchemas(const Json& tools);

  using Parameters = PropertyTypes;
  /// Those that the tool declares; nullptr for an unknown tool.
  [[nodiscard]] const Parameters* find(std::string_view tool) const;
  [[nodiscard]] bool empty() const { return tools_.empty(); }

 private:
  std::map<std::string, Parameters, std::less<>> tools_;
};

}  // namespace packmule::chat
