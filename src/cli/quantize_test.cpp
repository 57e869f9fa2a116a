#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "cli/output_for_test.h"
#include "gguf/file.h"
#include "gguf/writer.h"
#include "tests/support/test_data.h"

namespace packmule::cli {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

fs::path made(const std::string& name) {
  return testing_support::generated_dir() / ("quantize_verb_" + name);
}

std::vector<float> decoded(const gguf::TensorInfo& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.n_elems()));
  tensor.format->decode(tensor.data, values.data(), tensor.n_elems());
  return values;
}

/// A file with one tensor of each kind that the rules tell apart, all F32; `tied`: without an output head.
fs::path small_model(bool tied) {
  gguf::Writer writer;
  writer.set("general.architecture", std::string("qwen3next"));
  writer.set("general.file_type", uint32_t{0});
  writer.set("split.count", uint16_t{0});
  writer.set("some.list", std::vector<std::string>{"a", "b"});
  static std::vector<std::vector<float>> held;
  held.clear();
  const auto add = [&](const std::string& name, const std::vector<int64_t>& ne) {
    int64_t n = 1;
    for (const int64_t dimension : ne) n *= dimension;
    held.emplace_back();
    for (int64_t i = 0; i < n; ++i) held.back().push_back(std::sin(static_cast<float>(i * i % 1009)));
    writer.add_tensor(name, ne, quant::Type::kF32, std::as_bytes(std::span<const float>(held.back())));
  };
  add("token_embd.weight", {256, 8});
  if (!tied) add("output.weight", {256, 8});
  add("output_norm.weight", {256});
  add("blk.0.ffn_gate_inp.weight", {256, 4});
  add("blk.0.ffn_gate_inp_shexp.weight", {256, 1});
  add("blk.0.ssm_conv1d.weight", {4, 512});
  add("blk.0.ssm_ba.weight", {256, 8});
  add("blk.0.ffn_up_exps.weight", {256, 300, 3});
  add("blk.0.ffn_down_shexp.weight", {96, 7});
  add("blk.0.ffn_up_shexp.weight", {40, 5});
  const fs::path path = made(tied ? "tied.gguf" : "untied.gguf");
  EXPECT_TRUE(writer.write(path.string()));
  return path;
}

TEST(Quantize, EveryTensorGetsTheFormatOfTheRules) {
  for (const bool tied : {false, true}) {
    const fs::path in = small_model(tied), out = made("rules.gguf");
    const Output output = run({"quantize", in, out, "q4_k", "-t", "2"});
    ASSERT_EQ(output.exit_code, kExitOk) << output.err;
    EXPECT_THAT(output.out, HasSubstr("tensors"));
    const auto file = gguf::File::open(out).value();
    const auto type = [&](const char* name) { return std::string(file.find_tensor(name)->format->name); };
    EXPECT_EQ(type("token_embd.weight"), tied ? "Q6_K" : "Q4_K");
    if (!tied) {
      EXPECT_EQ(type("output.weight"), "Q6_K");
    }
    for (const char* kept :
         {"output_norm.weight", "blk.0.ffn_gate_inp.weight", "blk.0.ffn_gate_inp_shexp.weight",
          "blk.0.ssm_conv1d.weight", "blk.0.ssm_ba.weight"})
      EXPECT_EQ(type(kept), "F32") << kept;
    EXPECT_EQ(type("blk.0.ffn_up_exps.weight"), "Q4_K");
    EXPECT_EQ(type("blk.0.ffn_down_shexp.weight"), "Q8_0");  // rows of 96
    EXPECT_EQ(type("blk.0.ffn_up_shexp.weight"), "F16");     // rows of 40
    EXPECT_EQ(file.get_u64("general.file_type").value(), 14u);
    EXPECT_EQ(file.get_strings("some.list").value().size(), 2u);
    EXPECT_FALSE(file.has("split.count"));
  }
}

