#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "bench/random_blocks.h"
#include "bench/synthetic_model.h"
#include "gguf/file.h"
#include "tests/support/test_data.h"

namespace packmule::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

struct Moments {
  double mean = 0, deviation = 0;
};
Moments moments_of(const std::vector<float>& values) {
  Moments m;
  for (const float v : values) m.mean += v;
  m.mean /= static_cast<double>(values.size());
  for (const float v : values) m.deviation += (v - m.mean) * (v - m.mean);
  m.deviation = std::sqrt(m.deviation / static_cast<double>(values.size()));
  return m;
}

TEST(RandomBlocks, EveryFormatGivesNoiseOfTheSizeAskedFor) {
  for (const quant::Format& format : quant::formats()) {
    for (const float sigma : {0.02f, 1.0f}) {
      SCOPED_TRACE(testing::Message() << format.name << " " << sigma);
      const auto source = BlockSource::create(format, sigma, 7);
      ASSERT_TRUE(source) << source.error().message;
      const int64_t n_blocks = (1 << 18) / format.block_elems;
      std::vector<std::byte> blocks(static_cast<size_t>(n_blocks * format.block_bytes));
      source->fill(0, blocks);
      std::vector<float> weights(static_cast<size_t>(n_blocks * format.block_elems));
      format.decode(blocks.data(), weights.data(), static_cast<int64_t>(weights.size()));
      const Moments m = moments_of(weights);
      // Scales that are powers of two may miss by a factor of sqrt(2), 8-bit float scales near their smallest
      // value by a quarter; the others only by the 0.7 % that the spread of the block scales adds.
      const double tolerance = format.type == quant::Type::kMXFP4   ? 0.45
                               : format.type == quant::Type::kNVFP4 ? 0.25
                                                                    : 0.03;
      EXPECT_NEAR(m.deviation / sigma, 1, tolerance);
      // IQ codebooks and IQ4_NL values are not quite symmetric.
      EXPECT_NEAR(m.mean / sigma, 0, 0.15);
    }
  }
}

TEST(RandomBlocks, AreTheSameInAnyPieces) {
  for (const quant::Format& format : quant::formats()) {
    SCOPED_TRACE(format.name);
    const auto source = BlockSource::create(format, 0.02f, 7).value();
    const auto block_bytes = static_cast<size_t>(format.block_bytes);
    std::vector<std::byte> whole(10 * block_bytes);
    source.fill(3, whole);
    std::vector<std::byte> pieces(10 * block_bytes);
    source.fill(7, std::span(pieces).subspan(4 * block_bytes));
    source.fill(3, std::span(pieces).first(4 * block_bytes));
    EXPECT_EQ(pieces, whole);
    std::vector<std::byte> other(10 * block_bytes);
    BlockSource::create(format, 0.02f, 8)->fill(3, other);
    EXPECT_NE(other, whole);
  }
}

/// Small in all that may be small; the widths are the true ones.
class Synthetic : public testing::Test {
 protected:
  // A folder of its own: tests run side by side.
  Synthetic()
      : folder(testing_support::generated_dir() /
               testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::create_directories(folder);
  }
  ~Synthetic() override { fs::remove_all(folder); }
  Result<gguf::File> make(const SyntheticOptions& options, const char* name = "m.gguf") const {
    const std::string path = folder / name;
    PACKMULE_TRY([[maybe_unused]] const auto summary, write_synthetic_model(options, path, {}));
    return gguf::File::open(path);
  }
  static std::vector<int64_t> shape(const gguf::File& file, const char* name) {
    const gguf::TensorInfo* tensor = file.find_tensor(name);
    if (tensor == nullptr) return {};
    return {tensor->ne.begin(), tensor->ne.begin() + tensor->n_dims};
  }
  static std::string_view type(const gguf::File& file, const char* name) {
    return file.find_tensor(name)->format->name;
  }
  static std::vector<float> floats(const gguf::File& file, const char* name) {
    const gguf::TensorInfo* tensor = file.find_tensor(name);
    std::vector<float> values(static_cast<size_t>(tensor->n_elems()));
    tensor->format->decode(tensor->data, values.data(), tensor->n_elems());
    return values;
  }

  fs::path folder;
  SyntheticOptions small{.n_layers = 4, .n_experts = 16, .n_vocab = 1024};
};

