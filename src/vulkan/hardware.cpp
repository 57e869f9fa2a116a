#include "vulkan/hardware.h"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

namespace packmule::vulkan {
namespace {

namespace fs = std::filesystem;

/// Of Mesa and the kernel (dri), NVIDIA's own drivers (also for Tegra), AMD's compute, WSL, and of the
/// processors of phones and boards.
constexpr std::array<std::string_view, 8> kDeviceFiles = {"dri", "nvidia", "nvhost", "kfd",
                                                          "dxg", "mali",   "kgsl",   "pvr"};

/// False when the folder cannot be read: then `one` was not asked about all of it.
template <class Test>
bool none_of(const fs::path& folder, Test one) {
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error))
    if (one(entry->path())) return false;
  return !error;
}

/// PCI classes 0x03 (display controllers, "3D controllers" among them) and 0x12 (accelerators).
bool is_graphics(const fs::path& pci_device) {
  std::string text;
  std::ifstream(pci_device / "class") >> text;
  return text.empty() || text.starts_with("0x03") || text.starts_with("0x12");
}

bool is_device_file(const fs::path& path) {
  const std::string name = path.filename().string();
  for (const std::string_view prefix : kDeviceFiles)
    if (name.starts_with(prefix)) return true;
  return false;
}

}  // namespace

bool may_have_graphics_card(const std::string& root) {
#ifdef __linux__
  for (const char* name : {"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"})
    if (std::getenv(name) != nullptr) return true;
  const fs::path base(root);
  std::error_code error;
  return fs::exists(base / "proc/driver/nvidia", error) || !none_of(base / "dev", is_device_file) ||
         !none_of(base / "sys/bus/pci/devices", is_graphics);
#else
  (void)root;
  return true;
#endif
}

}  // namespace packmule::vulkan
