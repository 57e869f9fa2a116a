// Products of block formats with activations that were rounded to bytes (QuantizedGroup), sixteen rows at a
// time and for any number of tokens.
//
// A vector lane is a row. Over a group of 32 columns (16 where the format scales that many) codes and
// activations are multiplied and added as integers, which is exact; the sum becomes a float and goes to the
// lane's accumulator by FMA with the product of both scales, and then, in formats with offsets, offset * (sum
// of the activations). The groups follow each other in order. Neither the rows and tokens worked on beside an
// element, nor where its weights lie (as the file has them, or in strips), change the order of its sum.
//
// Few tokens: codes are unpacked in registers, and what the file has as rows is interleaved to a strip in the
// first-level cache just before (codebook formats stay rows). Many tokens: a panel of the codes as bytes and
// the scales as floats is written to scratch, kChunkGroups groups of two strips, which stays in the
// first-level cache while the tokens pass by in tiles. (S::kTiles: the panel's codes and its products are what
// the tile unit of S wants; the sums are the same.)
#pragma once

#include <cstring>

#include "kernels/common/numbers.h"
#include "kernels/common/reader.h"
#include "kernels/common/strip_decode.h"
#include "kernels/common/strip_scratch.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

/// A group of a panel: eight dwords of codes, ready to be multiplied, then scales and offsets as floats, all
/// a row to a lane.
template <class S, int kScalesOf, int kBitsOf, int kBiasOf, bool kOffsetOf>
struct PanelGroup {
  static constexpr int kGroups = 1, kScales = kScalesOf, kBits = kBitsOf, kBias = kBiasOf;
  static constexpr bool kOffset = kOffsetOf;
  static constexpr StripLayout kLayout = {8 + kScales * (kOffset ? 2 : 1), 0, false};
  explicit PanelGroup(StripBlock b) : block(b) {}
  template <int>
  [[gnu::always_inline]] typename S::Ints codes(int i) const {
    return S::load_ints(block.dwords + 64 * i);
  }
  template <int>
  [[gnu::always_inline]] typename S::Floats scale(int half) const {
    return S::load(reinterpret_cast<const float*>(block.dwords + 64 * (8 + half)));
  }
  template <int>
  [[gnu::always_inline]] typename S::Floats offset(int half) const {
    return S::load(reinterpret_cast<const float*>(block.dwords + 64 * (8 + kScales + half)));
  }
  StripBlock block;
};

template <class S, class D>
using PanelOf = PanelGroup<S, D::kScales, D::kBits, D::kBias, D::kOffset>;

/// Asks for the lines of a block that lies kAheadBytes behind this one, in step kStep of kSteps. Left to
/// themselves processors fetch little more than half as fast what is read between so much arithmetic.
template <int kStep, int kSteps>
[[gnu::always_inline]] inline void fetch_ahead(const uint8_t* block, int n_lines) {
  constexpr int kAheadBytes = 9216;
  for (int line = kStep * n_lines / kSteps; line < (kStep + 1) * n_lines / kSteps; ++line)
    _mm_prefetch(reinterpret_cast<const char*>(block + kAheadBytes + 64 * line), _MM_HINT_T1);
}

/// What is wanted next: so many lines from each address, asked for while something else is worked on.
struct Ahead {
  const uint8_t* from[2] = {};
  int64_t n_lines = 0;

  /// A share of the lines, in step `step` of n_steps.
  [[gnu::always_inline]] void fetch(int64_t step, int64_t n_steps) const {
    for (int64_t line = step * n_lines / n_steps; line < (step + 1) * n_lines / n_steps; ++line)
      for (const uint8_t* p : from) _mm_prefetch(reinterpret_cast<const char*>(p + 64 * line), _MM_HINT_T1);
  }
};

