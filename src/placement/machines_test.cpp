// The planner on some hundred imagined machines: what must hold on each of them, and between them.
#include <gtest/gtest.h>

#include <map>

#include "placement/model_for_test.h"

namespace packmule::placement {
namespace {

struct Case {
  double device_gib, host_gib;
  int64_t n_ctx;
  quant::Type cache;
  double device_bytes_s, host_bytes_s;
  bool in_memory;
};

std::string words(const Case& c) {
  return fmt::format("{} GiB device at {:.0f} GB/s, {} GiB host at {:.0f} GB/s, {} tokens of {}{}",
                     c.device_gib, c.device_bytes_s * 1e-9, c.host_gib, c.host_bytes_s * 1e-9, c.n_ctx,
                     quant::format_of(c.cache).name, c.in_memory ? ", in memory" : "");
}

const Inventory& inventory() {
  static const Inventory made = DirectoryForTest().inventory();
  return made;
}

Request request_of(const Case& c) {
  Request request;
  request.inventory = inventory();
  request.machine = machine_for_test(
      c.host_gib, c.device_gib > 0 ? std::vector<double>{c.device_gib} : std::vector<double>{});
  request.machine.processors[0].read_bytes_s = c.host_bytes_s;
  if (c.device_gib > 0) request.machine.processors[1].read_bytes_s = c.device_bytes_s;
  request.demand = demand_for_test(c.n_ctx, c.cache);
  request.demand.weights_in_memory = c.in_memory;
  request.depth = 4096;
  request.wants_advice = false;
  return request;
}

constexpr double kDeviceGib[] = {0, 2, 4, 6, 8, 12, 16, 20, 24};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const double host_gib : {16.0, 32.0, 64.0})
    for (const int64_t n_ctx : {int64_t{8192}, int64_t{262144}})
      for (const quant::Type cache : {quant::Type::kF16, quant::Type::kQ4_1})
        // An old card beside fast memory, a usual pair, a fast card beside slow memory, a card slower than
        // the host.
        for (const auto& [device, host] :
             {std::pair(200e9, 80e9), std::pair(300e9, 40e9), std::pair(700e9, 20e9), std::pair(30e9, 40e9)})
          for (const double device_gib : kDeviceGib)
            cases.push_back({device_gib, host_gib, n_ctx, cache, device, host, false});
  for (const double device_gib : kDeviceGib)
    for (const double host_gib : {16.0, 32.0, 48.0, 64.0})
      cases.push_back({device_gib, host_gib, 32768, quant::Type::kQ8_0, 300e9, 40e9, true});
  return cases;
}

/// What the command of llama.cpp's users comes to: everything on the device but the experts of N layers.
Placement n_cpu_moe(const Request& request, int n) {
  const Start start = start_of(request).value();
  Placement placement = start.placement;
  move_output(request.inventory, start.freedom, 1, placement);
  for (int layer = 0; layer < 48; ++layer) {
    move_core(request.inventory, start.freedom, layer, 1, placement);
    if (layer >= n) move_experts(request.inventory, start.freedom, layer, 1, placement);
  }
  return placement;
}

/// Seconds a token, or nothing when it does not fit.
std::optional<double> seconds_of(const Request& request, const Placement& placement) {
  const Footprints taken = footprints(request.inventory, request.demand, placement);
  if (missing_bytes(request.inventory, request.machine, request.demand, placement, taken) > 0)
    return std::nullopt;
  return CostModel(request.inventory, request.machine, request.demand)
      .whole(placement, {.depth = request.depth, .share_on_disk = share_on_disk(request.machine, taken)})
      .total();
}

