#include "kernels/variants.h"

namespace packmule::kernels::ref {

void fill_ops(Kernels&) {}

}  // namespace packmule::kernels::ref
