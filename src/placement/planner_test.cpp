#include "placement/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "placement/model_for_test.h"

namespace packmule::placement {
namespace {

using testing::HasSubstr;
using testing::Not;

int count_at(const Request& request, const Plan& plan, Where where, bool experts) {
  int n = 0;
  for (size_t t = 0; t < request.inventory.tensors.size(); ++t)
    n += plan.placement.of_tensor[t] == where && is_expert(request.inventory.tensors[t].part) == experts;
  return n;
}

TEST(Planner, WithoutADeviceEverythingIsOnTheHost) {
  const Request request = request_for_test(64, {});
  const Plan made = plan(request).value();
  for (const Where where : made.placement.of_tensor) EXPECT_EQ(where, kHost);
  EXPECT_EQ(made.footprints[kHost].weights, request.inventory.loaded_bytes);
  EXPECT_EQ(made.footprints[kHost].kv, 32768 * 12 * 2 * 2 * 512);
  EXPECT_EQ(made.footprints[kHost].state, 36 * (32 * 128 * 128 + 3 * 8192) * 4);
  EXPECT_EQ(made.footprints[kHost].compute, int64_t{900} << 20);
  EXPECT_EQ(made.share_on_disk, 0);
  EXPECT_EQ(made.stream_from, std::vector<int64_t>(48, 0));
}

TEST(Planner, ADeviceGetsWhatEveryTokenUsesFirst) {
  const Request request = request_for_test(64, {8});
  const Plan made = plan(request).value();
  for (size_t t = 0; t < request.inventory.tensors.size(); ++t) {
    const Tensor& tensor = request.inventory.tensors[t];
    if (!is_expert(tensor.part) && tensor.part != Part::kEmbedding) {
      EXPECT_EQ(made.placement.of_tensor[t], 1) << tensor.name;
    }
  }
  const int on_device = count_at(request, made, 1, true);
  EXPECT_GT(on_device, 0);
  EXPECT_EQ(on_device % 3, 0);                                                   // whole layers
  EXPECT_GT(made.footprints[1].total(), made.footprints[1].compute + 6 * kGib);  // it is used
  EXPECT_LE(made.footprints[1].total(), request.machine.at(1).budget_bytes());
  EXPECT_LT(made.decode.total(), plan(request_for_test(64, {})).value().decode.total());
}

TEST(Planner, ALargeDeviceTakesEverythingButTheEmbedding) {
  const Request request = request_for_test(64, {64});
  const Plan made = plan(request).value();
  EXPECT_EQ(count_at(request, made, kHost, true), 0);
  EXPECT_EQ(count_at(request, made, kHost, false), 1);
  EXPECT_EQ(made.footprints[kHost].kv + made.footprints[kHost].state, 0);
}

TEST(Planner, IsDeterministic) {
  const Request request = request_for_test(32, {12, 8});
  const Plan a = plan(request).value();
  const Plan b = plan(request).value();
  EXPECT_EQ(a.placement.of_tensor, b.placement.of_tensor);
  EXPECT_EQ(a.placement.home, b.placement.home);
}

TEST(Planner, KeepsRulesAndFillsInTheRest) {
  Request request = request_for_test(64, {12});
  add_rules(request, R"(blk\.7\.ffn_up_exps=GPU0,blk\.0\.=CPU,token_embd=GPU0)");
  request.rules.overrides.push_back(n_cpu_moe_rule(40));
  const Plan made = plan(request).value();
  int n_free_on_device = 0;
  for (size_t t = 0; t < request.inventory.tensors.size(); ++t) {
    const Tensor& tensor = request.inventory.tensors[t];
    const Where where = made.placement.of_tensor[t];
    if (tensor.name == "blk.7.ffn_up_exps.weight" || tensor.name == "token_embd.weight") {
      EXPECT_EQ(where, 1);
    } else if (tensor.layer == 0 || (is_expert(tensor.part) && tensor.layer < 40)) {
      EXPECT_EQ(where, kHost) << tensor.name;
    } else {
      n_free_on_device += where == 1;
    }
  }
  EXPECT_GT(n_free_on_device, 500);
}

TEST(Planner, LayersOfNglAreWholeAndTheRestStays) {
  Request request = request_for_test(64, {24});
  request.rules.n_gpu_layers = 11;  // ten layers and the output
  const Plan made = plan(request).value();
  for (size_t t = 0; t < request.inventory.tensors.size(); ++t) {
    const Tensor& tensor = request.inventory.tensors[t];
    EXPECT_EQ(made.placement.of_tensor[t] == 1, tensor.layer >= 38 || tensor.part == Part::kOutput)
        << tensor.name;
  }
  for (int layer = 0; layer < 48; ++layer)
    EXPECT_EQ(made.placement.home[static_cast<size_t>(layer)], layer >= 38 ? 1 : kHost);
  request.rules.kv_on_host = true;
  EXPECT_EQ(plan(request).value().footprints[1].kv, 0);
  EXPECT_GT(plan(request).value().decode.hops, made.decode.hops);
}

TEST(Planner, TheCommandsOfTheArticleAreKeptToTheLetter) {
  for (const char* rule : {R"(\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU)",
                           R"(\.([1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU)"}) {
    Request request = request_for_test(64, {20}, 262144);
    request.demand = demand_for_test(262144, quant::Type::kQ4_1);
    request.rules.n_gpu_layers = 99;
    add_rules(request, rule);
    const auto made = plan(request);
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(count_at(request, *made, 1, true), 36);
    EXPECT_EQ(count_at(request, *made, kHost, true), 108);
    // "17 GB dedicated VRAM, 34 GB system RAM"
    EXPECT_NEAR(static_cast<double>(made->footprints[1].total()), 17e9, 1e9);
    // What packmule does by itself is no slower.
    Request automatic = request;
    automatic.rules = {};
    EXPECT_LE(plan(automatic)->decode.total(), made->decode.total());
  }
}

TEST(Planner, WhatMemoryHasNoRoomForComesFromTheDisk) {
  Request request = request_for_test(32, {});
  const Plan made = plan(request).value();
  EXPECT_GT(made.share_on_disk, 0.3);
  EXPECT_LT(made.share_on_disk, 0.7);
  EXPECT_GT(made.decode.disk, made.decode.total() / 2);
  request.demand.weights_in_memory = true;
  const auto refused = plan(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kOutOfMemory);
  EXPECT_THAT(refused.error().message, HasSubstr("CPU needs"));
  // A device that takes the rest makes it fit.
  request.machine = machine_for_test(32, {24});
  EXPECT_TRUE(plan(request));
}

TEST(Planner, ATensorLargerThanOneAllocationStaysOff) {
  Request request = request_for_test(64, {24});
  request.machine.processors[1].max_tensor_bytes = int64_t{128} << 20;
  const Plan made = plan(request).value();
  for (size_t t = 0; t < request.inventory.tensors.size(); ++t)
    if (request.inventory.tensors[t].bytes > int64_t{128} << 20) {
      EXPECT_EQ(made.placement.of_tensor[t], kHost);
    }
  add_rules(request, R"(blk\.3\.ffn_up_exps=GPU0)");
  EXPECT_THAT(plan(request).error().message, HasSubstr("blk.3.ffn_up_exps.weight has"));
}

TEST(Planner, OnASmallModelNoPlacementIsFaster) {
  DirectoryForTest directory;
  directory.n_layers = 4;
  Request request = request_for_test(64, {1});
  request.inventory = directory.inventory();
  request.machine.processors[0].read_bytes_s = 60e9;
  const CostModel cost(request.inventory, request.machine, request.demand);
  int n_different = 0;
  for (double device_gib = 0.3; device_gib < 6; device_gib += 0.23) {
    request.machine.processors[1].free_bytes = static_cast<int64_t>(device_gib * kGib);
    request.machine.processors[1].reserve_bytes = 0;
    const Start start = start_of(request).value();
    // Every way there is: each layer's core and experts, and the output.
    double best = std::numeric_limits<double>::infinity();
    for (unsigned ways = 0; ways < 512; ++ways) {
      Placement placement = start.placement;
      for (int layer = 0; layer < 4; ++layer) {
        if ((ways >> (2 * layer) & 1) != 0) move_core(request.inventory, start.freedom, layer, 1, placement);
        if ((ways >> (2 * layer) & 2) != 0)
          move_experts(request.inventory, start.freedom, layer, 1, placement);
      }
      if ((ways & 256) != 0) move_output(request.inventory, start.freedom, 1, placement);
      const Footprints taken = footprints(request.inventory, request.demand, placement);
      if (missing_bytes(request.inventory, request.machine, request.demand, placement, taken) > 0) continue;
      best = std::min(best, cost.whole(placement, {.depth = request.depth}).total());
    }
    const double made = plan(request).value().decode.total();
    EXPECT_GE(made, best * (1 - 1e-12)) << device_gib;
    EXPECT_LE(made, best * (1 + 1e-12)) << device_gib;
    n_different += made < cost.whole(start.placement, {.depth = request.depth}).total();
  }
  EXPECT_GT(n_different, 10);
}

TEST(Planner, TwoDevicesAreBothUsed) {
  const Plan one = plan(request_for_test(64, {8})).value();
  const Plan two = plan(request_for_test(64, {8, 8})).value();
  EXPECT_GT(two.footprints[1].weights, 4 * kGib);
  EXPECT_GT(two.footprints[2].weights, 4 * kGib);
  EXPECT_LT(two.decode.total(), one.decode.total());
}

TEST(Planner, RefusesWithNumbersAndFlagsThatReallyHelp) {
  Request request = request_for_test(64, {8}, 131072);
  request.rules.n_gpu_layers = 99;
  Alternative smaller{"-c 4096", request.demand};
  smaller.demand.n_ctx = 4096;
  request.alternatives = {{smaller}};
  const auto refused = plan(request);
  ASSERT_FALSE(refused);
  const std::string& message = refused.error().message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_THAT(message, HasSubstr("nothing was loaded"));
  EXPECT_THAT(message, HasSubstr("GPU0 needs "));
  EXPECT_THAT(message,
              HasSubstr(fmt::format("its budget is {} bytes", request.machine.at(1).budget_bytes())));
  EXPECT_THAT(message, HasSubstr("--cpu-moe"));
  EXPECT_THAT(message, HasSubstr("no -ngl"));
  EXPECT_THAT(message, Not(HasSubstr("-c 4096")));  // that alone does not help
  const size_t at = message.find("with -ngl ");
  ASSERT_NE(at, std::string::npos) << message;
  const int64_t most = std::atoi(message.c_str() + at + 10);
  request.rules.n_gpu_layers = most;
  EXPECT_TRUE(plan(request)) << most;
  request.rules.n_gpu_layers = most + 1;
  EXPECT_FALSE(plan(request)) << most;

  request.rules.n_gpu_layers = 99;
  request.rules.overrides = {cpu_moe_rule()};
  EXPECT_TRUE(plan(request));
}

TEST(Planner, WhenNoSingleRuleIsToBlameAllOfThemAre) {
  Request request = request_for_test(64, {2}, 4096);
  request.rules.n_gpu_layers = 0;
  request.rules.kv_on_host = true;
  add_rules(request, R"(blk\.(0|1|2)\.ffn_.*_exps=GPU0,token_embd=GPU0)");
  const auto refused = plan(request);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("no -ot, --cpu-moe and --n-cpu-moe"));
  request.rules.n_gpu_layers = 49;
  EXPECT_THAT(plan(request).error().message, HasSubstr("with no rules at all"));
}

TEST(Planner, AContextThatIsTooLargeIsRefusedWithASmallerOne) {
  Request request = request_for_test(4, {}, 262144);
  request.alternatives.emplace_back();
  for (const int64_t n : {131072, 65536, 1024}) {
    request.alternatives[0].push_back({fmt::format("-c {}", n), request.demand});
    request.alternatives[0].back().demand.n_ctx = n;
  }
  const auto refused = plan(request);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("KV cache 6.44 GB"));
  EXPECT_THAT(refused.error().message, HasSubstr("-c 65536"));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("-c 131072")));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("-c 1024")));
}

TEST(Planner, ASmallerCacheIsWorthMoreExperts) {
  Request request = request_for_test(64, {12}, 262144);
  const Plan f16 = plan(request).value();
  request.demand = demand_for_test(262144, quant::Type::kQ4_1);
  const Plan q4_1 = plan(request).value();
  EXPECT_LT(q4_1.footprints[kHost].weights, f16.footprints[kHost].weights);
}

}  // namespace
}  // namespace packmule::placement
