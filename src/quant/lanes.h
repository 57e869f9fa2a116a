// Sixteen candidates tried at once: the inner loops of every quantizer that searches.
//
// Each candidate owns one lane, so vector instructions serve while every sum is still added in the order of
// the weights: the bytes do not depend on the machine. (Loops over plain arrays were tried first; the
// compiler unrolled half of them into scalar code.)
#pragma once

#include <cstdint>
#include <cstring>

namespace packmule::quant {

/// Four floats, four integers: the vector types of GCC and Clang, which every processor has.
using Float4 = float __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));

inline constexpr int kLanes = 16;
inline constexpr int kQuads = kLanes / 4;

struct Lanes {
  Float4 quad[kQuads];

  [[nodiscard]] float get(int lane) const { return quad[lane / 4][lane % 4]; }
  void set(int lane, float value) { quad[lane / 4][lane % 4] = value; }
};

/// Lane i holds value_of(i).
template <class Fn>
[[nodiscard]] Lanes make_lanes(Fn value_of) {
  float values[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) values[lane] = value_of(lane);
  Lanes lanes;
  std::memcpy(&lanes, values, sizeof lanes);
  return lanes;
}

// A `Nearest` says which values the codes of a format stand for: called with a number (or four) it returns
// the nearest of them.

/// Nearest integer in [low, high], halves to even; low for NaN.
struct NearestInteger {
  float low;
  float high;

  template <class T>  // float or Float4
  T operator()(T value) const {
    constexpr float kShift = 0x1.8p23f;  // pushes the fraction out of the mantissa
    const T lowest = T{} + low;
    const T highest = T{} + high;
    const T raised = value > lowest ? value : lowest;
    const T held = raised < highest ? raised : highest;
    return (held + kShift) - kShift;
  }
};

/// The sums by which the best scale for given codes is found: sum w x q and sum w q^2.
struct ScaleSums {
  Lanes xq;
  Lanes qq;
};

/// For each lane: q = the nearest to x * inverse, summed over n values with weights w.
template <class Nearest>
[[nodiscard]] ScaleSums sum_scales(const float* x, const float* w, int n, const Lanes& inverse,
                                   const Nearest& nearest) {
  ScaleSums sums{};
  for (int i = 0; i < n; ++i) {
    for (int quad = 0; quad < kQuads; ++quad) {
      const Float4 q = nearest(x[i] * inverse.quad[quad]);
      const Float4 wq = w[i] * q;
      sums.xq.quad[quad] += wq * x[i];
      sums.qq.quad[quad] += wq * q;
    }
  }
  return sums;
}

/// For each lane: sum w (x - scale q - base)^2, where q is the nearest to (x - base) / scale.
[[nodiscard]] inline Lanes sum_errors(const float* x, const float* w, int n, const Lanes& scale,
                                      const Lanes& base, const NearestInteger& nearest) {
  Lanes inverse{};
  for (int quad = 0; quad < kQuads; ++quad)
    inverse.quad[quad] = scale.quad[quad] != 0.0f ? 1.0f / scale.quad[quad] : Float4{};
  Lanes errors{};
  for (int i = 0; i < n; ++i) {
    for (int quad = 0; quad < kQuads; ++quad) {
      const Float4 over_base = x[i] - base.quad[quad];
      const Float4 error = over_base - scale.quad[quad] * nearest(over_base * inverse.quad[quad]);
      errors.quad[quad] += w[i] * error * error;
    }
  }
  return errors;
}

/// The lane with the least value, the first one of several.
[[nodiscard]] inline int least_lane(const Lanes& values) {
  int least = 0;
  for (int lane = 1; lane < kLanes; ++lane)
    if (values.get(lane) < values.get(least)) least = lane;
  return least;
}

}  // namespace packmule::quant
