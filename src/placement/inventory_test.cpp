#include "placement/inventory.h"

#include <gtest/gtest.h>

#include <map>

#include "placement/model_for_test.h"

namespace packmule::placement {
namespace {

std::map<Part, int> parts_of(const Inventory& inventory, int layer) {
  std::map<Part, int> parts;
  for (const int t : inventory.of_layer[static_cast<size_t>(layer)])
    ++parts[inventory.tensors[static_cast<size_t>(t)].part];
  return parts;
}

TEST(Inventory, KnowsEveryTensor) {
  const Inventory inventory = DirectoryForTest().inventory();
  EXPECT_EQ(inventory.unused_bytes, 0);
  EXPECT_EQ(inventory.embedding, 0);
  EXPECT_EQ(inventory.output.size(), 2u);
  EXPECT_EQ(parts_of(inventory, 0), (std::map<Part, int>{{Part::kMixerIn, 3},
                                                         {Part::kMixerSmall, 5},
                                                         {Part::kMixerOut, 1},
                                                         {Part::kRouter, 2},
                                                         {Part::kShared, 4},
                                                         {Part::kExpertGate, 1},
                                                         {Part::kExpertUp, 1},
                                                         {Part::kExpertDown, 1}}));
  EXPECT_EQ(parts_of(inventory, 3)[Part::kMixerIn], 3);
  EXPECT_EQ(parts_of(inventory, 3)[Part::kMixerSmall], 3);
  int64_t bytes = 0;
  for (const Tensor& tensor : inventory.tensors) {
    bytes += tensor.bytes;
    if (is_expert(tensor.part)) {
      EXPECT_EQ(tensor.bytes_per_token * 512, tensor.bytes * 10) << tensor.name;
    }
  }
  EXPECT_EQ(bytes, inventory.loaded_bytes);
  EXPECT_NEAR(static_cast<double>(bytes), 51e9, 1e9);
}

TEST(Inventory, ReadsOtherLayoutsOfTheSameModel) {
  const Inventory usual = DirectoryForTest().inventory();
  DirectoryForTest other;
  other.old_ssm_in = other.fused_gate_up = true;
  const Inventory old = other.inventory();
  EXPECT_EQ(old.unused_bytes, 0);
  EXPECT_EQ(old.loaded_bytes, usual.loaded_bytes);
  EXPECT_EQ(old.bytes_per_token, usual.bytes_per_token);
  EXPECT_EQ(parts_of(old, 0)[Part::kMixerIn], 2);
  EXPECT_EQ(parts_of(old, 0)[Part::kExpertGate], 1);
  EXPECT_EQ(parts_of(old, 0).count(Part::kExpertUp), 0u);
}

TEST(Inventory, LeavesTheBlockOfMultiTokenPredictionOut) {
  DirectoryForTest directory;
  const int64_t loaded = directory.inventory().loaded_bytes;
  directory.with_mtp_block = true;
  const Inventory inventory = directory.inventory();
  EXPECT_EQ(inventory.loaded_bytes, loaded);
  EXPECT_GT(inventory.unused_bytes, int64_t{800} << 20);
  EXPECT_EQ(inventory.of_layer.size(), 48u);
  for (const Tensor& tensor : inventory.tensors)
    EXPECT_EQ(tensor.layer == 48, tensor.part == Part::kUnused) << tensor.name;
}

TEST(Inventory, CountsATiedOutputOnDevicesOnly) {
  DirectoryForTest directory;
  directory.tied_output = true;
  const Inventory inventory = directory.inventory();
  const Tensor& head = inventory.tensors.back();
  EXPECT_TRUE(head.tied);
  EXPECT_EQ(bytes_at(head, kHost), 0);
  EXPECT_EQ(bytes_at(head, 1), head.bytes);
  EXPECT_EQ(head.bytes_per_token, head.bytes);
  int64_t bytes = 0;
  for (const Tensor& tensor : inventory.tensors) bytes += bytes_at(tensor, kHost);
  EXPECT_EQ(bytes, inventory.loaded_bytes);
}

TEST(Inventory, TakesNothingForGrantedInNames) {
  const auto info = [](std::string_view name) {
    gguf::TensorInfo made;
    made.name = name;
    made.ne = {256, 4, 1, 1};
    made.format = &quant::format_of(quant::Type::kF32);
    made.size_bytes = 4096;
    return made;
  };
  const std::vector<gguf::TensorInfo> tensors = {info("blk.99999999999999999999.attn_norm.weight"),
                                                 info("blk.-1.attn_norm.weight"),
                                                 info("blk..x"),
                                                 info("blk.0"),
                                                 info("blk.5.attn_norm.weight"),
                                                 info("blk.0.unknown.weight"),
                                                 info("rope_freqs.weight"),
                                                 info("blk.0.attn_norm.weight")};
  const Inventory inventory =
      Inventory::make({.n_layers = 1, .recurrent = {true}, .n_experts = 1, .n_experts_used = 1}, tensors);
  EXPECT_EQ(inventory.loaded_bytes, 4096);
  EXPECT_EQ(inventory.unused_bytes, 7 * 4096);
  EXPECT_EQ(inventory.embedding, -1);
}

}  // namespace
}  // namespace packmule::placement
