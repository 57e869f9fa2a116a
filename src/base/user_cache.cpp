#include "base/user_cache.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace packmule {

namespace fs = std::filesystem;

std::string user_cache_path(std::string_view name) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return fs::path(cache) / "packmule" / name;
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') return fs::path(home) / ".cache" / "packmule" / name;
  return {};
}

Status replace_file(const std::string& path, std::span<const std::byte> data, std::string_view what) {
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  const std::string partial = fmt::format("{}.{}", path, getpid());
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
  out.close();
  if (!out) error = std::make_error_code(std::errc::io_error);
  if (!error) fs::rename(partial, path, error);
  if (!error) return {};
  std::error_code ignored;
  fs::remove(partial, ignored);
  return fail(ErrorKind::kIo, "cannot keep {} in {}: {}", what, path, error.message());
}

}  // namespace packmule
