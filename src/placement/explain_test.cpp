#include "placement/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "placement/model_for_test.h"

namespace packmule::placement {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<RuleReport> reports(const std::string& text, DirectoryForTest directory = {}) {
  Request request = request_for_test(64, {64});
  request.inventory = directory.inventory();
  add_rules(request, text);
  return explain(request, plan(request).value());
}

std::string all(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(Explain, SaysWhatARuleMatchesInWords) {
  const RuleReport report = reports(R"(\.ffn_.*_exps.=CPU)").front();
  EXPECT_EQ(report.rule, R"(-ot \.ffn_.*_exps.=CPU)");
  EXPECT_THAT(report.matches,
              testing::StartsWith("48 layers (0 to 47): 144 tensors, experts (gate, up, down), "));
  EXPECT_THAT(report.matches, testing::EndsWith("to CPU"));
  EXPECT_THAT(report.warnings, IsEmpty());
  EXPECT_THAT(reports(R"(blk\.(0|4|8|9|10|11)\.ssm_out=CPU)").front().matches,
              HasSubstr("5 layers (0, 4 and 8 to 10): 5 tensors"));
}

TEST(Explain, TheTwoRulesOfTheArticleAreTheSame) {
  const auto ten = reports(R"(\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU)");
  const auto twelve = reports(R"(\.([1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU)");
  EXPECT_EQ(ten[0].matches, twelve[0].matches);
  EXPECT_EQ(ten[0].layers, twelve[0].layers);
  EXPECT_THAT(ten[0].matches, HasSubstr("36 layers (12 to 47): 108 tensors"));
  EXPECT_THAT(ten[0].matches, HasSubstr("not 12 layers (0 to 11)"));
  EXPECT_THAT(all(ten[0].warnings), HasSubstr("[0-1][2-9] matches 12 to 19"));
  EXPECT_THAT(all(ten[0].warnings), HasSubstr("the rule leaves layers 10 and 11 out"));
  EXPECT_THAT(twelve[0].warnings, IsEmpty());
  // In one command: the second changes nothing.
  const auto both = reports(R"(\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU,)"
                            R"(\.([1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU)");
  EXPECT_THAT(all(both[1].warnings), HasSubstr("matches all of its tensors: it changes nothing"));
}

TEST(Explain, WarnsOfTypicalMistakes) {
  const struct {
    const char* rule;
    const char* warning;
  } cases[] = {
      {R"(\.ffn_nothing=CPU)", "matches no tensor"},
      {R"(blk\\.7\\.ffn=CPU)", "with single ones"},
      {R"(blk\.[1-12]\.ffn_.*_exps=CPU)", "[1-12] is a set of single characters"},
      {R"(blk\.[10-20]\.ffn_.*_exps=CPU)", "[10-20] is a set of single characters"},
      {"blk.1=CPU", "blk.1 is the beginning of other numbers too: the rule matches layers 1 and 10 to 19"},
      {R"(blk\.1.*_exps=CPU)", "end the number with"},
      {".1.ffn_.*_exps=CPU", "an unescaped dot stands for any character"},
      {"ffn_.*exp=CPU", "shared experts (shexp)"},
      {R"(\.ffn_=CPU)", "routers"},
      {R"(\.ffn_(up)_exps.=CPU)", "not in the same place"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(all(reports(c.rule).front().warnings), HasSubstr(c.warning)) << c.rule;
}

TEST(Explain, DoesNotWarnOfWhatIsMeant) {
  for (const char* rule :
       {R"(\.ffn_.*_exps.=CPU)", "exps=CPU",
        R"(\.(6|7|8|9|[0-9][0-9]|[0-9][0-9][0-9])\.ffn_(gate|up|down)_exps.=CPU)",
        R"(blk\.(1|2)\.ffn_.*_exps=CPU)", R"(blk\.1\.ffn_.*_exps=CPU)",
        R"(blk\.1[0-9]\.ffn_(gate|up|down)_exps=CPU)", R"(blk\.([0-9]|1[0-2])\.ffn_.*_exps=CPU)",
        R"(blk\.[0-24-7]\.ffn_.*_exps=CPU)", R"(\.([0-1][2-9]|10|11)\.ffn_.*_exps=CPU)",
        "token_embd.weight=GPU0", "output=CPU", R"(attn_.*=CPU)"})
    EXPECT_THAT(all(reports(rule).front().warnings), "") << rule;
}

TEST(Explain, IsOneLineWhateverIsInThePattern) {
  for (const char* rule : {"[\n0-1][2-9]|.=CPU", "[1-12\n]|.=CPU", "(\n\n\\\\blk|blk.1)=CPU"})
    for (const RuleReport& report : reports(rule))
      for (const std::string& warning : report.warnings)
        EXPECT_EQ(warning.find('\n'), std::string::npos) << rule;
}

TEST(Explain, SaysWhichRuleTookTheTensors) {
  const auto found = reports(R"(blk\.[0-3]\.ffn_.*_exps=GPU0,exps=CPU,ffn_up_exps=GPU0)");
  EXPECT_THAT(found[0].warnings, IsEmpty());
  EXPECT_THAT(all(found[1].warnings),
              HasSubstr(R"(-ot blk\.[0-3]\.ffn_.*_exps=GPU0, takes 12 of its tensors)"));
  EXPECT_EQ(found[1].n_effective, 132);
  EXPECT_EQ(found[2].n_effective, 0);
  EXPECT_EQ(found[2].n_tensors, 48);
}

TEST(Explain, TellsFusedTensorsAndThoseThatAreNotLoaded) {
  DirectoryForTest directory;
  directory.fused_gate_up = directory.with_mtp_block = true;
  const auto found = reports(R"(\.ffn_(up|down|gate)_exps=CPU)", directory);
  EXPECT_THAT(all(found[0].warnings), HasSubstr("not in the same place"));  // gate_up is not what it names
  EXPECT_THAT(all(found[0].warnings), HasSubstr("1 of its tensors are not loaded"));
  EXPECT_THAT(reports("exps=CPU", directory)[0].matches, HasSubstr("experts (gate and up in one, down)"));
}

TEST(Explain, TellsFlagsLikeRules) {
  Request request = request_for_test(64, {64});
  request.rules.overrides.push_back(n_cpu_moe_rule(10));
  request.rules.n_gpu_layers = 20;
  request.rules.kv_on_host = true;
  const auto found = explain(request, plan(request).value());
  ASSERT_EQ(found.size(), 3u);
  EXPECT_THAT(found[0].matches, HasSubstr("10 layers (0 to 9): 30 tensors"));
  EXPECT_EQ(found[1].rule, "-ngl 20");
  EXPECT_THAT(found[1].matches, HasSubstr("19 layers (29 to 47) and the output"));
  EXPECT_THAT(found[2].matches, HasSubstr("to CPU"));
  request.machine = machine_for_test(64, {});
  EXPECT_THAT(all(explain(request, plan(request).value())[1].warnings), HasSubstr("no device"));
}

}  // namespace
}  // namespace packmule::placement
