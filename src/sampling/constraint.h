// What a generation is held to: which tokens may come next, given those drawn so far.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/result.h"

namespace packmule::sampling {

/// Bit `id % 64` of word `id / 64` says whether a token may be drawn. Empty: all may.
using TokenMask = std::span<const uint64_t>;

/// The state of one generation. Used by one thread at a time.
class Constraint {
 public:
  virtual ~Constraint() = default;
  /// The tokens that may come next, valid until the next call of any function; those that end the turn are
  /// among them where the text may end. An error when there is none, or when the state has grown beyond its
  /// limits.
  [[nodiscard]] virtual Result<TokenMask> mask() = 0;
  /// Goes on by a token that was drawn and does not end the turn. An error when the mask did not allow it.
  [[nodiscard]] virtual Status accept(int32_t token) = 0;
  /// Whether the text may end here.
  [[nodiscard]] virtual bool may_end() const = 0;
};

/// Makes the state for a generation that begins; may be called from any thread. Empty: no constraint.
using ConstraintFactory = std::function<std::unique_ptr<Constraint>()>;

}  // namespace packmule::sampling
