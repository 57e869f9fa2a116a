#include "kernels/common/matmul.h"

#include "kernels/avx2/simd.h"
#include "kernels/variants.h"

namespace packmule::kernels::avx2 {

void fill_matmul(Kernels& kernels) {
  MatmulTable<Simd>::fill(kernels);
}

}  // namespace packmule::kernels::avx2
