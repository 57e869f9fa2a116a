#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/output_for_test.h"
#include "gguf/file.h"
#include "tests/support/test_data.h"

namespace packmule::cli {
namespace {

using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

std::vector<fs::path> model_files() {
  std::vector<fs::path> files;
  if (const auto folder = testing_support::find_data("golden"))
    for (const auto& entry : fs::directory_iterator(*folder))
      if (entry.path().extension() == ".gguf") files.push_back(entry.path());
  return files;
}

TEST(Inspect, JsonAgreesWithTheFile) {
  ASSERT_FALSE(model_files().empty());
  for (const fs::path& path : model_files()) {
    SCOPED_TRACE(path);
    const Output output = run({"inspect", path, "--json"});
    ASSERT_EQ(output.exit_code, kExitOk) << output.err;
    const Json json = Json::parse(output.out);
    const auto file = gguf::File::open(path).value();
    EXPECT_EQ(json["size_bytes"], fs::file_size(path));
    EXPECT_EQ(json["metadata"].size(), file.metadata().size());
    EXPECT_EQ(json["metadata"]["general.architecture"]["value"], "qwen3next");
    EXPECT_EQ(json["metadata"]["tokenizer.ggml.tokens"]["length"],
              file.get_strings("tokenizer.ggml.tokens").value().size());
    const Json& hparams = json["hyper_parameters"];
    EXPECT_EQ(hparams["hidden"], file.get_u64("qwen3next.embedding_length").value());
    EXPECT_EQ(hparams["n_experts"], file.get_u64("qwen3next.expert_count").value());
    EXPECT_EQ(hparams["n_delta_net_layers"].get<int>() + hparams["n_attention_layers"].get<int>(),
              hparams["n_layers"].get<int>());
    ASSERT_EQ(json["tensors"].size(), file.tensors().size());
    uint64_t size_bytes = 0;
    uint64_t n_weights = 0;
    for (size_t i = 0; i < file.tensors().size(); ++i) {
      const gguf::TensorInfo& tensor = file.tensors()[i];
      EXPECT_EQ(json["tensors"][i]["name"], tensor.name);
      EXPECT_EQ(json["tensors"][i]["type"], tensor.format->name);
      EXPECT_EQ(json["tensors"][i]["shape"].size(), static_cast<size_t>(tensor.n_dims));
      EXPECT_NE(json["tensors"][i]["kind"], "other") << tensor.name;
      size_bytes += tensor.size_bytes;
      n_weights += static_cast<uint64_t>(tensor.n_elems());
    }
    for (const char* grouping : {"by_type", "by_kind"}) {
      uint64_t group_bytes = 0;
      uint64_t group_weights = 0;
      for (const Json& total : json["totals"][grouping]) {
        group_bytes += total["size_bytes"].get<uint64_t>();
        group_weights += total["weights"].get<uint64_t>();
      }
      EXPECT_EQ(group_bytes, size_bytes);
      EXPECT_EQ(group_weights, n_weights);
    }
    EXPECT_EQ(json["totals"]["all"]["tensors"], file.tensors().size());
  }
}

TEST(Inspect, TextListsTensorsUnlessToldNotTo) {
  ASSERT_FALSE(model_files().empty());
  const std::string path = model_files().front();
  const Output all = run({"inspect", path});
  EXPECT_EQ(all.exit_code, kExitOk);
  EXPECT_THAT(all.out, HasSubstr("blk.0.ffn_gate_exps.weight"));
  EXPECT_THAT(all.out, HasSubstr("general.architecture"));
  EXPECT_THAT(all.out, HasSubstr("DeltaNet layers"));
  const Output brief = run({"inspect", "--no-tensors", path});
  EXPECT_EQ(brief.exit_code, kExitOk);
  EXPECT_THAT(brief.out, Not(HasSubstr("blk.0.ffn_gate_exps.weight")));
  EXPECT_THAT(brief.out, HasSubstr("DeltaNet"));
}

TEST(Inspect, ReadsAFileWithoutTensors) {
  const auto path = testing_support::find_data("tokenizer/qwen3-vocab.gguf");
  ASSERT_TRUE(path);
  const Output output = run({"inspect", *path});
  EXPECT_EQ(output.exit_code, kExitOk) << output.err;
  EXPECT_THAT(output.out, HasSubstr("0 tensors"));
  EXPECT_THAT(output.out, HasSubstr("not those of a model that packmule runs"));
  const Output json = run({"inspect", *path, "--json"});
  EXPECT_EQ(json.exit_code, kExitOk) << json.err;
  EXPECT_TRUE(Json::parse(json.out)["hyper_parameters"].contains("error"));
  EXPECT_LT(output.out.size(), 20000u);  // long arrays are shortened
}

}  // namespace
}  // namespace packmule::cli