/// sums[t * kSumStride + 16 * r + lane] += the products of n_blocks blocks of kStrips strips, `strip_bytes`
/// apart, with kTokens rows of activations from group first_group on.
template <class S, class D, int kStrips, int kTokens>
[[gnu::noinline]] void add_products(StripBlock block, int64_t strip_bytes, int64_t n_blocks, const QuantizedGroup* const* x, int64_t first_group,
                                    float* sums, const Ahead& ahead = {}) {
  using Floats = typename S::Floats;
  using Ints = typename S::Ints;
  constexpr int kBias = D::kBits == 8 ? S::kSignedBias : D::kBias;
  constexpr bool kFromMemory = requires {
    D::kType;
  };
  for (int lane = 0; lane < kStripRows; lane += S::kWidth) {
    Floats sum[kStrips][kTokens];
    const QuantizedGroup* group_of[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      group_of[t] = x[t] + first_group;
      for (int r = 0; r < kStrips; ++r) sum[r][t] = S::load(sums + t * kSumStride + kStripRows * r + lane);
    }
    const uint8_t* dwords = block.dwords + 4 * lane;
    const uint8_t* odds = block.odds + D::kLayout.odd_bytes * lane;
    for (int64_t b = 0; b < n_blocks; ++b) {
      if constexpr (!kFromMemory)
        if (lane == 0) ahead.fetch(b, n_blocks);
      const D first(StripBlock{dwords, odds}), second(StripBlock{dwords + (kStrips - 1) * strip_bytes, odds});
      const D* const decoders[2] = {&first, &second};
      unrolled<D::kGroups>([&](auto g) __attribute__((always_inline)) {
        unrolled<D::kScales>([&](auto half) __attribute__((always_inline)) {
          constexpr int kDwords = 8 / D::kScales;
          // Codes of one group must not be kept for the next, as compilers like to: there are not enough
          // registers.
          if constexpr (D::kGroups > 1) asm volatile("" ::: "memory");
          typename S::template Dot<D::kBits> dot[kStrips][kTokens];
          for (int t = 0; t < kTokens; ++t) {
            Ints bias = S::no_ints();
            if constexpr (kBias != 0) {
              const QuantizedGroup& group = group_of[t][g.value];
              bias = S::template shift<log2_of(kBias)>(
                  S::broadcast(D::kScales == 1 ? group.minus_sum : group.minus_half_sum[half.value]));
            }
            for (int r = 0; r < kStrips; ++r) dot[r][t].start(bias);
          }
          unrolled<kDwords>([&](auto j) __attribute__((always_inline)) {
            constexpr int i = half.value * kDwords + j.value;
            if constexpr (kFromMemory) fetch_ahead<8 * g.value + i, 8 * D::kGroups>(dwords, D::kLayout.n_dwords);
            for (int r = 0; r < kStrips; ++r) {
              Ints codes = decoders[r]->template codes<g.value>(i);
              if constexpr (kFromMemory) codes = S::template multiplicand<D::kBits>(codes);
              for (int t = 0; t < kTokens; ++t)
                dot[r][t].template add<j.value>(codes, group_of[t][g.value].codes + 4 * i);
            }
          });
          for (int r = 0; r < kStrips; ++r) {
            const Floats scale = decoders[r]->template scale<g.value>(half.value);
            for (int t = 0; t < kTokens; ++t) {
              const Floats products = S::to_floats(dot[r][t].template total<kDwords>());
              const Floats both = S::mul(scale, S::set(group_of[t][g.value].scale));
              sum[r][t] = S::fma(products, both, sum[r][t]);
            }
            if constexpr (D::kOffset) {
              const Floats offset = decoders[r]->template offset<g.value>(half.value);
              for (int t = 0; t < kTokens; ++t) {
                const QuantizedGroup& group = group_of[t][g.value];
                const float total = D::kScales == 1 ? group.sum : group.half_sum[half.value];
                sum[r][t] = S::fma(offset, S::set(total), sum[r][t]);
              }
            }
          }
        });
      });
      for (int t = 0; t < kTokens; ++t) group_of[t] += D::kGroups;
      dwords += 64 * D::kLayout.n_dwords;
      odds += kStripRows * D::kLayout.odd_bytes;
    }
    for (int t = 0; t < kTokens; ++t)
      for (int r = 0; r < kStrips; ++r) S::store(sums + t * kSumStride + kStripRows * r + lane, sum[r][t]);
  }
}

