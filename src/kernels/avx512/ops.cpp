#include "kernels/common/ops.h"

#include "kernels/avx512/ops_simd.h"
#include "kernels/variants.h"

namespace packmule::kernels::avx512 {

void fill_ops(Kernels& kernels) {
  Ops<OpsSimd>::fill(kernels);
  fill_delta(kernels);
  fill_attention(kernels);
}

}  // namespace packmule::kernels::avx512
