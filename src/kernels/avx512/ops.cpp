#include "kernels/variants.h"

namespace packmule::kernels::avx512 {

void fill_ops(Kernels&) {}

}  // namespace packmule::kernels::avx512
