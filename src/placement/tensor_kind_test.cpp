#include "placement/tensor_kind.h"

#include <gtest/gtest.h>

namespace packmule::placement {
namespace {

TEST(TensorKind, IsToldByTheName) {
  EXPECT_EQ(tensor_kind("token_embd.weight"), "embeddings");
  EXPECT_EQ(tensor_kind("output.weight"), "output");
  EXPECT_EQ(tensor_kind("output_norm.weight"), "norms");
  EXPECT_EQ(tensor_kind("blk.11.attn_norm.weight"), "norms");
  EXPECT_EQ(tensor_kind("blk.11.attn_q.weight"), "attention");
  EXPECT_EQ(tensor_kind("blk.11.attn_q_norm.weight"), "attention");
  EXPECT_EQ(tensor_kind("blk.0.attn_qkv.weight"), "DeltaNet");
  EXPECT_EQ(tensor_kind("blk.0.attn_gate.weight"), "DeltaNet");
  EXPECT_EQ(tensor_kind("blk.0.ssm_a"), "DeltaNet");
  EXPECT_EQ(tensor_kind("blk.0.ffn_gate_inp.weight"), "router");
  EXPECT_EQ(tensor_kind("blk.0.ffn_gate_inp_shexp.weight"), "shared experts");
  EXPECT_EQ(tensor_kind("blk.0.ffn_gate_up_exps.weight"), "experts");
  EXPECT_EQ(tensor_kind("blk.48.nextn.eh_proj.weight"), "multi-token prediction");
  EXPECT_EQ(tensor_kind("rope_freqs.weight"), "other");
}

}  // namespace
}  // namespace packmule::placement
