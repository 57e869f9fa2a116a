#include "kernels/avx512/ops_simd.h"
#include "kernels/common/delta_chunked.h"
#include "kernels/common/delta_recurrent.h"
#include "kernels/variants.h"

namespace packmule::kernels::avx512 {

void fill_delta(Kernels& kernels) {
  kernels.delta_recurrent = DeltaRecurrent<OpsSimd>::run;
  kernels.delta_chunked = DeltaChunked<OpsSimd>::run;
}

}  // namespace packmule::kernels::avx512