/// Sixteen rows as they are in a file; the last ones may be the same row again. `next` is what is read after
/// them.
struct StripOfRows {
  const uint8_t* row[kStripRows];
  const uint8_t* next;
};

/// n_blocks blocks of each row, from byte `begin` of the rows on, as a strip of n_blocks blocks.
template <class S, quant::Type kType>
void interleave_blocks(const StripOfRows& rows, int64_t begin, int64_t n_blocks, uint8_t* out) {
  constexpr StripLayout kLayout = strip_layout(kType);
  constexpr int64_t kBlockBytes = 4 * kLayout.n_dwords + kLayout.odd_bytes;
  uint8_t* dwords = out + n_blocks * kStripRows * kLayout.odd_bytes;
  // While these rows are read crosswise, as many bytes of the next are fetched in one direction.
  const uint8_t* next = rows.next + kStripRows * begin;
  for (int64_t b = 0; b < n_blocks; ++b) {
    const int64_t block = begin + b * kBlockBytes;
    const int64_t first = block + (kLayout.odd_first ? kLayout.odd_bytes : 0);
    unrolled<(kLayout.n_dwords + 3) / 4>([&](auto step) __attribute__((always_inline)) {
      // Four dwords at a time; the last four may overlap those before.
      constexpr int kAt = 4 * step.value + 4 <= kLayout.n_dwords ? 4 * step.value : kLayout.n_dwords - 4;
      uint8_t* const to[4] = {
          dwords + 64 * strip_place(kType, kAt), dwords + 64 * strip_place(kType, kAt + 1),
          dwords + 64 * strip_place(kType, kAt + 2), dwords + 64 * strip_place(kType, kAt + 3)};
      S::interleave_4_dwords(rows.row, first + 4 * kAt, to);
      for (int line = 0; line < 4; ++line, next += 64)
        _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
    });
    dwords += 64 * kLayout.n_dwords;
    const int64_t odd = kLayout.odd_first ? block : block + 4 * kLayout.n_dwords;
    for (int r = 0; r < kStripRows; ++r)
      std::memcpy(out + kLayout.odd_bytes * r, rows.row[r] + odd, kLayout.odd_bytes);
    out += kStripRows * kLayout.odd_bytes;
  }
}

/// Panels of formats that can lie in strips. D is a decoder of strip_decode.h.
template <class S, class D>
struct StripFormat {
  using Panel = PanelOf<S, D>;
  using Decoder = D;
  static constexpr StripLayout kLayout = D::kLayout;
  static constexpr int64_t kGroups = D::kGroups;
  static constexpr int64_t kBlockBytes = 4 * kLayout.n_dwords + kLayout.odd_bytes;
  static constexpr bool kStrips = true;
  static constexpr int kDirectTokens = S::kDirectTokens;

  static void fill_panel(StripBlock block, int64_t n_blocks, uint8_t* panel) {
    for (int64_t b = 0; b < n_blocks; ++b) {
      for (int lane = 0; lane < kStripRows; lane += S::kWidth) {
        const D decoder(StripBlock{block.dwords + 4 * lane, block.odds + kLayout.odd_bytes * lane});
        unrolled<D::kGroups>([&](auto g) __attribute__((always_inline)) {
          uint8_t* out = panel + g.value * 64 * Panel::kLayout.n_dwords + 4 * lane;
          unrolled<8>([&](auto i) __attribute__((always_inline)) {
            S::store_ints(out + 64 * i.value,
                          S::template panel_codes<D::kBits, D::kBias>(decoder.template codes<g.value>(i.value)));
          });
          for (int half = 0; half < D::kScales; ++half) {
            S::store(reinterpret_cast<float*>(out + 64 * (8 + half)), decoder.template scale<g.value>(half));
            if constexpr (D::kOffset)
              S::store(reinterpret_cast<float*>(out + 64 * (8 + D::kScales + half)),
                       decoder.template offset<g.value>(half));
          }
        });
      }
      panel += D::kGroups * 64 * Panel::kLayout.n_dwords;
      block.dwords += 64 * kLayout.n_dwords;
      block.odds += kStripRows * kLayout.odd_bytes;
    }
  }
};

