// On the device of the shader tests; that the numbers are right nobody can know, so they are only plausible.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "calibration/device.h"
#include "vulkan/device_for_test.h"

namespace packmule::calibration {
namespace {

using DeviceCalibration = vulkan::testing_support::DeviceTest;

TEST_F(DeviceCalibration, MeasuresOnceAndThenReadsTheFile) {
  namespace fs = std::filesystem;
  const fs::path folder =
      fs::temp_directory_path() / fmt::format("packmule_device_calibration_test_{}", getpid());
  fs::create_directories(folder);
  auto ops = vulkan::Ops::create(device(), *test().pipelines);
  ASSERT_TRUE(ops) << ops.error().message;
  const int64_t used_before = device()->budget().taken_bytes();
  const Wanted wanted{.weights = {quant::Type::kQ4_K, quant::Type::kQ6_K},
                      .attention = {.k_type = quant::Type::kF16, .v_type = quant::Type::kF16}};
  const auto run = [&](When when, placement::Processor& processor, bool integers = false) {
    const auto outcome =
        calibrate_device(wanted, device(), **ops, 2, integers, when, (folder / "speeds.json").string(),
                         processor, {.seconds = 0.001, .memory_bytes = 24 << 20});
    EXPECT_TRUE(outcome) << outcome.error().message;
    EXPECT_EQ(outcome->warning, "");
    return *outcome;
  };
  const placement::Processor untouched = placement::default_device(0, int64_t{8} << 30);
  placement::Processor first = untouched, second = untouched, never = untouched;
  EXPECT_EQ(run(When::kNever, never).n_measured, 0);
  EXPECT_EQ(never.read_bytes_s, untouched.read_bytes_s);

  // Two formats in both ways, attention, link, stream, hop, phase.
  EXPECT_EQ(run(When::kAuto, first).n_measured, 9);
  for (const double speed :
       {first.read_bytes_s, first.multiply_add_s, first.link_bytes_s, first.stream_bytes_s}) {
    EXPECT_GT(speed, 1e6);
    EXPECT_LT(speed, 1e16);
  }
  for (const double seconds : {first.hop_s, first.phase_s}) {
    EXPECT_GT(seconds, 1e-9);
    EXPECT_LT(seconds, 1);
  }
  EXPECT_GT(first.cache_factor_16, 0);
  EXPECT_EQ(first.cache_factor_blocks, untouched.cache_factor_blocks);
  EXPECT_EQ(device()->budget().taken_bytes(), used_before) << "what it measured with is kept";

  EXPECT_EQ(run(When::kAuto, second).n_known, 9);
  EXPECT_EQ(second.read_bytes_s, first.read_bytes_s);
  EXPECT_EQ(second.hop_s, first.hop_s);
  EXPECT_EQ(second.stream_bytes_s, first.stream_bytes_s);
  if (device()->info().integer_dot) {
    const Outcome integers = run(When::kAuto, second, true);
    EXPECT_EQ(integers.n_measured, 2) << "the same formats by other products";
    EXPECT_EQ(integers.n_known, 7);
    EXPECT_NE(second.multiply_add_s, first.multiply_add_s);
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace packmule::calibration
