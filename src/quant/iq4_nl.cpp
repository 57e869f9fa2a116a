#include "quant/iq4_nl.h"

#include <cmath>

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"
#include "quant/fit_scale.h"
#include "quant/importance.h"
#include "quant/plain_codes.h"

namespace packmule::quant {
namespace {

constexpr float kLow = -127.0f;
constexpr float kHigh = 113.0f;

// The nearest entry of kIq4Values, the higher one of two. The boundaries lie in the middle between entries,
// so they are multiples of a half and the integer part of twice the value decides.
constexpr int kZeroBucket = 2 * 127;
constexpr int kBuckets = 2 * (127 + 113) + 1;

constexpr Codebook<uint8_t, kBuckets> codes_of_buckets() {
  Codebook<uint8_t, kBuckets> table{};
  int code = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    while (code < 15 && bucket - kZeroBucket >= kIq4Values.at[code] + kIq4Values.at[code + 1]) ++code;
    table.at[bucket] = static_cast<uint8_t>(code);
  }
  return table;
}

constexpr Codebook<uint8_t, kBuckets> kCodeOfBucket = codes_of_buckets();

constexpr Codebook<float, kBuckets> values_of_buckets() {
  Codebook<float, kBuckets> table{};
  for (int bucket = 0; bucket < kBuckets; ++bucket)
    table.at[bucket] = kIq4Values.at[kCodeOfBucket.at[bucket]];
  return table;
}

constexpr Codebook<float, kBuckets> kValueOfBucket = values_of_buckets();

struct NearestValue {
  static uint8_t code(float value) { return kCodeOfBucket.at[buckets(Float4{} + value)[0]]; }

  Float4 operator()(Float4 values) const {
    const Int4 bucket = buckets(values);
    return Float4{kValueOfBucket.at[bucket[0]], kValueOfBucket.at[bucket[1]], kValueOfBucket.at[bucket[2]],
                  kValueOfBucket.at[bucket[3]]};
  }

 private:
  static Int4 buckets(Float4 values) {
    const Float4 raised = values > kLow ? values : Float4{} + kLow;  // kLow for NaN
    const Float4 doubled = 2.0f * (raised < kHigh ? raised : Float4{} + kHigh);
    const Int4 whole = __builtin_convertvector(doubled, Int4);                    // towards zero
    const Int4 one_too_large = doubled < __builtin_convertvector(whole, Float4);  // -1 where true
    return whole + one_too_large + kZeroBucket;
  }
};

// Tries the scales that map the extreme value to -134 .. -120 and to 127, and improves each by one least
// squares step; large values weigh more. The bits of the sums matter: they are ggml's.
float plain_scale(const float* x) {
  constexpr float kSilent = 1e-15f;
  const float extreme = extreme_of_block(x);
  if (std::abs(extreme) < kSilent) return 0;
  float w[kSmallBlock];
  for (int i = 0; i < kSmallBlock; ++i) w[i] = x[i] * x[i];
  const Lanes inverse = make_lanes([&](int lane) {
    if (lane == 0) return 1.0f / (extreme / -kLow);
    return (static_cast<float>(lane - 8) + kLow) / extreme;
  });
  const ScaleSums sums = sum_scales(x, w, kSmallBlock, inverse, NearestValue());

  float scale = sums.xq.get(0) / sums.qq.get(0);
  float best_gain = scale * sums.xq.get(0);
  for (int lane = 1; lane < kLanes; ++lane) {
    const float xq = sums.xq.get(lane);
    const float qq = sums.qq.get(lane);
    if (qq > 0 && xq * xq > best_gain * qq) {
      scale = xq / qq;
      best_gain = scale * xq;
    }
  }
  // Values whose cubes leave the range of float have no such sums.
  return std::isfinite(scale) ? scale : extreme / kLow;
}

float searched_scale(const float* x, const float* weight) {
  const WeightedBlock<kSmallBlock> block(x, weight);
  const float scale = fit_scale(block.x, block.w, kSmallBlock, kLow, kHigh, NearestValue());
  return half_to_float(scale_to_half(scale));
}

}  // namespace

void decode_iq4_nl(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ4_NL>(blocks, out, n_elems, [](const BlockIQ4_NL& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 16; ++i) {
      y[i] = d * static_cast<float>(kIq4Values.at[block.q[i] & 15]);
      y[16 + i] = d * static_cast<float>(kIq4Values.at[block.q[i] >> 4]);
    }
  });
}

void encode_iq4_nl(const float* in, const float* importance, void* blocks, int64_t n_elems) {
  encode_each<BlockIQ4_NL>(
      in, importance, blocks, n_elems, [](const float* x, const float* weight, BlockIQ4_NL& block) {
        const float scale = weight == nullptr ? plain_scale(x) : searched_scale(x, weight);
        block.d = scale_to_half(scale);
        const float inverse = inverse_or_zero(scale);
        uint8_t code[kSmallBlock];
        for (int i = 0; i < kSmallBlock; ++i) code[i] = NearestValue::code(x[i] * inverse);
        pack_nibbles(code, block.q);
      });
}

}  // namespace packmule::quant
