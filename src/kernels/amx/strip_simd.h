// What the strip matmuls need of AMX beyond AVX-512: products of a panel with sixteen tokens by int8 tiles.
//
// A tile of sums is tokens by the rows of a strip. One instruction adds the products of a group of 32 columns
// (16 where the format scales that many): as integers, so they are those of VNNI, and what is done with them
// as floats is done in the same order. The bits are AVX-512's.
//
// What bounds it, by counting: for 16 x 16 x 32 products the tile unit works 16 cycles, while storing the
// sums, reading them back, and scaling them takes about 28 (loads: 24 rows of tiles, 16 of sums, 16 numbers of
// tokens, two a cycle; 36 in formats with offsets), and VNNI needs about 90 for the same.
//
// Included only by this folder's .cpp files; everything is of internal linkage (see check_isa_symbols.sh).
#pragma once

#include "kernels/avx512/strip_simd.h"
#include "kernels/common/numbers.h"
#include "kernels/common/reader.h"
#include "kernels/common/strip_scratch.h"
#include "kernels/kernels.h"
#ifndef PACKMULE_EMULATED_TILES
#include "kernels/amx/tiles.h"
#endif

namespace packmule::kernels {
namespace {

struct TileStripSimd : StripSimd {
  static constexpr bool kTiles = true;

  /// Codes as panels hold them: signed, the format's bias taken off.
  template <int kBits, int kBias>
  static Ints panel_codes(Ints codes) {
    return kBias == 0 ? codes : _mm512_sub_epi8(codes, _mm512_set1_epi8(kBias));
  }
  static __m256i row_panel_codes(__m256i signed_codes) { return signed_codes; }

  /// Products of panels of one kind (PanelGroup in strip_matmul.h).
  template <class Panel>
  class Tiles {
   public:
    /// Around all calls of add_all of one thread.
    static void begin() {
      TileConfig config;
      const auto set = [&](int tile, int n_rows, int row_bytes) {
        config.n_rows[tile] = static_cast<uint8_t>(n_rows);
        config.row_bytes[tile] = static_cast<uint16_t>(row_bytes);
      };
      for (int buffer = 0; buffer < 2; ++buffer) {
        set(kSums<16> + buffer, 16, 64);
        set(kSums<8> + buffer, 8, 64);
      }
      set(kActivations<16>, 16, 4 * kDwords);
      set(kActivations<8>, 8, 4 * kDwords);
      set(kWeights, kDwords, 64);
      tile_configure(config);
    }
    static void end() { tile_release(); }

    /// sums[t * kSumStride + 16 * r + lane] += the products of n_groups groups (at most kChunkGroups) of
    /// n_strips strips, strip_bytes apart, with n_tokens rows of activations from group first_group on.
    static void add_all(const uint8_t* panel, int64_t strip_bytes, int64_t n_strips, int64_t n_groups,
                        const QuantizedGroup* const* x, int64_t first_group, int64_t n_tokens, float* sums,
                        QuantizedGroup* copies) {
      while (n_tokens > 0) {
        const int64_t n = smaller(16, n_tokens);
        // Side by side at a distance known when compiled; missing tokens are the last one again.
        for (int64_t t = 0; t < (n > 8 ? 16 : 8); ++t)
          __builtin_memcpy(copies + t * kChunkGroups, x[smaller(t, n - 1)] + first_group,
                           static_cast<size_t>(n_groups) * sizeof(QuantizedGroup));
        for (int64_t r = 0; r < n_strips; ++r) {
          float* const sums_of_strip = sums + kStripRows * r;
          if (n > 8)
            add_tile<16>(panel + r * strip_bytes, n_groups, copies, n, sums_of_strip);
          else
            add_tile<8>(panel + r * strip_bytes, n_groups, copies, n, sums_of_strip);
        }
        x += n;
        sums += n * kSumStride;
        n_tokens -= n;
      }
    }

   private:
    static constexpr int kDwords = 8 / Panel::kScales;  // of columns that are added up at once
    template <int kRows>
    static constexpr int kSums = kRows == 16 ? 0 : 2;  // and the next, by turns
    template <int kRows>
    static constexpr int kActivations = kRows == 16 ? 4 : 5;
    static constexpr int kWeights = 6;

    template <int kRows>
    [[gnu::noinline]] static void add_tile(const uint8_t* panel, int64_t n_groups,
                                           const QuantizedGroup* tokens, int64_t n_tokens, float* sums) {
      Floats sum[kRows];
      unrolled<kRows>([&](auto t) __attribute__((always_inline)) {
        sum[t.value] = load(sums + smaller(t.value, n_tokens - 1) * kSumStride);
      });
      // While one buffer is scaled, the tile unit fills the other.
      alignas(64) int32_t products[2][kRows * kStripRows];
      const int64_t n_steps = n_groups * Panel::kScales;
      multiply<kRows, 0>(panel, tokens, 0, products[0]);
      for (int64_t step = 0; step < n_steps; step += 2) {
        if (step + 1 < n_steps) multiply<kRows, 1>(panel, tokens, step + 1, products[1]);
        scale<kRows>(panel, tokens, step, products[0], sum);
        if (step + 1 == n_steps) break;
        if (step + 2 < n_steps) multiply<kRows, 0>(panel, tokens, step + 2, products[0]);
        scale<kRows>(panel, tokens, step + 1, products[1], sum);
      }
      unrolled<kRows>([&](auto t) __attribute__((always_inline)) {
        if (t.value < n_tokens) store(sums + t.value * kSumStride, sum[t.value]);
      });
    }

    static const uint8_t* group_of(const uint8_t* panel, int64_t step) {
      return panel + step / Panel::kScales * 64 * Panel::kLayout.n_dwords;
    }

    template <int kRows, int kBuffer>
    [[gnu::always_inline]] static void multiply(const uint8_t* panel, const QuantizedGroup* tokens,
                                                int64_t step, int32_t* products) {
      constexpr int kSum = kSums<kRows> + kBuffer;
      const int64_t half = step % Panel::kScales;
      tile_zero<kSum>();
      tile_load<kActivations<kRows>>(tokens[step / Panel::kScales].codes + 16 * half,
                                     kChunkGroups * static_cast<int64_t>(sizeof(QuantizedGroup)));
      tile_load<kWeights>(group_of(panel, step) + 64 * kDwords * half, 64);
      tile_multiply<kSum, kActivations<kRows>, kWeights>();
      tile_store<kSum>(products, 4 * kStripRows);
    }

    template <int kRows>
    [[gnu::always_inline]] static void scale(const uint8_t* panel, const QuantizedGroup* tokens, int64_t step,
                                             const int32_t* products, Floats (&sum)[kRows]) {
      const int64_t half = step % Panel::kScales;
      const auto* scales = reinterpret_cast<const float*>(group_of(panel, step) + 64 * 8);
      const Floats weight_scale = load(scales + kStripRows * half);
      unrolled<kRows>([&](auto t) __attribute__((always_inline)) {
        const QuantizedGroup& group = tokens[t.value * kChunkGroups + step / Panel::kScales];
        const Ints integers = load_ints(reinterpret_cast<const uint8_t*>(products + kStripRows * t.value));
        Floats& own = sum[t.value];
        own = fma(to_floats(integers), mul(weight_scale, set(group.scale)), own);
        if constexpr (Panel::kOffset) {
          const Floats offset = load(scales + kStripRows * (Panel::kScales + half));
          own = fma(offset, set(Panel::kScales == 1 ? group.sum : group.half_sum[half]), own);
        }
      });
    }
  };
};

}  // namespace
}  // namespace packmule::kernels
