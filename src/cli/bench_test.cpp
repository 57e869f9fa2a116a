#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"
#include "cli/output_for_test.h"
#include "tests/support/golden.h"
#include "tests/support/test_data.h"

namespace packmule::cli {
namespace {

using testing::HasSubstr;

/// A model file that is stored, so that nothing has to be made.
std::string stored_model() {
  for (const std::string& name : testing_support::golden_names())
    if (const auto path = testing_support::find_data("golden/" + name + ".gguf")) return *path;
  throw std::runtime_error("no stored model in the golden folder");
}

TEST(Bench, JsonHoldsEveryRun) {
  const std::string model = stored_model();
  const Output output =
      run({"bench", "-m", model, "-p", "5,33", "-n", "3", "-r", "3", "-ub", "16", "-t", "1", "--json"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  EXPECT_EQ(output.err, "");  // no progress in a pipe
  const Json report = Json::parse(output.out);
  EXPECT_EQ(report["file_bytes"], std::filesystem::file_size(model));
  EXPECT_EQ(report["threads"], 1);
  EXPECT_EQ(report["tokens_at_once"], 16);
  EXPECT_GT(report["weight_bytes"], report["weight_bytes_per_token"]);
  ASSERT_EQ(report["results"].size(), 3u);
  const struct {
    const char *name, *kind;
    int tokens;
  } expected[] = {{"pp5", "prefill", 5}, {"pp33", "prefill", 33}, {"tg3", "decode", 3}};
  for (size_t i = 0; i < 3; ++i) {
    const Json& result = report["results"][i];
    SCOPED_TRACE(result.dump());
    EXPECT_EQ(result["test"], expected[i].name);
    EXPECT_EQ(result["kind"], expected[i].kind);
    EXPECT_EQ(result["tokens"], expected[i].tokens);
    std::vector<double> runs = result["runs_tokens_per_second"];
    ASSERT_EQ(runs.size(), 3u);
    std::sort(runs.begin(), runs.end());
    EXPECT_GT(runs[0], 0);
    EXPECT_EQ(result["min_tokens_per_second"], runs[0]);
    EXPECT_EQ(result["median_tokens_per_second"], runs[1]);
    EXPECT_EQ(result["max_tokens_per_second"], runs[2]);
    ASSERT_EQ(result.contains("weights_gb_per_second"), expected[i].kind == std::string("decode"));
  }
  const Json& decode = report["results"][2];
  EXPECT_DOUBLE_EQ(decode["weights_gb_per_second"], decode["median_tokens_per_second"].get<double>() *
                                                        report["weight_bytes_per_token"].get<double>() / 1e9);
}

TEST(Bench, PrintsATable) {
  const Output output = run({"bench", "-m", stored_model(), "-p", "4", "-n", "2", "-r", "1"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  EXPECT_THAT(output.out, HasSubstr("| ------"));
  EXPECT_THAT(output.out, HasSubstr(" pp4 |"));
  EXPECT_THAT(output.out, HasSubstr(" tg2 |"));
}

TEST(Bench, MeasuresAfterOtherTokens) {
  const Output output = run({"bench", "-m", stored_model(), "-p", "4", "-n", "2", "-d", "0,70", "-r", "1",
                             "-ctk", "q8_0", "--json"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  const Json results = Json::parse(output.out)["results"];
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0]["test"], "pp4");
  EXPECT_EQ(results[3]["test"], "tg2 @ d70");
  EXPECT_EQ(results[3]["depth"], 70);
  EXPECT_EQ(results[3]["tokens"], 2);
}

TEST(Bench, RefusesWhatCannotBeMeasured) {
  const Output nothing = run({"bench", "-m", stored_model(), "-p", "0", "-n", "0"});
  EXPECT_EQ(nothing.exit_code, kExitError);
  EXPECT_THAT(nothing.err, HasSubstr("nothing to measure"));
  EXPECT_EQ(run({"bench", "-m", "/nowhere.gguf"}).exit_code, kExitError);
  EXPECT_EQ(run({"bench", "-m", stored_model(), "-p", "5,x"}).exit_code, kExitWrongFlags);
  EXPECT_EQ(run({"bench"}).exit_code, kExitWrongFlags);
}

}  // namespace
}  // namespace packmule::cli
