// Matmuls with exact float activations, written once over the vector primitives of an instruction set (S) and
// the reader of a format (reader.h).
//
// The sum behind one output element always takes the same path, whatever the call looks like: columns are cut
// into blocks of kColumnBlock; within a block one vector accumulator walks the columns by FMA; its lanes are
// summed in a fixed tree; the blocks' sums are added in order. Rows, tokens, tiles and entries only decide
// which of these independent sums are worked on together.
//
// Two ways to get there: `direct` keeps decoded weights in registers, for so few tokens that the bytes of W
// are what costs; `panel` decodes rows into scratch once and runs a register tile over them and all tokens.
// An int8-activation kernel (VNNI, AMX) would be a third, with a sum of its own.
#pragma once

#include "kernels/common/panel_tiles.h"
#include "kernels/common/reader.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

template <class S, class Reader>
struct Matmul {
  using Floats = typename S::Floats;
  static constexpr int kVectors = kGroupElems / S::kWidth;
  static constexpr int kGroups = Reader::kElems / kGroupElems;
  static constexpr int kDirectRows = 4;
  static constexpr int kDirectTokens = 2;

  static void run(const MatmulArgs& args) {
    if (args.n_tokens <= kDirectTokens) {
      direct(args);
    } else {
      panel(args);
    }
  }

  /// quant::DecodeFn
  static void decode(const void* blocks, float* out, int64_t n_elems) {
    const int64_t full = n_elems - n_elems % Reader::kElems;
    const auto* bytes = static_cast<const uint8_t*>(blocks);
    decode_blocks(bytes, out, full);
    if constexpr (Reader::kTail) {
      if (full == n_elems) return;
      Floats v[kVectors];
      Reader::tail(bytes + full / Reader::kElems * Reader::kBytes, n_elems - full, v);
      for (int i = 0; full + i * S::kWidth < n_elems; ++i) {
        const int64_t c = full + i * S::kWidth;
        S::store_first(out + c, smaller(n_elems - c, S::kWidth), v[i]);
      }
    }
  }

 private:
  static void direct(const MatmulArgs& args) {
    for (int64_t row = args.row_begin; row < args.row_end; row += kDirectRows) {
      if (args.n_tokens == 1) direct_rows<1>(args, row);
      if (args.n_tokens == 2) direct_rows<2>(args, row);
    }
  }

