#include "kernels/variants.h"

namespace packmule::kernels::avx2 {

void fill_ops(Kernels&) {}

}  // namespace packmule::kernels::avx2
