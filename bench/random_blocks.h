// Random weights in every block format: noise of mean 0 and a given standard deviation, the same for a seed
// whatever the order or the number of threads that make it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "quant/format.h"

namespace packmule::bench {

/// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), which can
/// start at any draw of its sequence.
class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t draw = 0) : state_(seed + draw * kGamma) {}
  uint64_t next() {
    state_ += kGamma;
    uint64_t z = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// In [low, high).
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(next() >> 40) * 0x1p-24f;
  }
  /// Mean 0, deviation 1: the sum of four uniform numbers, near enough to a normal one for noise, in one
  /// draw.
  float noise() {
    const uint64_t z = next();
    const auto sum = static_cast<int32_t>((z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48));
    constexpr float kPerDeviation = 1.0f / 37837.22f;  // 65536 * sqrt(4 / 12)
    return static_cast<float>(sum - 2 * 65535) * kPerDeviation;
  }

 private:
  static constexpr uint64_t kGamma = 0x9e3779b97f4a7c15u;
  uint64_t state_;
};

/// Makes the blocks of one tensor.
class BlockSource {
 public:
  /// `sigma` is the standard deviation of the weights; block scales vary by a fifth around what it asks for.
  static Result<BlockSource> create(const quant::Format& format, float sigma, uint64_t seed);

  /// Blocks first_block, first_block + 1, ... of the tensor; `out` is whole blocks.
  void fill(uint64_t first_block, std::span<std::byte> out) const;

 private:
  using FillFn = void (*)(uint64_t seed, uint64_t first_block, uint64_t n_blocks, std::byte* out, float scale,
                          float spread);
  struct Recipe {
    quant::Type type;
    FillFn fill;
  };
  static const Recipe kRecipes[];

  FillFn fill_ = nullptr;
  size_t block_bytes_ = 0;
  uint64_t seed_ = 0;
  float scale_ = 0;
};

}  // namespace packmule::bench
