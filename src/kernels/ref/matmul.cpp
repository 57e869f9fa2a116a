// The matmul everything else is compared with: one row decoded at a time by the format's own scalar decoder,
// exact activations, sums in double.
#include "kernels/variants.h"

namespace packmule::kernels::ref {
namespace {

template <uint32_t kTypeId>
void matmul(const MatmulArgs& args) {
  const quant::DecodeFn decode = quant::find_format(kTypeId)->decode;
  for (int64_t row = args.row_begin; row < args.row_end; ++row) {
    decode(static_cast<const unsigned char*>(args.weights) + row * args.row_bytes, args.scratch, args.n_cols);
    for (int64_t t = 0; t < args.n_tokens; ++t) {
      double sum = 0;
      for (int64_t c = 0; c < args.n_cols; ++c)
        sum += static_cast<double>(args.scratch[c]) * static_cast<double>(args.x[t][c]);
      args.y[t][row] = static_cast<float>(sum * static_cast<double>(args.scale));
    }
  }
}

// A function per type id, because a MatmulFn is not told the format of its weights.
template <uint32_t kTypeId>
void fill_from(Kernels& kernels) {
  if constexpr (kTypeId < quant::kTypeIdLimit) {
    if (const quant::Format* format = quant::find_format(kTypeId)) {
      kernels.matmul[kTypeId] = {.takes_quantized = false, .rows = matmul<kTypeId>};
      kernels.decode[kTypeId] = format->decode;
    }
    fill_from<kTypeId + 1>(kernels);
  }
}

}  // namespace

void fill_matmul(Kernels& kernels) {
  fill_from<0>(kernels);
}

}  // namespace packmule::kernels::ref