TEST(Machines, NoBudgetIsExceededAndNoSimpleRuleIsFaster) {
  const std::vector<Case> cases = all_cases();
  ASSERT_GE(cases.size(), 200u);
  int n_planned = 0;
  for (const Case& c : cases) {
    SCOPED_TRACE(words(c));
    const Request request = request_of(c);
    const auto made = plan(request);
    std::optional<double> best_rule;
    if (c.device_gib > 0)
      for (int n = 0; n <= 48; ++n)
        if (const auto s = seconds_of(request, n_cpu_moe(request, n)); s && (!best_rule || *s < *best_rule))
          best_rule = s;
    if (!made) {
      EXPECT_EQ(made.error().kind, ErrorKind::kOutOfMemory);
      EXPECT_FALSE(best_rule);
      continue;
    }
    ++n_planned;
    // Sizes counted here, tensor by tensor, not by the planner's own sums.
    std::map<Where, int64_t> bytes;
    for (size_t t = 0; t < inventory().tensors.size(); ++t) {
      const Where where = made->placement.of_tensor[t];
      bytes[where] +=
          where == kHost ? inventory().tensors[t].bytes : (inventory().tensors[t].bytes + 255) / 256 * 256;
    }
    for (int layer = 0; layer < 48; ++layer)
      bytes[made->placement.home[static_cast<size_t>(layer)]] +=
          layer % 4 == 3 ? (c.n_ctx + 63) / 64 * 64 * request.demand.kv_row_bytes
                         : request.demand.state_bytes;
    bytes[kHost] += request.demand.host_compute_bytes;
    if (bytes[1] > 0) bytes[1] += device_compute_bytes(inventory().shape, request.demand);
    EXPECT_EQ(bytes[kHost], made->footprints[kHost].total());
    EXPECT_EQ(bytes[1], made->footprints[1].total());
    if (c.device_gib > 0) {
      EXPECT_LE(bytes[1], static_cast<int64_t>(c.device_gib * kGib * 0.9));
    }
    const auto host_budget = request.machine.host().budget_bytes();
    EXPECT_LE(bytes[kHost] - (c.in_memory ? 0 : made->footprints[kHost].weights), host_budget);
    EXPECT_EQ(made->share_on_disk > 0, bytes[kHost] > host_budget);

    EXPECT_EQ(seconds_of(request, made->placement).value(), made->decode.total());
    if (best_rule) {
      EXPECT_LE(made->decode.total(), *best_rule);
    }
    if (const auto s = seconds_of(request, start_of(request)->placement)) {
      EXPECT_LE(made->decode.total(), *s);
    }
  }
  EXPECT_GT(n_planned, 400);
}

TEST(Machines, MoreMemoryIsNeverSlower) {
  std::map<std::string, double> of_machine;  // seconds, by everything but the memory that grows
  // Devices in steps that are not those of the search, hosts in steps that cross the size of the model.
  for (const auto& [device, host] : {std::pair(300e9, 40e9), std::pair(30e9, 40e9)})
    for (const double host_gib : {16.0, 24.0, 40.0, 56.0, 64.0}) {
      double before = std::numeric_limits<double>::infinity();
      for (double device_gib = 0; device_gib <= 25; device_gib += 0.37) {
        const Case c{device_gib, host_gib, 65536, quant::Type::kQ8_0, device, host, false};
        const auto made = plan(request_of(c));
        ASSERT_TRUE(made) << words(c);
        EXPECT_LE(made->decode.total(), before) << words(c);
        before = made->decode.total();
        double& smaller_host =
            of_machine.try_emplace(fmt::format("{} {}", device, device_gib), before).first->second;
        EXPECT_LE(before, smaller_host) << words(c);
        smaller_host = before;
      }
    }
}

