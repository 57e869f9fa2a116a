#include "cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/flags.h"
#include "cli/output_for_test.h"

namespace packmule::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(CommandLine, PrintsVersionAndHelp) {
  const Output version = run({"--version"});
  EXPECT_EQ(version.exit_code, kExitOk);
  EXPECT_THAT(version.out, testing::MatchesRegex("packmule [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  const Output help = run({"--help"});
  EXPECT_EQ(help.exit_code, kExitOk);
  EXPECT_THAT(help.out, HasSubstr("inspect"));
  const Output verb_help = run({"inspect", "--help"});
  EXPECT_EQ(verb_help.exit_code, kExitOk);
  EXPECT_THAT(verb_help.out, HasSubstr("--no-tensors"));
  EXPECT_EQ(verb_help.err, "");
}

// With a driver that is not there: what drivers say is tested in vulkan/.
TEST(CommandLine, ListsDevicesWithAnyVerb) {
  ASSERT_EQ(setenv("VK_ICD_FILENAMES", "/nonexistent.json", 1), 0);
  for (const std::vector<std::string>& args : {std::vector<std::string>{"--list-devices"},
                                               {"serve", "--list-devices", "-m", "none.gguf"}}) {
    const Output output = run(args);
    EXPECT_EQ(output.exit_code, 0);
    EXPECT_THAT(output.out, HasSubstr("No Vulkan device: "));
    EXPECT_THAT(output.out, HasSubstr("packmule computes on the CPU."));
  }
  ASSERT_EQ(unsetenv("VK_ICD_FILENAMES"), 0);
  EXPECT_EQ(run({"--", "--list-devices"}).exit_code, 2) << "after -- it is no flag";
}

TEST(CommandLine, NamesWhatIsWrongInOneLine) {
  const struct {
    std::vector<std::string> args;
    std::string expected;
  } cases[] = {
      {{}, "expected a verb: run"},
      {{"inspct", "m.gguf"}, "unknown verb 'inspct'; expected one of: run"},
      {{"--frob"}, "unknown flag '--frob'; 'packmule --help'"},
      {{"inspect"}, "FILE is required; 'packmule inspect --help'"},
      {{"inspect", "--frob"}, "unknown flag '--frob'; 'packmule inspect --help'"},
      {{"inspect", "m.gguf", "-frob=1"}, "unknown flag '-frob=1'"},
      {{"inspect", "m.gguf", "--jsn"}, "unknown flag '--jsn'; 'packmule inspect --help'"},
      {{"inspect", "m.gguf", "n.gguf"}, "unexpected argument 'n.gguf'; 'packmule inspect --help'"},
      {{"inspect", "m.gguf", "--json=maybe"}, "--json"},
  };
  for (const auto& c : cases) {
    const Output output = run(c.args);
    SCOPED_TRACE(testing::PrintToString(c.args));
    EXPECT_EQ(output.exit_code, kExitWrongFlags);
    EXPECT_EQ(output.out, "");
    EXPECT_THAT(output.err, testing::StartsWith("packmule: error: "));
    EXPECT_THAT(output.err, HasSubstr(c.expected));
    EXPECT_EQ(std::count(output.err.begin(), output.err.end(), '\n'), 1);
  }
}

TEST(CommandLine, AFailureOfTheWorkIsOneLineAndExitCode1) {
  const Output output = run({"inspect", "/nonexistent/m.gguf"});
  EXPECT_EQ(output.exit_code, kExitError);
  EXPECT_EQ(output.out, "");
  EXPECT_EQ(output.err, "packmule: error: cannot open /nonexistent/m.gguf: No such file or directory\n");
}

TEST(Flags, ManyLettersAfterOneDashGetTheirLongName) {
  EXPECT_THAT(with_long_names({"run", "-ctk", "q8_0", "-c", "512", "-ub", "64", "--", "-ctv"}),
              ElementsAre("run", "--cache-type-k", "q8_0", "-c", "512", "--ubatch-size", "64", "--", "-ctv"));
}

}  // namespace
}  // namespace packmule::cli