/// Panels of codebook formats, row by row. R is a decoder of rows (decode_iq.h) without offsets.
template <class S, class R>
struct RowFormat {
  static_assert(!R::kOffset && R::kPeriod == 1);
  using Panel = PanelGroup<S, R::kScales, 8, 0, false>;
  static constexpr int64_t kGroups = R::kGroups;
  static constexpr int64_t kBlockBytes = sizeof(typename R::Block);
  static constexpr bool kStrips = false;

  static void fill_panel(const StripOfRows& rows, int64_t begin, int64_t n_blocks, uint8_t* panel) {
    constexpr int64_t kBytes = 64 * Panel::kLayout.n_dwords;
    alignas(64) uint8_t codes[kStripRows][32];
    const uint8_t* code_rows[kStripRows];
    for (int r = 0; r < kStripRows; ++r) code_rows[r] = codes[r];
    for (int64_t b = 0; b < n_blocks; ++b, begin += kBlockBytes) {
      for (int r = 0; r < kStripRows; ++r) {
        BlockScales<R::kGroups * R::kScales, false> scales;
        R::open(*reinterpret_cast<const typename R::Block*>(rows.row[r] + begin), 1.0f, scales);
        for (int i = 0; i < R::kGroups * R::kScales; ++i) {
          uint8_t* to = panel + i / R::kScales * kBytes + 64 * (8 + i % R::kScales) + 4 * r;
          std::memcpy(to, scales.scale + i, sizeof(float));
        }
      }
      for (int g = 0; g < R::kGroups; ++g, panel += kBytes) {
        for (int r = 0; r < kStripRows; ++r)
          _mm256_store_si256(reinterpret_cast<__m256i*>(codes[r]),
                             S::row_panel_codes(R::template codes<0>(
                                 *reinterpret_cast<const typename R::Block*>(rows.row[r] + begin), g)));
        for (int at = 0; at < 8; at += 4) {
          uint8_t* const to[4] = {panel + 64 * at, panel + 64 * (at + 1), panel + 64 * (at + 2),
                                  panel + 64 * (at + 3)};
          S::interleave_4_dwords(code_rows, 4 * at, to);
        }
      }
    }
  }

  static constexpr int kDirectTokens = 4;

  /// What add_products does, without a panel: sixteen rows times kTokens rows of activations. The codes of a
  /// row stay side by side; the sums over their lanes, exact as integers, go to the row's own lane.
  template <int kTokens>
  static void add_rows(const StripOfRows& rows, int64_t n_blocks, const QuantizedGroup* const* x,
                       float* sums) {
    constexpr int kScales = R::kGroups * R::kScales;
    const int64_t half_lines = kStripRows / 2 * n_blocks * kBlockBytes / 64;
    const Ahead next{{rows.next, rows.next + 64 * half_lines}, half_lines};
    for (int64_t b = 0; b < n_blocks; ++b) {
      const auto block = [&](int r) __attribute__((always_inline))->const typename R::Block& {
        return *reinterpret_cast<const typename R::Block*>(rows.row[r] + b * kBlockBytes);
      };
      alignas(64) float scale_of[kScales][kStripRows];
      for (int r = 0; r < kStripRows; ++r) {
        BlockScales<kScales, false> scales;
        R::open(block(r), 1.0f, scales);
        for (int i = 0; i < kScales; ++i) scale_of[i][r] = scales.scale[i];
      }
      for (int g = 0; g < R::kGroups; ++g) {
        alignas(64) int32_t dots[kTokens][2][kStripRows];
        for (int first = 0; first < kStripRows; first += 4) {
          next.fetch(b * 4 * R::kGroups + 4 * g + first / 4, n_blocks * 4 * R::kGroups);
          __m256i dot[kTokens][4];
          for (int r = 0; r < 4; ++r) {
            const __m256i codes = R::template codes<0>(block(first + r), g);
            const __m256i magnitudes = _mm256_abs_epi8(codes);
            for (int t = 0; t < kTokens; ++t)
              dot[t][r] =
                  S::dot_bytes(magnitudes, _mm256_sign_epi8(load_32(x[t][b * R::kGroups + g].codes), codes));
          }
          for (int t = 0; t < kTokens; ++t) {
            const __m256i halves = _mm256_hadd_epi32(_mm256_hadd_epi32(dot[t][0], dot[t][1]),
                                                     _mm256_hadd_epi32(dot[t][2], dot[t][3]));
            const __m128i low = _mm256_castsi256_si128(halves), high = _mm256_extracti128_si256(halves, 1);
            const auto to = [&](int half) { return reinterpret_cast<__m128i*>(&dots[t][half][first]); };
            _mm_store_si128(to(0), R::kScales == 1 ? _mm_add_epi32(low, high) : low);
            if constexpr (R::kScales == 2) _mm_store_si128(to(1), high);
          }
        }
        for (int t = 0; t < kTokens; ++t)
          for (int lane = 0; lane < kStripRows; lane += S::kWidth) {
            const typename S::Floats activation_scale = S::set(x[t][b * R::kGroups + g].scale);
            typename S::Floats sum = S::load(sums + t * kSumStride + lane);
            for (int half = 0; half < R::kScales; ++half) {
              const typename S::Floats scale = S::load(&scale_of[g * R::kScales + half][lane]);
              const auto* products = reinterpret_cast<const uint8_t*>(&dots[t][half][lane]);
              sum = S::fma(S::to_floats(S::load_ints(products)), S::mul(scale, activation_scale), sum);
            }
            S::store(sums + t * kSumStride + lane, sum);
          }
      }
    }
  }
};