  /// Four rows at once, for four independent chains of additions a token.
  template <int kTokens>
  static void direct_rows(const MatmulArgs& args, int64_t row) {
    const int64_t n_rows = smaller(kDirectRows, args.row_end - row);
    const uint8_t* rows[kDirectRows];
    for (int r = 0; r < kDirectRows; ++r) {
      // The last rows may be fewer: a row is then summed twice and stored once.
      const int64_t own = row + smaller(r, n_rows - 1);
      rows[r] = static_cast<const uint8_t*>(args.weights) + own * args.row_bytes;
    }
    const int64_t ahead = kDirectRows * args.row_bytes;
    const float* x[kTokens];
    __m128 total[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      x[t] = args.x[t];
      total[t] = _mm_setzero_ps();
    }
    for (int64_t begin = 0; begin < args.n_cols; begin += kColumnBlock) {
      const int64_t end = smaller(begin + kColumnBlock, args.n_cols);
      const int64_t full = end - (end - begin) % Reader::kElems;
      Floats sum[kTokens][kDirectRows];
      for (int t = 0; t < kTokens; ++t)
        for (int r = 0; r < kDirectRows; ++r) sum[t][r] = S::zero();
      for (int64_t c = begin; c < full; c += Reader::kElems) {
        typename Reader::State state[kDirectRows];
        for (int r = 0; r < kDirectRows; ++r) {
          Reader::open(rows[r], state[r]);
          prefetch(rows[r] + ahead);
        }
        for (int first = 0; first < kGroups; first += Reader::kPeriod) {
          unrolled<Reader::kPeriod>([&](auto phase) __attribute__((always_inline)) {
            const int64_t group_begin = c + kGroupElems * (first + phase.value);
            for (int r = 0; r < kDirectRows; ++r) {
              Floats v[kVectors];
              Reader::template weights<phase.value>(rows[r], state[r], first, v);
              for (int i = 0; i < kVectors; ++i)
                for (int t = 0; t < kTokens; ++t)
                  sum[t][r] = S::fma(v[i], S::load(x[t] + group_begin + i * S::kWidth), sum[t][r]);
            }
          });
        }
        for (int r = 0; r < kDirectRows; ++r) rows[r] += Reader::kBytes;
      }
      if constexpr (Reader::kTail) {
        for (int r = 0; r < kDirectRows && full < end; ++r) {
          Floats v[kVectors];
          Reader::tail(rows[r], end - full, v);
          for (int64_t c = full; c < end; c += S::kWidth)
            for (int t = 0; t < kTokens; ++t)
              sum[t][r] = S::fma(v[(c - full) / S::kWidth],
                                 S::load_first(x[t] + c, smaller(end - c, S::kWidth)), sum[t][r]);
        }
      }
      for (int t = 0; t < kTokens; ++t)
        total[t] = _mm_add_ps(total[t], sum_lanes<S>(sum[t][0], sum[t][1], sum[t][2], sum[t][3]));
    }
    for (int t = 0; t < kTokens; ++t) {
      alignas(16) float result[kDirectRows];
      _mm_store_ps(result, _mm_mul_ps(total[t], _mm_set1_ps(args.scale)));
      for (int64_t r = 0; r < n_rows; ++r) args.y[t][row + r] = result[r];
    }
  }

  /// The cache lines of one block.
  [[gnu::always_inline]] static void prefetch(const uint8_t* block) {
    for (int offset = 0; offset < Reader::kBytes; offset += 64)
      _mm_prefetch(reinterpret_cast<const char*>(block) + offset, _MM_HINT_T0);
  }

  static void decode_blocks(const uint8_t* blocks, float* out, int64_t n_elems) {
    for (int64_t c = 0; c < n_elems; c += Reader::kElems, blocks += Reader::kBytes) {
      typename Reader::State state;
      Reader::open(blocks, state);
      for (int first = 0; first < kGroups; first += Reader::kPeriod) {
        unrolled<Reader::kPeriod>([&](auto phase) __attribute__((always_inline)) {
          Floats v[kVectors];
          Reader::template weights<phase.value>(blocks, state, first, v);
          float* group_out = out + c + kGroupElems * (first + phase.value);
          for (int i = 0; i < kVectors; ++i) S::store(group_out + i * S::kWidth, v[i]);
        });
      }
    }
  }

  /// Decodes [row, row + n_rows) into scratch: column block by column block, in each row after row; columns
  /// are padded to 16 and rows to the largest tile with zeros.
  static void fill_panel(const MatmulArgs& args, int64_t row, int64_t n_rows, int64_t padded_rows) {
    const auto* weights = static_cast<const uint8_t*>(args.weights);
    for (int64_t begin = 0; begin < args.n_cols; begin += kColumnBlock) {
      const int64_t end = smaller(begin + kColumnBlock, args.n_cols);
      const int64_t full = end - (end - begin) % Reader::kElems;
      const int64_t width = panel_row_floats(end - begin);
      float* out = args.scratch + begin * padded_rows;
      for (int64_t r = 0; r < n_rows; ++r, out += width) {
        const uint8_t* blocks =
            weights + (row + r) * args.row_bytes + begin / Reader::kElems * Reader::kBytes;
        decode_blocks(blocks, out, full - begin);
        if constexpr (Reader::kTail) {
          if (full == end) continue;
          Floats v[kVectors];
          Reader::tail(blocks + (full - begin) / Reader::kElems * Reader::kBytes, end - full, v);
          for (int i = 0; full - begin + i * S::kWidth < width; ++i)
            S::store(out + full - begin + i * S::kWidth, v[i]);
        }
      }
      std::memset(out, 0, static_cast<size_t>((padded_rows - n_rows) * width) * sizeof(float));
    }
  }