TEST_F(Synthetic, HasTheTrueWidthsAndNames) {
  const auto file = make(small);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors().size(), 3u + 3 * 18 + 16);
  EXPECT_THAT(shape(*file, "token_embd.weight"), ElementsAre(2048, 1024));
  EXPECT_THAT(shape(*file, "blk.0.attn_qkv.weight"), ElementsAre(2048, 8192));
  EXPECT_THAT(shape(*file, "blk.1.attn_gate.weight"), ElementsAre(2048, 4096));
  EXPECT_THAT(shape(*file, "blk.2.ssm_ba.weight"), ElementsAre(2048, 64));
  EXPECT_THAT(shape(*file, "blk.2.ssm_conv1d.weight"), ElementsAre(4, 8192));
  EXPECT_THAT(shape(*file, "blk.2.ssm_a"), ElementsAre(32));
  EXPECT_THAT(shape(*file, "blk.2.ssm_out.weight"), ElementsAre(4096, 2048));
  EXPECT_THAT(shape(*file, "blk.3.attn_q.weight"), ElementsAre(2048, 8192));
  EXPECT_THAT(shape(*file, "blk.3.attn_k.weight"), ElementsAre(2048, 512));
  EXPECT_THAT(shape(*file, "blk.3.attn_output.weight"), ElementsAre(4096, 2048));
  EXPECT_THAT(shape(*file, "blk.3.ffn_gate_inp.weight"), ElementsAre(2048, 16));
  EXPECT_THAT(shape(*file, "blk.3.ffn_down_exps.weight"), ElementsAre(512, 2048, 16));
  EXPECT_THAT(shape(*file, "blk.3.ffn_gate_shexp.weight"), ElementsAre(2048, 512));
  EXPECT_EQ(file->find_tensor("blk.3.attn_qkv.weight"), nullptr);
  EXPECT_EQ(file->get_u64("qwen3next.expert_count").value(), 16u);
  EXPECT_EQ(file->get_u64("qwen3next.block_count").value(), 4u);
  EXPECT_EQ(file->get_strings("tokenizer.ggml.tokens")->size(), 1024u);
  EXPECT_EQ(file->get_strings("tokenizer.ggml.tokens")->back(), "<|im_end|>");
  EXPECT_EQ(file->get_integers("tokenizer.ggml.token_type")->size(), 1024u);
  EXPECT_EQ(type(*file, "blk.0.ffn_up_exps.weight"), "Q4_K");
  EXPECT_EQ(type(*file, "blk.0.ffn_down_exps.weight"), "Q5_K");
  EXPECT_EQ(type(*file, "blk.0.ssm_ba.weight"), "F32");

  EXPECT_NEAR(moments_of(floats(*file, "blk.3.attn_q.weight")).deviation, 0.02, 0.001);
  EXPECT_NEAR(moments_of(floats(*file, "token_embd.weight")).deviation, 1, 0.05);
  EXPECT_THAT(floats(*file, "output_norm.weight"), testing::Each(1.0f));
  EXPECT_THAT(floats(*file, "blk.0.ssm_a"),
              testing::Each(testing::AllOf(testing::Ge(-2.72f), testing::Le(-0.049f))));
}

TEST_F(Synthetic, IsTheSameForASeedAndAnyNumberOfThreads) {
  small.n_layers = 1;
  small.mix = "q2_k";
  ASSERT_TRUE(make(small, "a"));
  small.n_threads = 3;
  ASSERT_TRUE(make(small, "b"));
  small.seed = 2;
  ASSERT_TRUE(make(small, "c"));
  const std::string a = testing_support::read_file(folder / "a");
  EXPECT_TRUE(a == testing_support::read_file(folder / "b"));
  EXPECT_FALSE(a == testing_support::read_file(folder / "c"));
}

TEST_F(Synthetic, TypesAreChosenByName) {
  small.n_layers = 1;
  small.n_experts = 2;
  small.types = {{"_exps", quant::Type::kIQ4_XS},
                 {"ffn_down_exps", quant::Type::kMXFP4},
                 {"^output", quant::Type::kQ4_0}};
  const auto file = make(small);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(type(*file, "blk.0.ffn_up_exps.weight"), "IQ4_XS");
  EXPECT_EQ(type(*file, "blk.0.ffn_down_exps.weight"), "MXFP4");
  EXPECT_EQ(type(*file, "output.weight"), "Q4_0");
  EXPECT_EQ(type(*file, "output_norm.weight"), "F32");
  small.types = {{"nothing_like_it", quant::Type::kQ8_0}};
  EXPECT_THAT(make(small).error().message, HasSubstr("'nothing_like_it' finds no weight matrix"));
  small.types = {{"(", quant::Type::kQ8_0}};
  EXPECT_THAT(make(small).error().message, HasSubstr("no regular expression"));
}

TEST_F(Synthetic, SkewSpreadsTheRowsOfTheRouter) {
  small.n_layers = 1;
  small.n_experts = 64;
  const auto spread = [&](float skew) {
    small.skew = skew;
    const auto file = make(small).value();
    const std::vector<float> router = floats(file, "blk.0.ffn_gate_inp.weight");
    double lowest = 1e9, highest = 0;
    for (size_t row = 0; row < 64; ++row) {
      const auto begin = router.begin() + static_cast<ptrdiff_t>(2048 * row);
      const double deviation = moments_of({begin, begin + 2048}).deviation;
      lowest = std::min(lowest, deviation);
      highest = std::max(highest, deviation);
    }
    return highest / lowest;
  };
  EXPECT_LT(spread(0), 1.2);
  EXPECT_GT(spread(1), 4);
}

TEST_F(Synthetic, SaysWhatItCannotMake) {
  small.mix = "q1";
  EXPECT_THAT(make(small).error().message,
              HasSubstr("unknown mix 'q1'; expected one of q4_k_xl, q4_k, q8_0, q2_k"));
  small.mix = "q4_k";
  small.n_vocab = 960;
  EXPECT_THAT(make(small).error().message, HasSubstr("961 vocabulary entries"));
}

}  // namespace
}  // namespace packmule::bench