/// The matmul of one format F (StripFormat or RowFormat).
template <class S, class F>
class StripMatmul {
 public:
  /// Weights as the file has them.
  static void rows(const MatmulArgs& args) { run<false>(args); }
  /// Weights in strips: row_begin and row_end are multiples of kStripRows.
  static void strips(const MatmulArgs& args) { run<true>(args); }

  static void interleave(const void* weights, int64_t row_bytes, int64_t n_cols, void* out) {
    StripOfRows rows;
    for (int r = 0; r < kStripRows; ++r) rows.row[r] = static_cast<const uint8_t*>(weights) + r * row_bytes;
    rows.next = rows.row[0] + kStripRows * row_bytes;
    interleave_blocks<S, F::Decoder::kType>(rows, 0, n_cols / (32 * F::kGroups), static_cast<uint8_t*>(out));
  }

 private:
  using Panel = typename F::Panel;
  static constexpr int64_t kChunkBlocks = kChunkGroups / F::kGroups;
  static constexpr int64_t kPanelStripBytes = kChunkGroups * 64 * Panel::kLayout.n_dwords;

  template <bool kInStrips>
  static void run(const MatmulArgs& args) {
    StripScratch scratch(args.scratch);
    if (args.n_tokens <= F::kDirectTokens) {
      for (int64_t row = args.row_begin; row < args.row_end; row += kStripRows)
        direct<kInStrips>(args, row, scratch);
      return;
    }
    if constexpr (S::kTiles) S::template Tiles<Panel>::begin();
    for (int64_t first = 0; first < args.n_tokens; first += kTokenBlock) {
      const int64_t n = smaller(kTokenBlock, args.n_tokens - first);
      for (int64_t row = args.row_begin; row < args.row_end; row += kStripRows * S::kTileStrips)
        by_panel<kInStrips>(args, row, first, n, scratch);
    }
    if constexpr (S::kTiles) S::template Tiles<Panel>::end();
  }

  static StripOfRows rows_from(const MatmulArgs& args, int64_t row) {
    StripOfRows rows;
    for (int64_t r = 0; r < kStripRows; ++r)
      rows.row[r] =
          static_cast<const uint8_t*>(args.weights) + smaller(row + r, args.row_end - 1) * args.row_bytes;
    rows.next = static_cast<const uint8_t*>(args.weights) + (row + kStripRows) * args.row_bytes;
    return rows;
  }

  static StripBlock block_of(const uint8_t* strip, int64_t n_blocks, int64_t b) {
    constexpr int64_t kOdd = kStripRows * F::kLayout.odd_bytes;
    return {strip + n_blocks * kOdd + b * 64 * F::kLayout.n_dwords, strip + b * kOdd};
  }

