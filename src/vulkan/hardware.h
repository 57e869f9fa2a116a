// Whether it is worth asking Vulkan for a graphics card: creating an instance loads every driver of the
// machine, and that of a processor posing as a card (lavapipe) brings a compiler of 50 MB along.
#pragma once

#include <string>

namespace packmule::vulkan {

/// False only where the system says that there is none: Linux whose list of PCI devices has neither a display
/// controller nor an accelerator, and no device files of a graphics driver (or of WSL, or of a driver inside
/// a container). True when VK_DRIVER_FILES or VK_ICD_FILENAMES name drivers, and on any other system. `root`
/// is where the system's folders are; for tests.
[[nodiscard]] bool may_have_graphics_card(const std::string& root = "/");

}  // namespace packmule::vulkan
