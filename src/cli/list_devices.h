// packmule --list-devices: what could compute besides the processor.
#pragma once

#include <span>
#include <string>

namespace packmule::cli {

/// Whether the flag is among the arguments, with any verb or none; not after "--".
[[nodiscard]] bool asks_for_devices(std::span<const std::string> args);

/// The text of the list. A machine without devices is no error: a line says why there are none.
[[nodiscard]] std::string device_list();

}  // namespace packmule::cli
