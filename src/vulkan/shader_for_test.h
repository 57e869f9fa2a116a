// What the tests of shaders share: ops on the test device, the reference kernels, comparison.
#pragma once

#include "kernels/ops_for_test.h"
#include "kernels/variants.h"
#include "vulkan/device_for_test.h"
#include "vulkan/ops.h"

namespace packmule::vulkan::testing_support {

using kernels::testing_support::expect_close;
using kernels::testing_support::expect_same_bits;
using kernels::testing_support::Floats;
using kernels::testing_support::Random;

/// kernels/ref alone: the reference needs none of the fast variants.
inline const kernels::Kernels& ref() {
  static const kernels::Kernels table = [] {
    kernels::Kernels kernels{};
    kernels::ref::fill_matmul(kernels);
    kernels::ref::fill_ops(kernels);
    return kernels;
  }();
  return table;
}

class ShaderTest : public DeviceTest {
 protected:
  static void SetUpTestSuite() {
    TestDevice& test = TestDevice::get();
    if (!test.missing.empty()) return;
    auto ops = Ops::create(test.device, *test.pipelines);
    if (!ops) throw std::runtime_error(ops.error().message);
    ops_ = std::move(*ops);
  }
  static void TearDownTestSuite() { ops_.reset(); }
  static Ops& ops() { return *ops_; }

  /// Records what `record(recorder)` does and runs it.
  template <class Record>
  static void run(Record record) {
    auto recorder = Recorder::begin(device());
    ASSERT_TRUE(recorder.has_value());
    const Status recorded = record(*recorder);
    ASSERT_TRUE(recorded.has_value()) << recorded.error().message;
    recorder->barrier();
    auto list = recorder->finish();
    ASSERT_TRUE(list.has_value());
    const Status done = list->run();
    ASSERT_TRUE(done.has_value()) << done.error().message;
  }

 private:
  inline static std::unique_ptr<Ops> ops_;
};

/// What a result is filled with before: whatever a shader leaves alone still has it.
inline constexpr float kGuard = -7.25e33f;

inline Buffer guarded(int64_t n_floats) {
  return to_device(Floats(static_cast<size_t>(n_floats), kGuard));
}

/// Rows of n floats, `stride` apart, guards between them.
inline Floats with_stride(const Floats& rows, int64_t n, int64_t stride) {
  Floats spread(rows.size() / static_cast<size_t>(std::max<int64_t>(1, n)) * static_cast<size_t>(stride),
                kGuard);
  for (size_t i = 0; i < rows.size(); ++i)
    spread[i / static_cast<size_t>(n) * static_cast<size_t>(stride) + i % static_cast<size_t>(n)] = rows[i];
  return spread;
}
/// The rows again; fails the test where something between them was written.
inline Floats without_stride(const Floats& spread, int64_t n, int64_t stride) {
  Floats rows;
  for (size_t i = 0; i < spread.size(); ++i) {
    if (static_cast<int64_t>(i) % stride < n)
      rows.push_back(spread[i]);
    else if (spread[i] != kGuard)
      ADD_FAILURE() << "wrote element " << i << ", between rows";
  }
  return rows;
}

}  // namespace packmule::vulkan::testing_support