// With and without its ring: never over the budget, and streaming never makes a prompt slower.
TEST(Machines, StreamingIsPlannedWhereItsRingFits) {
  int n_streaming = 0;
  int n_without = 0;
  for (const Case& c : all_cases()) {
    if (c.device_gib == 0) continue;
    SCOPED_TRACE(words(c));
    Request request = request_of(c);
    const auto made = plan(request);
    request.demand.streaming.allowed = false;
    const auto never = plan(request);
    if (!made) continue;
    ASSERT_TRUE(never);
    EXPECT_LE(made->footprints[1].total(), request.machine.at(1).budget_bytes());
    EXPECT_TRUE(made->has_ring);
    EXPECT_LE(never->decode.total(), made->decode.total()) << "the ring takes memory";
    for (size_t layer = 0; layer < 48; ++layer) {
      EXPECT_EQ(never->stream_from[layer], 0);
      if (made->stream_from[layer] == 0) continue;
      ++n_streaming;
      EXPECT_GT(made->stream_from[layer], kFewTokens);
    }
    Request same = request_of(c);
    same.demand.streaming.allowed = false;
    const double prefill_without =
        CostModel(same.inventory, same.machine, same.demand)
            .whole(made->placement, {.n_tokens = made->prefill_tokens, .share_on_disk = made->share_on_disk})
            .total();
    EXPECT_LE(made->prefill.total(), prefill_without);
  }
  EXPECT_GT(n_streaming, 1000);
  // All of the device's part is said by rules, and fits to the byte without the ring.
  Request request = request_of({24, 64, 8192, quant::Type::kF16, 300e9, 40e9, false});
  request.rules.overrides.push_back(cpu_moe_rule());
  request.rules.n_gpu_layers = 99;
  const Plan roomy = plan(request).value();
  EXPECT_TRUE(roomy.has_ring);
  Processor& device = request.machine.processors[1];
  for (const int64_t missing :
       {int64_t{0}, int64_t{1}, kStreamSlots * kStreamSlotBytes, kStreamSlots * kStreamSlotBytes + 1}) {
    device.reserve_bytes = device.free_bytes - roomy.footprints[1].total() + missing;
    const auto made = plan(request);
    ASSERT_EQ(made.has_value(), missing <= kStreamSlots * kStreamSlotBytes) << missing;
    if (!made) continue;
    EXPECT_EQ(made->has_ring, missing == 0);
    EXPECT_EQ(made->stream_from.front() > 0, missing == 0);
    EXPECT_LE(made->footprints[1].total(), device.budget_bytes());
    EXPECT_EQ(made->decode.total(), roomy.decode.total());
    n_without += missing > 0 ? 1 : 0;
  }
  EXPECT_EQ(n_without, 2);
}

TEST(Machines, WhatFitsOnceFitsWithMoreMemory) {
  for (const double host_gib : {16.0, 32.0, 48.0}) {
    bool before = false;
    for (double device_gib = 0; device_gib <= 48; device_gib += 1.5) {
      const bool fits =
          plan(request_of({device_gib, host_gib, 8192, quant::Type::kF16, 300e9, 40e9, true})).has_value();
      EXPECT_TRUE(fits || !before) << host_gib << " " << device_gib;
      before = fits;
    }
    EXPECT_TRUE(before) << host_gib;
  }
}

TEST(Machines, ASecondDeviceIsNeverSlower) {
  for (const double first : {4.0, 8.0}) {
    Request request = request_of({first, 64, 32768, quant::Type::kF16, 300e9, 40e9, false});
    double before = plan(request).value().decode.total();
    for (const double second : {2.0, 5.0, 8.0}) {
      request.machine = machine_for_test(64, {first, second});
      const Plan made = plan(request).value();
      for (const Where d : {1, 2})
        EXPECT_LE(made.footprints[static_cast<size_t>(d)].total(), request.machine.at(d).budget_bytes());
      EXPECT_LE(made.decode.total(), before) << first << " " << second;
      before = made.decode.total();
    }
  }
}

TEST(Machines, ManyDevicesAreFilled) {
  double before = std::numeric_limits<double>::infinity();
  for (size_t n = 1; n < kMaxProcessors; ++n) {
    Request request = request_of({0, 64, 32768, quant::Type::kF16, 300e9, 40e9, false});
    request.machine = machine_for_test(64, std::vector<double>(n, 20));
    const Plan made = plan(request).value();
    if (n <= 3) {
      EXPECT_LT(made.decode.total(), before);
    }
    before = made.decode.total();
  }
}

}  // namespace
}  // namespace packmule::placement