  /// Block b of the strip that begins with `row`, where weights lie in strips.
  static StripBlock block_of(const MatmulArgs& args, int64_t row, int64_t b) {
    const auto* strip = static_cast<const uint8_t*>(args.weights) + row * args.row_bytes;
    const int64_t n_blocks = args.n_cols / (32 * F::kGroups);
    return block_of(strip, n_blocks, b);
  }

  template <bool kInStrips>
  static void direct(const MatmulArgs& args, int64_t row, const StripScratch& scratch) {
    const int64_t n_blocks = args.n_cols / (32 * F::kGroups);
    std::memset(scratch.sums, 0, static_cast<size_t>(args.n_tokens * kSumStride) * sizeof(float));
    if constexpr (!F::kStrips) {
      const StripOfRows rows = rows_from(args, row);
      switch (args.n_tokens) {
        case 1:
          F::template add_rows<1>(rows, n_blocks, args.quantized, scratch.sums);
          break;
        case 2:
          F::template add_rows<2>(rows, n_blocks, args.quantized, scratch.sums);
          break;
        case 3:
          F::template add_rows<3>(rows, n_blocks, args.quantized, scratch.sums);
          break;
        default:
          F::template add_rows<4>(rows, n_blocks, args.quantized, scratch.sums);
      }
    } else if constexpr (kInStrips) {
      add_few<typename F::Decoder>(block_of(args, row, 0), n_blocks, args, 0, scratch.sums);
    } else {
      const StripOfRows rows = rows_from(args, row);
      for (int64_t b = 0; b < n_blocks; b += kChunkBlocks) {
        const int64_t n = smaller(kChunkBlocks, n_blocks - b);
        interleave_blocks<S, F::Decoder::kType>(rows, b * F::kBlockBytes, n, scratch.strip);
        add_few<typename F::Decoder>(block_of(scratch.strip, n, 0), n, args, b * F::kGroups,
                                     scratch.sums);
      }
    }
    store(args, row, smaller(kStripRows, args.row_end - row), 0, args.n_tokens, scratch.sums);
  }

  /// All tokens of a call with few.
  template <class Decoder>
  static void add_few(StripBlock block, int64_t n_blocks, const MatmulArgs& args,
                      int64_t first_group, float* sums) {
    int64_t token = 0;
    for (; token + 4 <= args.n_tokens; token += 4)
      add_products<S, Decoder, 1, 4>(block, 0, n_blocks, args.quantized + token, first_group,
                                     sums + token * kSumStride);
    const QuantizedGroup* const* x = args.quantized + token;
    sums += token * kSumStride;
    switch (args.n_tokens - token) {
      case 3:
        return add_products<S, Decoder, 1, 3>(block, 0, n_blocks, x, first_group, sums);
      case 2:
        return add_products<S, Decoder, 1, 2>(block, 0, n_blocks, x, first_group, sums);
      case 1:
        return add_products<S, Decoder, 1, 1>(block, 0, n_blocks, x, first_group, sums);
      default:
        return;
    }
  }

  template <bool kInStrips>
  static void by_panel(const MatmulArgs& args, int64_t row, int64_t first, int64_t n_tokens,
                       const StripScratch& scratch) {
    const int64_t n_blocks = args.n_cols / (32 * F::kGroups);
    const int64_t n_rows = smaller(kStripRows * S::kTileStrips, args.row_end - row);
    const int64_t n_strips = (n_rows + kStripRows - 1) / kStripRows;
    std::memset(scratch.sums, 0, static_cast<size_t>(n_tokens * kSumStride) * sizeof(float));
    for (int64_t b = 0; b < n_blocks; b += kChunkBlocks) {
      const int64_t n = smaller(kChunkBlocks, n_blocks - b);
      for (int64_t r = 0; r < n_strips; ++r)
        fill_panel<kInStrips>(args, row + r * kStripRows, b, n, scratch,
                              scratch.panel + r * kPanelStripBytes);
      const QuantizedGroup* const* x = args.quantized + first;
      Ahead ahead;
      if constexpr (kInStrips) ahead = after(args, row, n_strips, b + n);
      if constexpr (S::kTiles) {
        ahead.fetch(0, 1);
        S::template Tiles<Panel>::add_all(scratch.panel, kPanelStripBytes, n_strips, n * F::kGroups, x,
                                          b * F::kGroups, n_tokens, scratch.sums, scratch.tokens);
        continue;
      }
      if constexpr (S::kTileStrips == 2) {
        if (n_strips == 2) {
          add_all<2>(scratch.panel, n * F::kGroups, x, b * F::kGroups, n_tokens, scratch.sums, ahead);
          continue;
        }
      }
      add_all<1>(scratch.panel, n * F::kGroups, x, b * F::kGroups, n_tokens, scratch.sums, ahead);
    }
    store(args, row, n_rows, first, n_tokens, scratch.sums);
  }

