#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "calibration/host.h"
#include "calibration/speed_file.h"

namespace packmule::calibration {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

class Calibration : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const std::string& text) const { std::ofstream(file_) << text; }

  const fs::path folder_ = fs::temp_directory_path() / fmt::format("packmule_calibration_test_{}", getpid());
  const std::string file_ = folder_ / "deep" / ".." / "speeds.json";
  const MachineKey key_{"A processor", "avx2", 4};
};

TEST_F(Calibration, AFileKeepsTheSpeedsOfSeveralMachines) {
  const MachineKey other{"A processor", "avx512", 4};
  const std::string file = folder_ / "new" / "folder" / "speeds.json";
  ASSERT_TRUE(save_speeds(file, key_, {{"decode Q4_K rows", 1e10}}));
  ASSERT_TRUE(save_speeds(file, other, {{"decode Q8_0 rows", 2e10}}));
  ASSERT_TRUE(save_speeds(file, key_, {{"decode Q4_K rows", 3e10}}));
  EXPECT_THAT(load_speeds(file, key_), UnorderedElementsAre(Pair("decode Q4_K rows", 3e10)));
  EXPECT_THAT(load_speeds(file, other), UnorderedElementsAre(Pair("decode Q8_0 rows", 2e10)));
  EXPECT_THAT(load_speeds(file, {"A processor", "avx2", 8}), IsEmpty());
  EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(file).parent_path()), {}), 1)
      << "a partial file is left";
}

TEST_F(Calibration, WhatIsNoSpeedFileCountsAsEmptyAndIsReplaced) {
  const std::string file = folder_ / "speeds.json";
  for (const char* text :
       {"", "{", "[1]", "{\"revision\": 2}", "{\"revision\": 2, \"machines\": 3}",
        "{\"revision\": 99, \"machines\": [{\"processor\": \"A processor\", \"kernels\": \"avx2\", "
        "\"threads\": 4, \"speeds\": "
        "{\"x\": 1}}]}",
        "{\"revision\": 2, \"machines\": [{\"processor\": \"A processor\", \"kernels\": \"avx2\", "
        "\"threads\": 4, \"speeds\": "
        "{\"x\": -1, \"y\": \"fast\", \"z\": 1e300}}, 7, {\"processor\": 3}]}"}) {
    std::ofstream(file) << text;
    EXPECT_THAT(load_speeds(file, key_), IsEmpty()) << text;
    ASSERT_TRUE(save_speeds(file, key_, {{"decode Q4_K rows", 1e10}})) << text;
    EXPECT_EQ(load_speeds(file, key_).size(), 1) << text;
  }
}

TEST_F(Calibration, AFileThatCannotBeWrittenIsAnErrorThatNamesIt) {
  write("");  // a file where a folder would have to be
  const std::string file = folder_ / "speeds.json" / "speeds.json";
  std::ofstream(folder_ / "speeds.json") << "x";
  const Status saved = save_speeds(file, key_, {{"x", 1}});
  ASSERT_FALSE(saved);
  EXPECT_THAT(saved.error().message, HasSubstr(file));
}

TEST_F(Calibration, MeasuresOnceAndThenReadsTheFile) {
  const Wanted wanted{.weights = {quant::Type::kQ4_K, quant::Type::kQ6_K, quant::Type::kIQ2_XS},
                      .attention = {.k_type = quant::Type::kQ8_0, .v_type = quant::Type::kQ4_0}};
  const auto run = [&](When when, placement::Processor& host) {
    const auto outcome = calibrate_host(wanted, Isa::kAvx2, 2, when, file_, host, 0.002);
    EXPECT_TRUE(outcome) << outcome.error().message;
    EXPECT_EQ(outcome->warning, "");
    return *outcome;
  };
  if (!isa_usable(Isa::kAvx2)) GTEST_SKIP() << "needs AVX2";
  fs::create_directories(folder_ / "deep");
  placement::Processor first = placement::default_host(2, false), second = first, never = first;
  EXPECT_EQ(run(When::kAuto, first).n_measured, 7);  // three formats in both ways, attention
  EXPECT_GT(first.read_bytes_s, 1e7);
  EXPECT_GT(first.multiply_add_s, 1e7);
  EXPECT_GT(first.cache_factor_blocks, 0);
  EXPECT_FLOAT_EQ(first.format_factor[static_cast<size_t>(quant::Type::kQ4_K)], 1);

  const Outcome known = run(When::kAuto, second);
  EXPECT_EQ(known.n_measured, 0);
  EXPECT_EQ(known.n_known, 7);
  EXPECT_EQ(second.read_bytes_s, first.read_bytes_s);
  EXPECT_EQ(second.format_factor, first.format_factor);
  EXPECT_EQ(second.multiply_add_s, first.multiply_add_s);
  EXPECT_EQ(second.product_factor, first.product_factor);
  EXPECT_NE(first.product_factor[static_cast<size_t>(quant::Type::kIQ2_XS)], 1);
  EXPECT_EQ(second.cache_factor_blocks, first.cache_factor_blocks);

  EXPECT_EQ(run(When::kAlways, second).n_measured, 7);
  EXPECT_EQ(run(When::kNever, never).n_measured, 0);
  EXPECT_EQ(never.read_bytes_s, placement::default_host(2, false).read_bytes_s);
}

}  // namespace
}  // namespace packmule::calibration
