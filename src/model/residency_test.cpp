// Where weights lie changes nothing but speed and memory.
#include "model/residency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "model/model_for_test.h"
#include "tests/support/golden.h"

namespace packmule::model {
namespace {

using testing::HasSubstr;

constexpr int64_t kPlenty = int64_t{1} << 40;

testing_support::GoldenCase quantized_case() {
  for (const std::string& name : testing_support::golden_names()) {
    testing_support::GoldenCase golden = testing_support::read_golden(name);
    if (golden.quantized()) return golden;
  }
  throw std::runtime_error("no golden model has block formats");
}

std::string quantized_model() {
  const auto path = testing_support::golden_model(quantized_case());
  if (!path.has_value()) throw std::runtime_error(path.error().message);
  return path->string();
}

class LoadModes : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_usable(GetParam())) GTEST_SKIP() << "this processor has no " << isa_name(GetParam());
  }
};

TEST_P(LoadModes, GiveTheSameBits) {
  const std::vector<int32_t> tokens = quantized_case().tokens;
  std::vector<float> first;
  for (const LoadMode mode : {LoadMode::kMmap, LoadMode::kCopy, LoadMode::kRepack}) {
    ModelOptions options;
    options.isa = GetParam();
    options.ubatch_size = 128;
    options.load_mode = mode;
    const auto loaded = LoadedModel::load(quantized_model(), options);
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    if (GetParam() != Isa::kRef) {
      EXPECT_EQ(loaded->model->load_mode(), mode);
    }
    const auto sequence = loaded->sequence();
    std::vector<float> logits = loaded->run(*sequence, std::span(tokens).first(128), 128);  // many at once
    const std::vector<float> single = loaded->run(*sequence, std::span(tokens).subspan(128, 8), 1);
    logits.insert(logits.end(), single.begin(), single.end());
    if (first.empty()) first = logits;
    ASSERT_EQ(logits.size(), first.size());
    EXPECT_EQ(std::memcmp(logits.data(), first.data(), logits.size() * sizeof(float)), 0)
        << load_mode_name(mode);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, LoadModes, testing::ValuesIn(all_isas()),
                         [](const auto& param) { return std::string(isa_name(param.param)); });

TEST(Residency, ChoosesByTheMemoryThereIs) {
  const auto file = gguf::File::open(quantized_model());
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto chosen = [&](LoadMode mode, bool can_repack, int64_t available) {
    const auto residency = Residency::create(*file, mode, can_repack, 0, available);
    return residency ? std::string(load_mode_name(residency->mode())) : residency.error().message;
  };
  EXPECT_EQ(chosen(LoadMode::kAuto, true, kPlenty), "repack");
  EXPECT_EQ(chosen(LoadMode::kAuto, false, kPlenty), "mmap") << "a copy in the file's own order gains little";
  EXPECT_EQ(chosen(LoadMode::kAuto, true, int64_t{1} << 30), "mmap") << "some memory is left to others";
  EXPECT_EQ(chosen(LoadMode::kRepack, true, int64_t{1} << 30), "repack") << "unless asked for";
  EXPECT_EQ(chosen(LoadMode::kRepack, false, kPlenty), "copy");
  EXPECT_EQ(chosen(LoadMode::kMmap, true, 0), "mmap");
  for (const LoadMode mode : {LoadMode::kCopy, LoadMode::kRepack}) {
    const std::string message = chosen(mode, true, 1000);
    EXPECT_THAT(message, HasSubstr(std::string("--load-mode ") + std::string(load_mode_name(mode))));
    EXPECT_THAT(message, HasSubstr("--load-mode mmap"));
  }
}

}  // namespace
}  // namespace packmule::model
