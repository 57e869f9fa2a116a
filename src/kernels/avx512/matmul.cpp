#include "kernels/common/matmul.h"

#include "kernels/avx512/strip_simd.h"
#include "kernels/variants.h"

namespace packmule::kernels::avx512 {

void fill_matmul(Kernels& kernels) {
  MatmulTable<StripSimd>::fill(kernels);
}

}  // namespace packmule::kernels::avx512
