#include "kernels/common/matmul.h"

#include "kernels/amx/strip_simd.h"
#include "kernels/variants.h"

namespace packmule::kernels::amx {

void fill_matmul(Kernels& kernels) {
  MatmulTable<TileStripSimd>::fill(kernels);
}

}  // namespace packmule::kernels::amx
