#include "kernels/common/matmul.h"

#include "kernels/avxvnni/strip_simd.h"
#include "kernels/variants.h"

namespace packmule::kernels::avxvnni {

void fill_matmul(Kernels& kernels) {
  MatmulTable<VnniStripSimd>::fill(kernels);
}

}  // namespace packmule::kernels::avxvnni
