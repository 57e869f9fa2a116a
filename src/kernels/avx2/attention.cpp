#include "kernels/common/attention.h"

#include "kernels/avx2/ops_simd.h"
#include "kernels/variants.h"

namespace packmule::kernels::avx2 {
namespace {

void attention(const AttentionArgs& args) {
  Attention<OpsSimd>::run(args, kernels_for(Isa::kAvx2).decode);
}

}  // namespace

void fill_attention(Kernels& kernels) {
  kernels.attention = attention;
}

}  // namespace packmule::kernels::avx2