  static void panel(const MatmulArgs& args) {
    const int64_t max_rows = panel_rows(args.n_cols);
    for (int64_t row = args.row_begin; row < args.row_end; row += max_rows) {
      const int64_t n_rows = smaller(max_rows, args.row_end - row);
      const int64_t padded_rows = (n_rows + kPanelRowMultiple - 1) / kPanelRowMultiple * kPanelRowMultiple;
      fill_panel(args, row, n_rows, padded_rows);
      PanelTiles<S>::multiply(args, row, n_rows, padded_rows);
    }
  }
};

/// Sets the entries of every format, all of them for the vectors of S.
template <class S>
struct MatmulTable {
  static void fill(Kernels& kernels) {
    using quant::Type;
    set<ElementReader<S, ElementF32<S>>>(kernels, Type::kF32);
    set<ElementReader<S, ElementF16<S>>>(kernels, Type::kF16);
    set<ElementReader<S, ElementBF16<S>>>(kernels, Type::kBF16);
    set<BlockReader<S, DecodeQ4_0>>(kernels, Type::kQ4_0);
    set<BlockReader<S, DecodeQ4_1>>(kernels, Type::kQ4_1);
    set<BlockReader<S, DecodeQ5_0>>(kernels, Type::kQ5_0);
    set<BlockReader<S, DecodeQ5_1>>(kernels, Type::kQ5_1);
    set<BlockReader<S, DecodeQ8_0>>(kernels, Type::kQ8_0);
    set<BlockReader<S, DecodeIQ4_NL>>(kernels, Type::kIQ4_NL);
    set<BlockReader<S, DecodeMXFP4>>(kernels, Type::kMXFP4);
    set<BlockReader<S, DecodeNVFP4>>(kernels, Type::kNVFP4);
    set<BlockReader<S, DecodeQ2_K>>(kernels, Type::kQ2_K);
    set<BlockReader<S, DecodeQ3_K>>(kernels, Type::kQ3_K);
    set<BlockReader<S, DecodeQ4_K>>(kernels, Type::kQ4_K);
    set<BlockReader<S, DecodeQ5_K>>(kernels, Type::kQ5_K);
    set<BlockReader<S, DecodeQ6_K>>(kernels, Type::kQ6_K);
    set<BlockReader<S, DecodeIQ4_XS>>(kernels, Type::kIQ4_XS);
    set<BlockReader<S, DecodeTQ1_0>>(kernels, Type::kTQ1_0);
    set<BlockReader<S, DecodeTQ2_0>>(kernels, Type::kTQ2_0);
    set<BlockReader<S, DecodeIQ1_S>>(kernels, Type::kIQ1_S);
    set<BlockReader<S, DecodeIQ1_M>>(kernels, Type::kIQ1_M);
    set<BlockReader<S, DecodeIQ2_XXS>>(kernels, Type::kIQ2_XXS);
    set<BlockReader<S, DecodeIQ2_XS>>(kernels, Type::kIQ2_XS);
    set<BlockReader<S, DecodeIQ2_S>>(kernels, Type::kIQ2_S);
    set<BlockReader<S, DecodeIQ3_XXS>>(kernels, Type::kIQ3_XXS);
    set<BlockReader<S, DecodeIQ3_S>>(kernels, Type::kIQ3_S);
  }

 private:
  template <class Reader>
  static void set(Kernels& kernels, quant::Type type) {
    const auto id = static_cast<uint32_t>(type);
    // Both entries choose by the number of tokens; they part when one of them takes int8 activations.
    kernels.matmul[id] = {.decode = Matmul<S, Reader>::run, .prefill = Matmul<S, Reader>::run};
    kernels.decode[id] = Matmul<S, Reader>::decode;
  }
};

}  // namespace
}  // namespace packmule::kernels
