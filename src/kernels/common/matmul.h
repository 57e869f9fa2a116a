// Matmuls of F32, F16 and BF16 weights, with exact float activations, and the table of all formats; those of
// blocks take strip_matmul.h.
//
// The sum behind one output element always takes the same path, whatever the call looks like: columns are cut
// into blocks of kColumnBlock; within a block one vector accumulator walks the columns by FMA; its lanes are
// summed in a fixed tree; the blocks' sums are added in order. Rows, tokens, tiles and entries only decide
// which of these independent sums are worked on together.
//
// Two ways to get there: `direct` keeps weights in registers, for so few tokens that the bytes of W are what
// costs; `panel` widens rows into scratch once and runs a register tile over them and all tokens.
#pragma once

#include "kernels/common/panel_tiles.h"
#include "kernels/common/reader.h"
#include "kernels/common/strip_matmul.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

/// n_elems weights as floats; the bits of the format's scalar decoder.
template <class S, class Reader>
void decode_row(const void* weights, float* out, int64_t n_elems) {
  constexpr int kGroups = Reader::kElems / kGroupElems;
  const auto* bytes = static_cast<const uint8_t*>(weights);
  int64_t c = 0;
  for (; c + Reader::kElems <= n_elems; c += Reader::kElems, bytes += Reader::kBytes) {
    typename Reader::State state;
    Reader::open(bytes, state);
    for (int first = 0; first < kGroups; first += Reader::kPeriod) {
      unrolled<Reader::kPeriod>([&](auto phase) __attribute__((always_inline)) {
        typename S::Floats v[kGroupElems / S::kWidth];
        Reader::template weights<phase.value>(bytes, state, first, v);
        float* group_out = out + c + kGroupElems * (first + phase.value);
        for (int i = 0; i < kGroupElems / S::kWidth; ++i) S::store(group_out + i * S::kWidth, v[i]);
      });
    }
  }
  if constexpr (Reader::kTail) {
    if (c == n_elems) return;
    typename S::Floats v[kGroupElems / S::kWidth];
    Reader::tail(bytes, n_elems - c, v);
    for (int i = 0; c < n_elems; c += S::kWidth, ++i)
      S::store_first(out + c, smaller(n_elems - c, S::kWidth), v[i]);
  }
}

template <class S, class Element>
class FloatMatmul {
 public:
  static void run(const MatmulArgs& args) {
    if (args.n_tokens > kDirectTokens) return panel(args);
    for (int64_t row = args.row_begin; row < args.row_end; row += kDirectRows) {
      if (args.n_tokens == 1) direct<1>(args, row);
      if (args.n_tokens == 2) direct<2>(args, row);
    }
  }

 private:
  using Floats = typename S::Floats;
  using Stored = typename Element::Stored;
  using Reader = ElementReader<S, Element>;
  static constexpr int kDirectRows = 4;
  static constexpr int kDirectTokens = 2;

