// From the bytes of a row to vectors of float weights, 32 at a time: for decoding.
// Matmuls of elements (F32, F16, BF16) work on this form too.
//
// A reader has kElems and kBytes (of what one open() covers), a State, open(block, state), and
// weights<phase>(block, state, first, v) for the 32 weights of group first + phase (kPeriod as in
// decode_small.h). kTail: whether a row may end with less than 32, when tail(bytes, n, v) gives its last n
// with zeros behind.
#pragma once

#include "kernels/common/decode_iq.h"
#include "kernels/common/decode_k.h"
#include "kernels/common/decode_small.h"

namespace packmule::kernels {
namespace {

constexpr int kGroupElems = 32;

template <int kValue>
struct Index {
  static constexpr int value = kValue;
};

/// f(Index<0>{}), f(Index<1>{}), ... f(Index<kEnd - 1>{}).
template <int kEnd, int kBegin = 0, class F>
[[gnu::always_inline]] inline void unrolled(F&& f) {
  if constexpr (kBegin < kEnd) {
    f(Index<kBegin>{});
    unrolled<kEnd, kBegin + 1>(f);
  }
}

template <class S, class Decoder>
struct BlockReader {
  using Block = typename Decoder::Block;
  using State = BlockScales<Decoder::kGroups * Decoder::kScales, Decoder::kOffset>;
  static constexpr int kElems = Block::kElems;
  static constexpr int kPeriod = Decoder::kPeriod;
  static constexpr int kBytes = sizeof(Block);
  static constexpr bool kTail = false;

  [[gnu::always_inline]] static void open(const uint8_t* block, State& state) {
    Decoder::open(*reinterpret_cast<const Block*>(block), kUnit, state);
  }

  template <int kPhase>
  [[gnu::always_inline]] static void weights(const uint8_t* block, const State& state, int first,
                                             typename S::Floats* v) {
    constexpr int kVectors = kGroupElems / S::kWidth;
    const __m256i codes = Decoder::template codes<kPhase>(*reinterpret_cast<const Block*>(block), first);
    if constexpr (kTinyScales) {
      S::from_int8(codes, v);
    } else {
      S::from_int8_scaled(codes, v);
    }
    for (int i = 0; i < kVectors; ++i) {
      const int at = (first + kPhase) * Decoder::kScales + i * Decoder::kScales / kVectors;
      const typename S::Floats scale = S::set(state.scale[at]);
      if constexpr (!Decoder::kOffset) {
        v[i] = S::mul(v[i], scale);
      } else {
        // Scales have at most 17 bits and codes at most 6: the product is exact, and one rounding gives the
        // bits that the two of the format's scalar decoder give.
        v[i] = S::fma(v[i], scale, S::set(state.offset[at]));
      }
    }
  }

 private:
  static constexpr bool kTinyScales = requires { Decoder::kTinyScales; };
  static constexpr float kUnit = kTinyScales ? 1.0f : 1.0f / S::kCodeScale;
};

/// Formats of one weight a block. Element: the stored type and how a vector of it becomes floats.
template <class S, class Element>
struct ElementReader {
  using Stored = typename Element::Stored;
  struct State {};
  static constexpr int kElems = kGroupElems;
  static constexpr int kPeriod = 1;
  static constexpr int kBytes = kGroupElems * sizeof(Stored);
  static constexpr bool kTail = true;

  static void open(const uint8_t*, State&) {}

  template <int>
  [[gnu::always_inline]] static void weights(const uint8_t* bytes, const State&, int, typename S::Floats* v) {
    for (int i = 0; i < kGroupElems / S::kWidth; ++i)
      v[i] = Element::load(reinterpret_cast<const Stored*>(bytes) + i * S::kWidth);
  }

  static void tail(const uint8_t* bytes, int64_t n, typename S::Floats* v) {
    Stored padded[kGroupElems] = {};
    std::memcpy(padded, bytes, static_cast<size_t>(n) * sizeof(Stored));
    weights<0>(reinterpret_cast<const uint8_t*>(padded), State{}, 0, v);
  }
};

template <class S>
struct ElementF32 {
  using Stored = float;
  static typename S::Floats load(const float* p) { return S::load(p); }
};

template <class S>
struct ElementF16 {
  using Stored = uint16_t;
  static typename S::Floats load(const uint16_t* p) { return S::from_half(p); }
};

template <class S>
struct ElementBF16 {
  using Stored = uint16_t;
  static typename S::Floats load(const uint16_t* p) { return S::from_bf16(p); }
};

}  // namespace
}  // namespace packmule::kernels
