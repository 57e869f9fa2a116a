// What the strings of a tree go on with, in coarse classes of characters: where all of those are read alike,
// a walk over the tree need not look at each.
//
// The classes are single characters where grammars tend to make a difference (punctuation, white space) and
// groups where they do not (letters, digits); all characters beyond ASCII are one class. A walk that is in a
// state from which every character of some classes leads back to that state accepts all that follows of these
// classes, byte by byte or not.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "grammar/token_trie.h"

namespace packmule::grammar {

using ClassSet = uint64_t;

/// Characters of several bytes, well-formed by utf8.h; the text may end inside the last.
inline constexpr ClassSet kMultiByte = ClassSet{1} << 62;
/// Bytes from 0x80 on that are no part of such characters, each for itself.
inline constexpr ClassSet kRawBytes = ClassSet{1} << 63;

/// Of a byte below 0x80 its class; of another one both of the above.
[[nodiscard]] ClassSet class_of(uint8_t byte);

/// Of a tree: for each of its nodes, and for each of its values.
struct TextClasses {
  static constexpr uint16_t kInside = 0xffff;
  struct Need {
    uint32_t n = 0;
    uint32_t value = 0;
  };
  /// The classes of what the strings through a node have from its byte on, as if a character began there.
  std::vector<ClassSet> begins;
  /// Characters before a node's byte, or kInside: it is not the first of one. What is not well-formed counts,
  /// too.
  std::vector<uint16_t> n_before;
  /// How many further characters begin in a string behind its first, where these are any; falling.
  std::vector<Need> needs;

  TextClasses() = default;
  explicit TextClasses(const TokenTrie& trie);
};

/// Remembers for the states of a walk which classes lead back to them. `step(state, byte)` -> state, which
/// are small numbers.
class Loops {
 public:
  /// `counted`: only characters that lead back with their last byte and not before it, and no raw bytes.
  Loops(uint32_t dead, bool counted) : dead_(dead), counted_(counted) {}

  /// Every text of these classes is read from `state` on without a failure, and leads back to it if it ends
  /// with a whole character.
  template <class Step>
  bool cover(uint32_t state, ClassSet classes, const Step& step) {
    if (state >= known_.size()) known_.resize(state + 1);
    if ((classes & known_[state].no) != 0) return false;
    for (ClassSet left = classes & ~known_[state].yes; left != 0; left &= left - 1) {
      const ClassSet one = left & -left;
      const bool back = leads_back(state, one, step);
      (back ? known_[state].yes : known_[state].no) |= one;
      if (!back) return false;
    }
    return true;
  }

 private:
  struct Known {
    ClassSet yes = 0, no = 0;
  };
  struct Range {
    uint8_t first, last;
  };
  /// The first bytes of characters with the bytes that may follow (Unicode standard, table 3-7).
  static constexpr Range kLong[][4] = {
      {{0xc2, 0xdf}, {0x80, 0xbf}},
      {{0xe0, 0xe0}, {0xa0, 0xbf}, {0x80, 0xbf}},
      {{0xe1, 0xec}, {0x80, 0xbf}, {0x80, 0xbf}},
      {{0xed, 0xed}, {0x80, 0x9f}, {0x80, 0xbf}},
      {{0xee, 0xef}, {0x80, 0xbf}, {0x80, 0xbf}},
      {{0xf0, 0xf0}, {0x90, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}},
      {{0xf1, 0xf3}, {0x80, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}},
      {{0xf4, 0xf4}, {0x80, 0x8f}, {0x80, 0xbf}, {0x80, 0xbf}},
  };
  static std::span<const uint8_t> bytes_of(ClassSet one);

  template <class Step>
  bool leads_back(uint32_t state, ClassSet one, const Step& step) {
    if (one == kMultiByte) return multi_byte_leads_back(state, step);
    if (one == kRawBytes && counted_) return false;
    const auto bytes = bytes_of(one);
    return std::all_of(bytes.begin(), bytes.end(), [&](uint8_t byte) { return step(state, byte) == state; });
  }

  template <class Step>
  bool multi_byte_leads_back(uint32_t state, const Step& step) {
    constexpr size_t kMaxStates = 16;  // of a walk at once; more is no simple loop
    for (const auto& ranges : kLong) {
      std::vector<uint32_t> at{state}, next;
      for (const Range& range : ranges) {
        if (range.first == 0) break;
        // Between the bytes of a character the count must not move.
        if (counted_ && &range != &ranges[0] && std::find(at.begin(), at.end(), state) != at.end())
          return false;
        next.clear();
        for (const uint32_t from : at)
          for (int byte = range.first; byte <= range.last; ++byte) {
            const uint32_t to = step(from, static_cast<uint8_t>(byte));
            if (to == dead_) return false;
            if (std::find(next.begin(), next.end(), to) == next.end()) next.push_back(to);
          }
        if (next.size() > kMaxStates) return false;
        at.swap(next);
      }
      if (at != std::vector<uint32_t>{state}) return false;
    }
    return true;
  }

  uint32_t dead_;
  bool counted_;
  std::vector<Known> known_;  // by state
};

}  // namespace packmule::grammar
