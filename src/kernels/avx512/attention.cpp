#include "kernels/common/attention.h"

#include "kernels/avx512/ops_simd.h"
#include "kernels/variants.h"

namespace packmule::kernels::avx512 {
namespace {

void attention(const AttentionArgs& args) {
  Attention<OpsSimd>::run(args, kernels_for(Isa::kAvx512).decode);
}

}  // namespace

void fill_attention(Kernels& kernels) {
  kernels.attention = attention;
}

}  // namespace packmule::kernels::avx512
