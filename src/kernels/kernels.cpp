#include "kernels/kernels.h"

#include <algorithm>

#include "kernels/common/panel.h"
#include "kernels/common/strip_scratch.h"
#include "kernels/variants.h"

namespace packmule::kernels {
namespace {

using Fill = void (*)(Kernels&);

Kernels make_table(Isa isa, Fill fill_matmul, Fill fill_ops) {
  Kernels kernels{};
  kernels.isa = isa;
  fill_matmul(kernels);
  fill_ops(kernels);
  return kernels;
}

}  // namespace

const Kernels& kernels_for(Isa isa) {
  // Each table is made at its first use, so that no code of an instruction set runs before someone who knows
  // that it is usable asks for it.
  switch (isa) {
    case Isa::kAmx: {
      static const Kernels kernels = make_table(isa, amx::fill_matmul, avx512::fill_ops);
      return kernels;
    }
    case Isa::kAvx512: {
      static const Kernels kernels = make_table(isa, avx512::fill_matmul, avx512::fill_ops);
      return kernels;
    }
    case Isa::kAvxVnni: {
      static const Kernels kernels = make_table(isa, avxvnni::fill_matmul, avx2::fill_ops);
      return kernels;
    }
    case Isa::kAvx2: {
      static const Kernels kernels = make_table(isa, avx2::fill_matmul, avx2::fill_ops);
      return kernels;
    }
    case Isa::kRef:
      break;
  }
  static const Kernels kernels = make_table(Isa::kRef, ref::fill_matmul, ref::fill_ops);
  return kernels;
}

int64_t matmul_scratch_floats(int64_t n_cols) {
  return std::max(panel_rows(n_cols) * panel_row_floats(n_cols),
                  kStripScratchBytes / static_cast<int64_t>(sizeof(float)));
}

}  // namespace packmule::kernels
