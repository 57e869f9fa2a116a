#include "kernels/variants.h"

namespace packmule::kernels::avx2 {

void fill_ops(Kernels& kernels) {
  ref::fill_ops(kernels);
}

}  // namespace packmule::kernels::avx2