TEST(Quantize, ValuesAreThoseOfTheEncoder) {
  const fs::path in = small_model(true);
  const auto before = gguf::File::open(in).value();
  for (const quant::Format& format : quant::formats()) {
    if (format.encode == nullptr) continue;
    SCOPED_TRACE(format.name);
    const fs::path out = made("values.gguf");
    ASSERT_EQ(run({"quantize", in, out, std::string(format.name)}).exit_code, kExitOk);
    const auto after = gguf::File::open(out).value();
    ASSERT_EQ(after.tensors().size(), before.tensors().size());
    for (size_t i = 0; i < before.tensors().size(); ++i) {
      const gguf::TensorInfo& tensor = after.tensors()[i];
      std::vector<std::byte> expected(tensor.size_bytes);
      const std::vector<float> values = decoded(before.tensors()[i]);
      tensor.format->encode(values.data(), nullptr, expected.data(), tensor.n_elems());
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), tensor.data)) << tensor.name;
    }
  }
}

TEST(Quantize, ATensorOfSeveralPiecesIsWhole) {  // the writer asks for 8 MiB at a time
  std::vector<float> values(256 * 20000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 60013) * 0.001f;
  gguf::Writer writer;
  writer.add_tensor("blk.0.ffn_up_exps.weight", {256, 20000}, quant::Type::kF32,
                    std::as_bytes(std::span<const float>(values)));
  const fs::path in = made("large.gguf"), out = made("large_f16.gguf");
  ASSERT_TRUE(writer.write(in.string()));
  ASSERT_EQ(run({"quantize", in, out, "F16"}).exit_code, kExitOk);
  const auto file = gguf::File::open(out).value();
  const std::vector<float> found = decoded(file.tensors()[0]);
  for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(found[i], values[i], 0.02) << i;
}

TEST(Quantize, TwiceOnlyWhenAsked) {
  const fs::path in = small_model(true), once = made("once.gguf"), twice = made("twice.gguf");
  fs::remove(twice);
  ASSERT_EQ(run({"quantize", in, once, "Q6_K"}).exit_code, kExitOk);
  const Output refused = run({"quantize", once, twice, "Q8_0"});
  EXPECT_EQ(refused.exit_code, kExitError);
  EXPECT_THAT(refused.err, HasSubstr("--allow-requantize"));
  EXPECT_FALSE(fs::exists(twice));
  ASSERT_EQ(run({"quantize", once, twice, "Q8_0", "--allow-requantize"}).exit_code, kExitOk);
  const auto first = gguf::File::open(once).value(), second = gguf::File::open(twice).value();
  const std::vector<float> a = decoded(*first.find_tensor("blk.0.ffn_up_exps.weight"));
  const std::vector<float> b = decoded(*second.find_tensor("blk.0.ffn_up_exps.weight"));
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 0.005) << i;
}

TEST(Quantize, EveryMistakeIsOneLine) {
  const fs::path in = small_model(true), out = made("wrong.gguf");
  fs::remove(out);
  std::ofstream(made("noise.gguf")) << "not a model";
  const auto expect = [&](const std::vector<std::string>& args, const std::string& words) {
    const Output output = run(args);
    EXPECT_NE(output.exit_code, kExitOk);
    EXPECT_THAT(output.err, HasSubstr(words));
    EXPECT_EQ(std::count(output.err.begin(), output.err.end(), '\n'), 1) << output.err;
    EXPECT_FALSE(fs::exists(out));
  };
  expect({"quantize", in, out, "Q9_K"}, "expected one of F32");
  expect({"quantize", in, out}, "TYPE");
  expect({"quantize", made("none.gguf"), out, "Q8_0"}, "none.gguf");
  expect({"quantize", made("noise.gguf"), out, "Q8_0"}, "noise.gguf");
  expect({"quantize", in, in, "Q8_0"}, "the file to read");
  expect({"quantize", in, made("no/such/folder.gguf"), "Q8_0"}, "folder.gguf");
}

}  // namespace
}  // namespace packmule::cli
