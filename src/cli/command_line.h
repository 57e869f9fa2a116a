// From the words of the command line to an exit code.
#pragma once

#include <string>
#include <vector>

namespace packmule::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;       // the work failed: one line "packmule: error: ..." on stderr
inline constexpr int kExitWrongFlags = 2;  // nothing was tried: one line naming the flag

/// `args` without the program's name.
int run_command_line(std::vector<std::string> args);

}  // namespace packmule::cli
