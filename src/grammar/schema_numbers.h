// Numbers between bounds, compared digit by digit: exact for decimal numbers of any length.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "grammar/json_rules.h"

namespace packmule::grammar {

struct Bound {
  Json value;  // a number
  bool excluded = false;
};

/// Whole or decimal numbers (without an exponent) that keep to the bounds.
[[nodiscard]] Result<Expr> number_between(JsonRules& rules, bool whole, const std::optional<Bound>& low,
                                          const std::optional<Bound>& high, Effort& effort);

}  // namespace packmule::grammar
