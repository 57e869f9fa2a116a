// How prompts are cut into slices, and how a step's room is shared among them.
//
// The bits of a result depend on where the delta rule's chunks begin (docs/architecture.md, decision 5). They
// begin at message boundaries, and from there every `grid` tokens; a slice ends only where a chunk does. So
// it does not show how much room a prompt had in a step, nor whether it went on from a checkpoint at a
// boundary.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace packmule::engine {

/// A prompt that is being read.
struct Reading {
  int64_t position = 0;  // tokens that have been read
  int64_t origin = 0;    // where the chunks at hand count from, at most `position`
  int64_t n_prompt = 0;
  int64_t n_tokens = 0;  // with those that were drawn before the place was lost and are read again, one by
                         // one in effect: short slices give the bits of single tokens
  std::span<const int64_t> boundaries;  // ascending, below n_prompt
};

struct Cutting {
  int64_t grid = 64;         // tokens of a chunk, or of a ubatch that is smaller
  int64_t look_back = 3;     // a mark may not be closer than this behind the begin of a slice
  int64_t short_slice = 15;  // most tokens that are computed as one by one
};

/// The largest end of a slice at most `room` tokens long; `position` when there is none.
[[nodiscard]] int64_t slice_end(const Reading& reading, const Cutting& cutting, int64_t room);

/// Where the chunks behind `position` count from.
[[nodiscard]] int64_t origin_at(const Reading& reading, int64_t position);

/// A prompt's claim on a step.
struct Claim {
  const Reading* reading = nullptr;
  int64_t served = 0;  // step in which it last had room
};

/// Ends of the slices, in the order of the claims (`position`: no room in this step), that together have at
/// most `room` tokens. Who has waited longest comes first, then who needs least; all get the same, and what
/// one leaves goes to the others.
[[nodiscard]] std::vector<int64_t> share(std::span<const Claim> claims, const Cutting& cutting, int64_t room);

}  // namespace packmule::engine
