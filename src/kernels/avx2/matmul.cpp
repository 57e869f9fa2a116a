#include "kernels/variants.h"

namespace packmule::kernels::avx2 {

void fill_matmul(Kernels& kernels) {
  ref::fill_matmul(kernels);
}

}  // namespace packmule::kernels::avx2
