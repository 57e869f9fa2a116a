#include "cli/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>

#include "base/utf8.h"
#include "cli/flags.h"
#include "cli/list_devices.h"
#include "cli/verbs.h"

namespace packmule::cli {
namespace {

int report(int exit_code, std::string_view message) {
  fmt::print(stderr, "packmule: error: {}\n", message);
  return exit_code;
}

/// "packmule inspect": what to ask for help about.
std::string command_of(const CLI::App& app) {
  const auto verbs = app.get_subcommands();
  return verbs.empty() ? "packmule" : "packmule " + verbs.front()->get_name();
}

std::string verb_names(const CLI::App& app) {
  std::string names;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    names += (names.empty() ? "" : ", ") + verb->get_name();
  return names;
}

/// One line for a command line that could not be parsed.
std::string describe(const CLI::App& app, const CLI::ParseError& error) {
  const std::string help = fmt::format("'{} --help' lists what there is", command_of(app));
  // A word nobody asked for explains more than the required one it stands in the place of.
  const auto unknown = app.remaining(true);
  const bool incomplete = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr ||
                          dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  if (incomplete && !unknown.empty()) {
    const std::string word = printable(unknown.front(), 80);
    if (word.starts_with('-')) return fmt::format("unknown flag '{}'; {}", word, help);
    if (app.get_subcommands().empty())
      return fmt::format("unknown verb '{}'; expected one of: {}", word, verb_names(app));
    return fmt::format("unexpected argument '{}'; {}", word, help);
  }
  if (incomplete && app.get_subcommands().empty())
    return fmt::format("expected a verb: {}; 'packmule --help' says more", verb_names(app));
  std::string words = error.what();
  std::replace(words.begin(), words.end(), '\n', ' ');
  return fmt::format("{}; {}", words, help);
}

Status run_action(const Action& action) {
  try {
    return action();
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kOutOfMemory, "out of memory; free some, or ask for less (a smaller context)");
  } catch (const std::exception& error) {
    return fail(ErrorKind::kInternal, "internal error: {}; please report it", error.what());
  }
}

}  // namespace

int run_command_line(std::vector<std::string> args) {
  Action chosen;
  CLI::App app("packmule runs Qwen3-Next models (GGUF files) on the machine you own.", "packmule");
  app.set_version_flag("--version", "packmule " PACKMULE_VERSION, "Print the version and exit");
  app.require_subcommand(1);
  app.add_flag_function(
      "--list-devices", [](int64_t) {}, "Print the graphics devices packmule finds, and exit");
  app.option_defaults()->take_last();  // a flag given twice: the last one counts, as in llama.cpp
  app.footer("'packmule VERB --help' lists the flags of a verb.");
  add_run(app, chosen);
  add_inspect(app, chosen);
  add_plan(app, chosen);
  add_logits(app, chosen);
  add_quantize(app, chosen);
  add_serve(app, chosen);
  add_bench(app, chosen);

  args = with_long_names(std::move(args));
  if (asks_for_devices(args)) {
    fmt::print("{}", device_list());
    return kExitOk;
  }
  std::reverse(args.begin(), args.end());  // the parser wants them so
  try {
    app.parse(std::move(args));
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return kExitOk;
  } catch (const CLI::CallForVersion& version) {
    fmt::print("{}\n", version.what());
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    return report(kExitWrongFlags, describe(app, error));
  }
  const Status status = run_action(chosen);
  if (!status) return report(kExitError, status.error().message);
  return kExitOk;
}

}  // namespace packmule::cli
