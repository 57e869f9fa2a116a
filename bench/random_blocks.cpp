#include "bench/random_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.h"
#include "quant/iq1_m.h"
#include "quant/iq1_s.h"
#include "quant/iq2_s.h"
#include "quant/iq2_xs.h"
#include "quant/iq2_xxs.h"
#include "quant/iq3_s.h"
#include "quant/iq3_xxs.h"
#include "quant/iq4_nl.h"
#include "quant/iq4_xs.h"
#include "quant/mxfp4.h"
#include "quant/nvfp4.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"
#include "quant/tq1_0.h"
#include "quant/tq2_0.h"

namespace packmule::bench {
namespace {

using namespace quant;

// A block of random bytes becomes a block of noise by its scales. Group scales of the K formats are set to
// the middle of their range, minimums to what brings the mean to 0; all other formats keep random group
// scales.

template <class Block>
void set_scale(Block& block, float scale) {
  block.d = float_to_half(scale);
}
void set_scale(BlockQ4_1& block, float scale) {
  block.d = float_to_half(scale);
  block.m = float_to_half(-7.5f * scale);
}
void set_scale(BlockQ5_1& block, float scale) {
  block.d = float_to_half(scale);
  block.m = float_to_half(-15.5f * scale);
}
void set_scale(BlockQ2_K& block, float scale) {
  std::fill(std::begin(block.scale_min), std::end(block.scale_min), uint8_t{0x88});
  block.d = float_to_half(scale);
  block.dmin = float_to_half(1.5f * scale);
}
/// All scales and minimums 32: see k_scales.h for the twelve bytes.
template <class Block>
void set_k_scale(Block& block, float scale, float middle_code) {
  std::fill(block.scales, block.scales + 8, uint8_t{0xa0});
  std::fill(block.scales + 8, block.scales + 12, uint8_t{0});
  block.d = float_to_half(scale);
  block.dmin = float_to_half(middle_code * scale);
}
void set_scale(BlockQ4_K& block, float scale) {
  set_k_scale(block, scale, 7.5f);
}
void set_scale(BlockQ5_K& block, float scale) {
  set_k_scale(block, scale, 15.5f);
}
void set_scale(BlockQ6_K& block, float scale) {
  std::fill(std::begin(block.scale), std::end(block.scale), int8_t{32});
  block.d = float_to_half(scale);
}
void set_scale(BlockIQ1_M& block, float scale) {
  const uint16_t d = float_to_half(scale);
  for (int i = 0; i < 4; ++i)
    block.scales[i] = static_cast<uint16_t>((block.scales[i] & 0x0fff) | (d >> (4 * i) & 0xf) << 12);
}
void set_scale(BlockTQ2_0& block, float scale) {
  for (uint8_t& q : block.q) q = static_cast<uint8_t>(q & ~(q << 1 & q & 0xaa));  // code 3 is none: 1 instead
  block.d = float_to_half(scale);
}
void set_scale(BlockMXFP4& block, float scale) {
  block.exponent = static_cast<uint8_t>(std::clamp(128 + std::lround(std::log2(scale)), 0L, 254L));
}
void set_scale(BlockNVFP4& block, float scale) {
  int code = 1;
  while (code < 126 && nvfp4_half_scale(static_cast<uint8_t>(code)) < scale) ++code;
  std::fill(std::begin(block.scale), std::end(block.scale), static_cast<uint8_t>(code));
}

template <class Block>
void fill_blocks(uint64_t seed, uint64_t first_block, uint64_t n_blocks, std::byte* out, float scale,
                 float spread) {
  constexpr size_t kWords = (sizeof(Block) + 7) / 8;
  for (uint64_t b = 0; b < n_blocks; ++b, out += sizeof(Block)) {
    Rng rng(seed, (first_block + b) * (kWords + 1));
    std::array<uint64_t, kWords> words;
    for (uint64_t& word : words) word = rng.next();
    Block block;
    std::memcpy(&block, words.data(), sizeof(block));
    set_scale(block, scale * rng.uniform(1 - spread, 1 + spread));
    std::memcpy(out, &block, sizeof(block));
  }
}

template <class Stored, Stored (*kConvert)(float)>
void fill_floats(uint64_t seed, uint64_t first, uint64_t n, std::byte* out, float scale, float /*spread*/) {
  Rng rng(seed, first);
  for (uint64_t i = 0; i < n; ++i) {
    const Stored value = kConvert(scale * rng.noise());
    std::memcpy(out + i * sizeof(value), &value, sizeof(value));
  }
}
float same(float value) {
  return value;
}

}  // namespace

const BlockSource::Recipe BlockSource::kRecipes[] = {
    {Type::kF32, fill_floats<float, same>},
    {Type::kF16, fill_floats<uint16_t, float_to_half>},
    {Type::kBF16, fill_floats<uint16_t, float_to_bf16>},
    {Type::kQ4_0, fill_blocks<BlockQ4_0>},
    {Type::kQ4_1, fill_blocks<BlockQ4_1>},
    {Type::kQ5_0, fill_blocks<BlockQ5_0>},
    {Type::kQ5_1, fill_blocks<BlockQ5_1>},
    {Type::kQ8_0, fill_blocks<BlockQ8_0>},
    {Type::kQ2_K, fill_blocks<BlockQ2_K>},
    {Type::kQ3_K, fill_blocks<BlockQ3_K>},
    {Type::kQ4_K, fill_blocks<BlockQ4_K>},
    {Type::kQ5_K, fill_blocks<BlockQ5_K>},
    {Type::kQ6_K, fill_blocks<BlockQ6_K>},
    {Type::kIQ2_XXS, fill_blocks<BlockIQ2_XXS>},
    {Type::kIQ2_XS, fill_blocks<BlockIQ2_XS>},
    {Type::kIQ3_XXS, fill_blocks<BlockIQ3_XXS>},
    {Type::kIQ1_S, fill_blocks<BlockIQ1_S>},
    {Type::kIQ4_NL, fill_blocks<BlockIQ4_NL>},
    {Type::kIQ3_S, fill_blocks<BlockIQ3_S>},
    {Type::kIQ2_S, fill_blocks<BlockIQ2_S>},
    {Type::kIQ4_XS, fill_blocks<BlockIQ4_XS>},
    {Type::kIQ1_M, fill_blocks<BlockIQ1_M>},
    {Type::kTQ1_0, fill_blocks<BlockTQ1_0>},
    {Type::kTQ2_0, fill_blocks<BlockTQ2_0>},
    {Type::kMXFP4, fill_blocks<BlockMXFP4>},
    {Type::kNVFP4, fill_blocks<BlockNVFP4>},
};

Result<BlockSource> BlockSource::create(const Format& format, float sigma, uint64_t seed) {
  const auto* recipe = std::find_if(std::begin(kRecipes), std::end(kRecipes),
                                    [&](const Recipe& r) { return r.type == format.type; });
  if (recipe == std::end(kRecipes))
    return fail(ErrorKind::kUnsupported,
                "cannot make random blocks of type {}: bench/random_blocks.cpp has no recipe", format.name);
  BlockSource source;
  source.fill_ = recipe->fill;
  source.block_bytes_ = static_cast<size_t>(format.block_bytes);
  source.seed_ = seed;

  // How large the weights are at scale 1 is measured on a sample, always the same one.
  constexpr uint64_t kSampleSeed = 1;
  constexpr int64_t kSampleElems = 1 << 16;
  const int64_t n_blocks = kSampleElems / format.block_elems;
  std::vector<std::byte> blocks(static_cast<size_t>(n_blocks * format.block_bytes));
  recipe->fill(kSampleSeed, 0, static_cast<uint64_t>(n_blocks), blocks.data(), 1.0f, 0.0f);
  std::vector<float> weights(static_cast<size_t>(n_blocks * format.block_elems));
  format.decode(blocks.data(), weights.data(), static_cast<int64_t>(weights.size()));
  double squares = 0;
  for (const float w : weights) squares += double{w} * double{w};
  source.scale_ = static_cast<float>(sigma / std::sqrt(squares / static_cast<double>(weights.size())));
  return source;
}

void BlockSource::fill(uint64_t first_block, std::span<std::byte> out) const {
  fill_(seed_, first_block, out.size() / block_bytes_, out.data(), scale_, 0.2f);
}

}  // namespace packmule::bench
