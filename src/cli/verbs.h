// The verbs. Each has a file of its own that adds a subcommand to the program:
//
//   void add_inspect(CLI::App& app, Action& chosen) {
//     auto options = std::make_shared<InspectOptions>();
//     CLI::App* verb = app.add_subcommand("inspect", "Show what is in a GGUF file");
//     verb->add_option("FILE", options->path, "...")->required();
//     verb->callback([options, &chosen] { chosen = [options] { return inspect(*options); }; });
//   }
//
// The callback only notes what to do; the work starts when the whole command line is known to be right.
// Values of flags are checked while parsing, by a CLI11 check or a CLI::ValidationError("--flag", "what is
// wrong, what to do"): that is exit code 2. An error of the work itself is returned: exit code 1. Flags that
// llama.cpp spells with one dash and several letters (-ctk) are listed in flags.cpp under their long names; a
// verb declares only the long one.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "base/result.h"

namespace packmule::cli {

using Action = std::function<Status()>;

void add_bench(CLI::App& app, Action& chosen);
void add_inspect(CLI::App& app, Action& chosen);
void add_logits(CLI::App& app, Action& chosen);
void add_plan(CLI::App& app, Action& chosen);
void add_quantize(CLI::App& app, Action& chosen);
void add_run(CLI::App& app, Action& chosen);
void add_serve(CLI::App& app, Action& chosen);

}  // namespace packmule::cli
