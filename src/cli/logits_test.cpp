#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "cli/output_for_test.h"
#include "tests/support/golden.h"
#include "tests/support/test_data.h"

namespace packmule::cli {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

/// A reference model whose file is stored, so that nothing has to be made.
testing_support::GoldenCase stored_case() {
  for (const std::string& name : testing_support::golden_names())
    if (testing_support::find_data("golden/" + name + ".gguf")) return testing_support::read_golden(name);
  throw std::runtime_error("no stored model in the golden folder");
}

fs::path write_text(const std::string& name, const std::string& text) {
  const fs::path path = testing_support::generated_dir() / name;
  std::ofstream(path) << text;
  return path;
}

TEST(Logits, AgreeWithTheReference) {
  // The fast variants round activations, the stored model has quantised weights.
  const char* const before = std::getenv("PACKMULE_CPU");
  const std::string restored = before == nullptr ? "" : before;  // "" chooses as no variable does
  ::setenv("PACKMULE_CPU", "ref", 1);
  const auto golden = stored_case();
  const std::string model = testing_support::golden_model(golden).value();
  const fs::path out = testing_support::generated_dir() / "logits_verb.f32";
  const std::vector<std::string> command{"logits", "-m",  model,  "--output", out,
                                         "-ctk",   "f32", "-ctv", "F32"};
  for (const auto& [tokens, more] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {golden.about.dump(), {"-t", "2"}},
           {golden.about.at("tokens").dump(), {"-ub", "37", "-t", "1"}}}) {
    std::vector<std::string> args = command;
    args.insert(args.end(), {"--tokens-file", write_text("logits_verb.json", tokens)});
    args.insert(args.end(), more.begin(), more.end());
    const Output output = run(args);
    ASSERT_EQ(output.exit_code, kExitOk) << output.err;
    EXPECT_EQ(output.out, "");
    EXPECT_EQ(output.err, "");  // no progress in a pipe
    // The bound for quantised weights, see the model's golden tests.
    EXPECT_LE(
        testing_support::max_relative_l2(testing_support::read_floats(out), golden.logits, golden.n_vocab),
        1e-5);
  }
  ::setenv("PACKMULE_CPU", restored.c_str(), 1);
}

TEST(Logits, EveryMistakeIsOneLine) {
  const std::string model = testing_support::golden_model(stored_case()).value();
  const std::string out = testing_support::generated_dir() / "logits_verb_wrong.f32";
  const std::string good = write_text("logits_verb_good.json", "[1, 2]");
  fs::remove(out);
  const auto expect = [&](const std::vector<std::string>& args, int exit_code, const std::string& words) {
    const Output output = run(args);
    EXPECT_EQ(output.exit_code, exit_code);
    EXPECT_THAT(output.err, HasSubstr(words));
    EXPECT_EQ(std::count(output.err.begin(), output.err.end(), '\n'), 1) << output.err;
    EXPECT_FALSE(fs::exists(out)) << "left by " << words;
  };
  for (const auto& [text, words] :
       std::vector<std::pair<std::string, std::string>>{{"", "logits_verb_bad.json"},
                                                        {"[]", "an empty array"},
                                                        {"{\"ids\": [1]}", "found object"},
                                                        {"[1, \"two\"]", "entry 1"},
                                                        {"[1, -2]", "entry 1"},
                                                        {"[1, 2.5]", "entry 1"},
                                                        {"[99999999999]", "entry 0"},
                                                        {"[1, 1000000]", "token id 1000000"}})
    expect(
        {"logits", "-m", model, "--tokens-file", write_text("logits_verb_bad.json", text), "--output", out},
        kExitError, words);
  expect({"logits", "-m", good, "--tokens-file", good, "--output", out}, kExitError, "logits_verb_good.json");
  expect({"logits", "-m", model, "--tokens-file", "/nowhere.json", "--output", out}, kExitError,
         "/nowhere.json");
  expect({"logits", "-m", model, "--tokens-file", good, "--output", "/nowhere/out.f32"}, kExitError,
         "/nowhere/out.f32");
  expect({"logits", "-m", model, "--tokens-file", good, "--output", out, "-ctk", "q6_k"}, kExitWrongFlags,
         "q6_k");
  expect({"logits", "-m", model, "--tokens-file", good, "--output", out, "-ub", "0"}, kExitWrongFlags,
         "--ubatch-size");
  expect({"logits", "-m", model, "--tokens-file", good}, kExitWrongFlags, "--output");
}

}  // namespace
}  // namespace packmule::cli