  /// Four rows at once, for four independent chains of additions a token.
  template <int kTokens>
  static void direct(const MatmulArgs& args, int64_t row) {
    const int64_t n_rows = smaller(kDirectRows, args.row_end - row);
    const Stored* rows[kDirectRows];
    for (int r = 0; r < kDirectRows; ++r) {
      // The last rows may be fewer: a row is then summed twice and stored once.
      const int64_t own = row + smaller(r, n_rows - 1);
      rows[r] =
          reinterpret_cast<const Stored*>(static_cast<const uint8_t*>(args.weights) + own * args.row_bytes);
    }
    const int64_t ahead = kDirectRows * args.row_bytes;
    __m128 total[kTokens];
    for (int t = 0; t < kTokens; ++t) total[t] = _mm_setzero_ps();
    for (int64_t begin = 0; begin < args.n_cols; begin += kColumnBlock) {
      const int64_t end = smaller(begin + kColumnBlock, args.n_cols);
      const int64_t full = end - (end - begin) % kGroupElems;
      Floats sum[kTokens][kDirectRows];
      for (int t = 0; t < kTokens; ++t)
        for (int r = 0; r < kDirectRows; ++r) sum[t][r] = S::zero();
      for (int64_t c = begin; c < full; c += kGroupElems) {
        for (int r = 0; r < kDirectRows; ++r)
          for (size_t offset = 0; offset < kGroupElems * sizeof(Stored); offset += 64)
            _mm_prefetch(reinterpret_cast<const char*>(rows[r] + c) + ahead + offset, _MM_HINT_T0);
        for (int64_t i = c; i < c + kGroupElems; i += S::kWidth)
          for (int r = 0; r < kDirectRows; ++r) {
            const Floats weight = Element::load(rows[r] + i);
            for (int t = 0; t < kTokens; ++t) sum[t][r] = S::fma(weight, S::load(args.x[t] + i), sum[t][r]);
          }
      }
      for (int r = 0; r < kDirectRows && full < end; ++r) {
        Floats v[kGroupElems / S::kWidth];
        Reader::tail(reinterpret_cast<const uint8_t*>(rows[r] + full), end - full, v);
        for (int64_t c = full; c < end; c += S::kWidth)
          for (int t = 0; t < kTokens; ++t)
            sum[t][r] = S::fma(v[(c - full) / S::kWidth],
                               S::load_first(args.x[t] + c, smaller(end - c, S::kWidth)), sum[t][r]);
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

  /// Widens [row, row + n_rows) into scratch: column block by column block, in each row after row; columns
  /// are padded to 16 and rows to the largest tile with zeros.
  static void fill_panel(const MatmulArgs& args, int64_t row, int64_t n_rows, int64_t padded_rows) {
    const auto* weights = static_cast<const uint8_t*>(args.weights);
    for (int64_t begin = 0; begin < args.n_cols; begin += kColumnBlock) {
      const int64_t n_cols = smaller(kColumnBlock, args.n_cols - begin);
      const int64_t width = panel_row_floats(n_cols);
      float* out = args.scratch + begin * padded_rows;
      for (int64_t r = 0; r < n_rows; ++r, out += width) {
        const uint8_t* elements =
            weights + (row + r) * args.row_bytes + begin * static_cast<int64_t>(sizeof(Stored));
        decode_row<S, Reader>(elements, out, n_cols);
        std::memset(out + n_cols, 0, static_cast<size_t>(width - n_cols) * sizeof(float));
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

/// Sets the entries of every format, all of them for the vectors of S (a folder's StripSimd).
template <class S>
struct MatmulTable {
  static void fill(Kernels& kernels) {
    using quant::Type;
    elements<ElementF32<S>>(kernels, Type::kF32);
    elements<ElementF16<S>>(kernels, Type::kF16);
    elements<ElementBF16<S>>(kernels, Type::kBF16);
    blocks<DecodeQ4_0, StripQ4_0>(kernels, Type::kQ4_0);
    blocks<DecodeQ4_1, StripQ4_1>(kernels, Type::kQ4_1);
    blocks<DecodeQ5_0, StripQ5_0>(kernels, Type::kQ5_0);
    blocks<DecodeQ5_1, StripQ5_1>(kernels, Type::kQ5_1);
    blocks<DecodeQ8_0, StripQ8_0>(kernels, Type::kQ8_0);
    blocks<DecodeIQ4_NL, StripIQ4_NL>(kernels, Type::kIQ4_NL);
    blocks<DecodeMXFP4, StripMXFP4>(kernels, Type::kMXFP4);
    blocks<DecodeNVFP4, StripNVFP4>(kernels, Type::kNVFP4);
    blocks<DecodeQ2_K, StripQ2_K>(kernels, Type::kQ2_K);
    blocks<DecodeQ3_K, StripQ3_K>(kernels, Type::kQ3_K);
    blocks<DecodeQ4_K, StripQ4_K>(kernels, Type::kQ4_K);
    blocks<DecodeQ5_K, StripQ5_K>(kernels, Type::kQ5_K);
    blocks<DecodeQ6_K, StripQ6_K>(kernels, Type::kQ6_K);
    blocks<DecodeIQ4_XS, StripIQ4_XS>(kernels, Type::kIQ4_XS);
    blocks<DecodeTQ1_0, StripTQ1_0>(kernels, Type::kTQ1_0);
    blocks<DecodeTQ2_0, StripTQ2_0>(kernels, Type::kTQ2_0);
    codebook<DecodeIQ1_S>(kernels, Type::kIQ1_S);
    codebook<DecodeIQ1_M>(kernels, Type::kIQ1_M);
    codebook<DecodeIQ2_XXS>(kernels, Type::kIQ2_XXS);
    codebook<DecodeIQ2_XS>(kernels, Type::kIQ2_XS);
    codebook<DecodeIQ2_S>(kernels, Type::kIQ2_S);
    codebook<DecodeIQ3_XXS>(kernels, Type::kIQ3_XXS);
    codebook<DecodeIQ3_S>(kernels, Type::kIQ3_S);
  }

 private:
  template <class Element>
  static void elements(Kernels& kernels, quant::Type type) {
    const auto id = static_cast<uint32_t>(type);
    kernels.matmul[id] = {.takes_quantized = false, .rows = FloatMatmul<S, Element>::run};
    kernels.decode[id] = decode_row<S, ElementReader<S, Element>>;
  }
  template <class Decoder, template <class> class StripDecoder>
  static void blocks(Kernels& kernels, quant::Type type) {
    const auto id = static_cast<uint32_t>(type);
    using Integer = StripMatmul<S, StripFormat<S, StripDecoder<S>>>;
    static_assert(sizeof(typename Decoder::Block) == StripFormat<S, StripDecoder<S>>::kBlockBytes);
    kernels.matmul[id] = {.takes_quantized = true,
                          .rows = Integer::rows,
                          .strips = Integer::strips,
                          .interleave = Integer::interleave};
    kernels.decode[id] = decode_row<S, BlockReader<S, Decoder>>;
  }
  template <class Decoder>
  static void codebook(Kernels& kernels, quant::Type type) {
    const auto id = static_cast<uint32_t>(type);
    kernels.matmul[id] = {.takes_quantized = true, .rows = StripMatmul<S, RowFormat<S, Decoder>>::rows};
    kernels.decode[id] = decode_row<S, BlockReader<S, Decoder>>;
  }
};

}  // namespace
}  // namespace packmule::kernels