  /// The weights that by_panel reads next, if block b is the first of them in the strips of `row`.
  static Ahead after(const MatmulArgs& args, int64_t row, int64_t n_strips, int64_t b) {
    const int64_t n_blocks = args.n_cols / (32 * F::kGroups);
    if (b == n_blocks) {
      b = 0;
      row += n_strips * kStripRows;
    }
    if (row >= args.row_end) return {};
    const int64_t second = row + (n_strips - 1) * kStripRows;
    return {{block_of(args, row, b).dwords, block_of(args, second, b).dwords},
            smaller(kChunkBlocks, n_blocks - b) * F::kLayout.n_dwords};
  }

  template <bool kInStrips>
  static void fill_panel(const MatmulArgs& args, int64_t row, int64_t b, int64_t n,
                         const StripScratch& scratch, uint8_t* panel) {
    if constexpr (!F::kStrips) {
      F::fill_panel(rows_from(args, row), b * F::kBlockBytes, n, panel);
    } else if constexpr (kInStrips) {
      F::fill_panel(block_of(args, row, b), n, panel);
    } else {
      interleave_blocks<S, F::Decoder::kType>(rows_from(args, row), b * F::kBlockBytes, n, scratch.strip);
      F::fill_panel(block_of(scratch.strip, n, 0), n, panel);
    }
  }

  /// All tokens of a block, in tiles; the last two share what is left evenly.
  template <int kStrips>
  static void add_all(const uint8_t* panel, int64_t n_groups, const QuantizedGroup* const* x,
                      int64_t first_group, int64_t n_tokens, float* sums, Ahead ahead) {
    constexpr int64_t kMost = S::kTileTokens;
    while (n_tokens > 0) {
      const int64_t n =
          n_tokens > kMost && n_tokens < 2 * kMost ? (n_tokens + 1) / 2 : smaller(kMost, n_tokens);
      add_tile<kStrips, kMost>(n, panel, n_groups, x, first_group, sums, ahead);
      ahead = {};
      x += n;
      sums += n * kSumStride;
      n_tokens -= n;
    }
  }

  template <int kStrips, int kTokens>
  static void add_tile(int64_t n_tokens, const uint8_t* panel, int64_t n_groups,
                       const QuantizedGroup* const* x, int64_t first_group, float* sums, const Ahead& ahead) {
    if constexpr (kTokens > 0) {
      if (n_tokens < kTokens)
        return add_tile<kStrips, kTokens - 1>(n_tokens, panel, n_groups, x, first_group, sums, ahead);
      add_products<S, Panel, kStrips, kTokens>({panel, panel}, kPanelStripBytes, n_groups, x,
                                               first_group, sums, ahead);
    }
  }

  /// y[t][row + r] = scale * sum
  static void store(const MatmulArgs& args, int64_t row, int64_t n_rows, int64_t first, int64_t n_tokens,
                    const float* sums) {
    const typename S::Floats scale = S::set(args.scale);
    for (int64_t t = 0; t < n_tokens; ++t, sums += kSumStride) {
      float* y = args.y[first + t] + row;
      int64_t r = 0;
      for (; r + S::kWidth <= n_rows; r += S::kWidth) S::store(y + r, S::mul(S::load(sums + r), scale));
      if (r < n_rows) S::store_first(y + r, n_rows - r, S::mul(S::load(sums + r), scale));
    }
  }
};

}  // namespace
}  // namespace packmule::kernels
