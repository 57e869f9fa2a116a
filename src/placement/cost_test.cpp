#include "placement/cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "placement/model_for_test.h"

namespace packmule::placement {
namespace {

class CostTest : public testing::Test {
 protected:
  CostTest() {
    // Round numbers, so that a test can say what comes out.
    machine.processors[0].read_bytes_s = 50e9;
    machine.processors[1].read_bytes_s = 500e9;
    machine.processors[1].link_bytes_s = 10e9;
    machine.processors[1].hop_s = 20e-6;
    for (Processor& p : machine.processors) {
      p.phase_s = 0;
      p.format_factor = Processor::filled(1.0f);
      p.cache_factor_16 = p.cache_factor_blocks = 1;
    }
    placement.of_tensor.assign(inventory.tensors.size(), kHost);
    placement.home.assign(48, kHost);
    freedom.tensor.assign(inventory.tensors.size(), true);
    freedom.home.assign(48, true);
  }

  Inventory inventory = DirectoryForTest().inventory();
  Machine machine = machine_for_test(64, {24});
  Demand demand = demand_for_test(32768);
  Placement placement;
  Freedom freedom;
  CostModel cost{inventory, machine, demand};
};

TEST_F(CostTest, OnTheHostDecodingIsBytesByBandwidth) {
  const Seconds s = cost.whole(placement, {});
  const double states = 2.0 * 36 * static_cast<double>(demand.state_bytes);
  const double cache = 12.0 * static_cast<double>(demand.kv_row_bytes);
  EXPECT_NEAR(s.total(), (static_cast<double>(inventory.bytes_per_token) + states + cache) / 50e9, 1e-9);
  EXPECT_DOUBLE_EQ(s.total(), s.memory[kHost]);
  const Seconds deep = cost.whole(placement, {.depth = 10000});
  EXPECT_NEAR(deep.total() - s.total(), 10000 * cache / 50e9, 1e-9);
}

TEST_F(CostTest, FormatsThatDecodeSlowlyTakeLonger) {
  const double before = cost.whole(placement, {}).total();
  machine.processors[0].format_factor[static_cast<size_t>(quant::Type::kQ5_K)] = 0.5f;
  EXPECT_GT(cost.whole(placement, {}).total(), before * 1.1);
}

TEST_F(CostTest, WeightsOnTheDiskAreReadFirst) {
  const double before = cost.whole(placement, {}).total();
  const Seconds s = cost.whole(placement, {.share_on_disk = 0.25});
  EXPECT_NEAR(s.disk, 0.25 * static_cast<double>(inventory.bytes_per_token) / machine.disk_bytes_s, 1e-6);
  EXPECT_NEAR(s.total(), before + s.disk, 1e-9);
}

TEST_F(CostTest, ExpertsOnTheHostWorkBesideTheSharedExpertOnTheDevice) {
  for (int layer = 0; layer < 48; ++layer) move_core(inventory, freedom, layer, 1, placement);
  Where at = 1;
  const Seconds s = cost.layer(placement, 5, {}, at);
  EXPECT_EQ(at, 1);
  EXPECT_NEAR(s.hops, 2 * 20e-6, 1e-12);  // there and back, once
  EXPECT_NEAR(s.link, 2 * 2048 * 4 / 10e9, 1e-12);
  double experts = 0, others = 0, shared = 0;
  for (const int t : inventory.of_layer[5]) {
    const Tensor& tensor = inventory.tensors[static_cast<size_t>(t)];
    (is_expert(tensor.part)         ? experts
     : tensor.part == Part::kShared ? shared
                                    : others) += static_cast<double>(tensor.bytes_per_token);
  }
  EXPECT_NEAR(s.memory[kHost], experts / 50e9, 1e-12);
  EXPECT_NEAR(s.memory[1], (others + 2 * static_cast<double>(demand.state_bytes)) / 500e9,
              1e-12);  // shared hidden
}

TEST_F(CostTest, ALayerApartIsEnteredAndLeft) {
  move_core(inventory, freedom, 5, 1, placement);
  move_experts(inventory, freedom, 5, 1, placement);
  Where at = kHost;
  EXPECT_NEAR(cost.layer(placement, 5, {}, at).hops, 20e-6, 1e-12);
  EXPECT_EQ(at, 1);
  EXPECT_NEAR(cost.layer(placement, 6, {}, at).hops, 20e-6, 1e-12);
  EXPECT_EQ(at, kHost);
}

TEST_F(CostTest, SplitExpertsMoveTheirActivationsInTheMiddle) {
  for (int layer = 0; layer < 48; ++layer) {
    move_core(inventory, freedom, layer, 1, placement);
    move_experts(inventory, freedom, layer, 1, placement);
  }
  Where at = 1;
  const double together = cost.layer(placement, 5, {}, at).total();
  for (const Part part : {Part::kExpertUp, Part::kExpertDown, Part::kExpertGate}) {
    Placement split = placement;
    for (const int t : inventory.of_layer[5])
      if (inventory.tensors[static_cast<size_t>(t)].part == part)
        split.of_tensor[static_cast<size_t>(t)] = kHost;
    at = 1;
    const Seconds s = cost.layer(split, 5, {}, at);
    EXPECT_GT(s.total(), together + 30e-6);
    EXPECT_NEAR(s.hops, 40e-6, 1e-12);
    EXPECT_GE(s.link, 10 * 512 * 4 / 10e9);
  }
}

TEST_F(CostTest, CacheOnTheHostTakesEveryLayerThereAndBack) {
  for (int layer = 0; layer < 48; ++layer) {
    move_core(inventory, freedom, layer, 1, placement);
    move_experts(inventory, freedom, layer, 1, placement);
  }
  Where at = 1;
  const double before = cost.layer(placement, 3, {}, at).hops;
  placement.home.assign(48, kHost);
  EXPECT_NEAR(cost.layer(placement, 3, {}, at).hops - before, 40e-6, 1e-12);
}

TEST_F(CostTest, PartsAddUpToTheWhole) {
  for (int layer = 0; layer < 30; ++layer) move_core(inventory, freedom, layer, 1, placement);
  for (int layer = 0; layer < 7; ++layer) move_experts(inventory, freedom, layer, 1, placement);
  for (const int64_t n : {int64_t{1}, int64_t{8}, int64_t{9}, int64_t{512}, int64_t{4096}}) {
    const Pass pass{.n_tokens = n, .depth = 100, .share_on_disk = 0.1};
    Where at = kHost;
    double sum = cost.embedding(placement, pass, at).total();
    for (int layer = 0; layer < 48; ++layer) sum += cost.layer(placement, layer, pass, at).total();
    sum += cost.head(placement, pass, at).total();
    EXPECT_NEAR(cost.whole(placement, pass).total(), sum, 1e-9);
  }
}

TEST_F(CostTest, StreamingBeatsTheHostFromTheCalculatedThresholdOn) {
  for (int layer = 0; layer < 48; ++layer) move_core(inventory, freedom, layer, 1, placement);
  const int64_t threshold = cost.stream_threshold(placement, 5, 0);
  ASSERT_GT(threshold, kFewTokens);
  ASSERT_LT(threshold, 4096);
  const auto link_seconds = [&](int64_t n) {
    Where at = 1;
    return cost.layer(placement, 5, {.n_tokens = n}, at).link;
  };
  // What crosses the link jumps from activations to weights there, and nowhere else.
  double weights = 0;
  for (const int t : inventory.of_layer[5])
    if (const Tensor& tensor = inventory.tensors[static_cast<size_t>(t)]; is_expert(tensor.part))
      weights += static_cast<double>(tensor.bytes);
  EXPECT_LT(link_seconds(threshold - 1), weights / 10e9 / 10);
  EXPECT_GT(link_seconds(threshold), weights / 10e9 / 2);

  machine.processors[1].link_bytes_s = 40e9;
  const int64_t faster_link = cost.stream_threshold(placement, 5, 0);
  EXPECT_LT(faster_link, threshold);
  machine.processors[0].multiply_add_s *= 10;
  EXPECT_GT(cost.stream_threshold(placement, 5, 0), faster_link);
  machine.processors[1].multiply_add_s = machine.processors[0].multiply_add_s / 100;
  EXPECT_EQ(cost.stream_threshold(placement, 5, 0), 0);
  placement.of_tensor.assign(inventory.tensors.size(), kHost);
  EXPECT_EQ(cost.stream_threshold(placement, 5, 0), 0);
}

// More of what streaming needs never puts it off, more of what the CPU needs never brings it nearer.
TEST_F(CostTest, TheThresholdFollowsTheSpeeds) {
  for (int layer = 0; layer < 48; ++layer) move_core(inventory, freedom, layer, 1, placement);
  constexpr int64_t kNever = int64_t{1} << 40;
  machine.processors[1].stream_bytes_s = 10e9;
  const Machine before = machine;
  // With `factor` times the speed, for factors in ascending order.
  const auto thresholds = [&](double& speed) {
    const double as_it_was = speed;
    std::vector<int64_t> found;
    for (const double factor : {0.02, 0.1, 0.3, 0.7, 1.0, 1.5, 4.0, 20.0, 100.0}) {
      speed = as_it_was * factor;
      const int64_t threshold = cost.stream_threshold(placement, 5, 0);
      found.push_back(threshold == 0 ? kNever : threshold);
    }
    machine = before;
    return found;
  };
  Processor& host = machine.processors[0];
  Processor& device = machine.processors[1];
  for (double* speed : {&device.stream_bytes_s, &device.multiply_add_s, &device.read_bytes_s}) {
    const auto found = thresholds(*speed);
    EXPECT_TRUE(std::ranges::is_sorted(found, std::greater{})) << testing::PrintToString(found);
    EXPECT_GE(found.back(), kFewTokens + 1);
  }
  const auto of_host = thresholds(host.multiply_add_s);
  EXPECT_TRUE(std::ranges::is_sorted(of_host)) << testing::PrintToString(of_host);
  EXPECT_LT(of_host.front(), of_host.back());
  // What has been measured counts; of the link then only what activations take, which the other way moves.
  device.stream_bytes_s = 5e9;
  const int64_t measured = cost.stream_threshold(placement, 5, 0);
  device.link_bytes_s *= 100;
  EXPECT_NEAR(static_cast<double>(cost.stream_threshold(placement, 5, 0)), static_cast<double>(measured),
              0.05 * static_cast<double>(measured));
  // What has not is bound by the link or by the host's memory.
  device.stream_bytes_s = 0;
  device.link_bytes_s = 10e9;
  const int64_t by_link = cost.stream_threshold(placement, 5, 0);
  host.read_bytes_s = 6e9;
  EXPECT_GT(cost.stream_threshold(placement, 5, 0), by_link);
  machine = before;
  // Of a format that the CPU multiplies slowly more is streamed.
  host.product_factor.fill(0.25f);
  EXPECT_LT(cost.stream_threshold(placement, 5, 0), by_link);
}

// The whole ubatch's prediction is the faster of both ways, and uses the number that the program is given.
TEST_F(CostTest, ThePredictionStreamsFromTheThresholdOn) {
  for (int layer = 0; layer < 48; ++layer) move_core(inventory, freedom, layer, 1, placement);
  demand.ubatch = 2048;
  const auto layer_seconds = [&](int64_t n) {
    Where at = 1;
    return cost.layer(placement, 5, {.n_tokens = n}, at).total();
  };
  const int64_t threshold = cost.stream_threshold(placement, 5, 0);
  ASSERT_GT(threshold, kFewTokens + 1);
  for (const int64_t n : {threshold - 1, threshold, threshold + 1}) {
    demand.streaming = {.allowed = false};
    const double without = layer_seconds(n);
    demand.streaming = {.allowed = true, .from_tokens = n};
    const double with = layer_seconds(n);
    demand.streaming = {};
    EXPECT_EQ(layer_seconds(n), n < threshold ? without : with);
    EXPECT_EQ(layer_seconds(n), std::min(with, without)) << n;
  }
  demand.streaming = {.allowed = false};
  EXPECT_EQ(cost.stream_threshold(placement, 5, 0), 0);
  demand.streaming = {.allowed = true, .from_tokens = 3};
  EXPECT_EQ(cost.stream_threshold(placement, 5, 0), kFewTokens + 1);
  demand.ubatch = kFewTokens;
  EXPECT_EQ(cost.stream_threshold(placement, 5, 0), 0) << "no ubatch is that large";
}

TEST_F(CostTest, AgreesWithWhatWasMeasured) {
  // docs/performance.md: 8 layers, 34 GB/s, two cores with AVX-512: decode 40.5, prefill 366 tokens/s.
  DirectoryForTest directory;
  directory.n_layers = 8;
  inventory = directory.inventory();
  machine = machine_for_test(32, {});
  machine.processors[0] = default_host(2, true);
  machine.processors[0].read_bytes_s = 0.88 * 34e9;
  placement.of_tensor.assign(inventory.tensors.size(), kHost);
  placement.home.assign(8, kHost);
  EXPECT_NEAR(1 / cost.whole(placement, {}).total(), 40.5, 5);
  EXPECT_NEAR(512 / cost.whole(placement, {.n_tokens = 512}).total(), 366, 80);
}

}  // namespace
}  // namespace packmule::placement
