// How fast a graphics device is with packmule's shaders, by trying them out: what the planner is told about
// it.
//
// As measure.h for the host: the ops themselves, on memory larger than the caches, put together as a forward
// pass does it. Times are taken on the host around lists that run long enough for submitting them not to
// matter.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/result.h"
#include "base/thread_pool.h"
#include "calibration/measure.h"
#include "vulkan/memory.h"
#include "vulkan/ops.h"
#include "vulkan/upload.h"

namespace packmule::calibration {

struct DeviceEffort {
  double seconds = 0.1;                       // of one measurement, beside compiling shaders and warming up
  int64_t memory_bytes = int64_t{192} << 20;  // that are read over and over: more than a device's caches
                                              // hold, and at least 64 MiB for every format
};

class DeviceMeasure {
 public:
  /// Takes the memory of `effort` and some 10 MiB of the device's budget for as long as it lives. Nobody else
  /// may use the device meanwhile. `ops` must outlive it.
  [[nodiscard]] static Result<DeviceMeasure> create(std::shared_ptr<vulkan::Device> device, vulkan::Ops& ops,
                                                    const DeviceEffort& effort = {});

  /// Bytes a second of weights in this format, as decoding reads them: sixteen experts of 512 x 2,048 in a
  /// phase. What the planner counts for a phase is not in it.
  [[nodiscard]] Result<double> decode_bytes_s(quant::Type type) const;
  /// Multiplications and additions, counted as one, a second in prompts: 40 tokens for each of some experts.
  /// With `rounded` by integer products, activations being rounded as well; only where Ops::has_int8() says
  /// so.
  [[nodiscard]] Result<double> multiply_adds_s(quant::Type type, bool rounded) const;
  /// Bytes a second of K and V rows that attention reads for one token in a long context.
  [[nodiscard]] Result<double> attention_bytes_s(const AttentionShape& shape);
  /// Bytes a second from mapped memory to the device.
  [[nodiscard]] double link_bytes_s() const { return link_bytes_s_; }
  /// Bytes a second of weights in this format that pass from the host's memory through a ring of the size
  /// that models use (vulkan/stream_ring.h). `in_strips`: they are turned back into rows.
  [[nodiscard]] Result<double> stream_bytes_s(quant::Type type, bool in_strips, ThreadPool& pool) const;
  /// Seconds from handing over next to nothing until it is known to be done.
  [[nodiscard]] Result<double> hop_s() const;
  /// Seconds of a dispatch of next to nothing and the barrier behind it.
  [[nodiscard]] Result<double> phase_s() const;

 private:
  using Record = std::function<Status(vulkan::Recorder&)>;
  DeviceMeasure(std::shared_ptr<vulkan::Device> device, vulkan::Ops& ops, const DeviceEffort& effort)
      : device_(std::move(device)), ops_(&ops), effort_(effort) {}
  Status allocate();
  /// Median seconds of what `record` puts into a list, which may run it many times over.
  Result<double> seconds_of(const Record& record) const;
  /// Matrices of a format that fill the memory.
  [[nodiscard]] vulkan::Weights weights(quant::Type type) const;

  std::shared_ptr<vulkan::Device> device_;
  vulkan::Ops* ops_;
  DeviceEffort effort_;
  double link_bytes_s_ = 0;
  std::optional<vulkan::Uploader> uploader_;
  vulkan::Buffer memory_;                    // weights or pages
  vulkan::Buffer rows_;                      // activations in and out
  vulkan::Buffer rounded_;                   // bytes and scales of those that go in
  vulkan::Buffer ids_, sorted_, addresses_;  // experts of pairs, their order, pages
};

}  // namespace packmule::calibration
