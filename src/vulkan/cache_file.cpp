#include "vulkan/cache_file.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace packmule::vulkan {
namespace {

constexpr char kMagic[8] = {'P', 'M', 'V', 'K', 'P', 'C', '1', '\0'};
constexpr uint64_t kLargestFile = 512 << 20;  // a driver's cache has some MB

struct Header {
  char magic[8];
  CacheUuid uuid;
  uint64_t size_bytes;
  uint64_t checksum;
};
static_assert(sizeof(Header) == 40);

uint64_t checksum_of(std::span<const std::byte> data) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const std::byte byte : data) hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3u;
  return hash;
}

}  // namespace

std::string cache_file_path(const CacheUuid& uuid) {
  std::string folder;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && xdg[0] == '/')
    folder = xdg;
  else if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/')
    folder = std::string(home) + "/.cache";
  else
    return {};
  std::string name;
  for (const uint8_t byte : uuid) name += fmt::format("{:02x}", byte);
  return folder + "/packmule/vulkan-" + name + ".cache";
}

std::vector<std::byte> read_cache_file(const std::string& path, const CacheUuid& uuid) {
  std::ifstream file(path, std::ios::binary);
  Header header;
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header)) return {};
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.uuid != uuid ||
      header.size_bytes > kLargestFile)
    return {};
  std::vector<std::byte> data(header.size_bytes);
  if (!file.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(data.size()))) return {};
  if (file.peek() != std::ifstream::traits_type::eof() || checksum_of(data) != header.checksum) return {};
  return data;
}

Status write_cache_file(const std::string& path, const CacheUuid& uuid, std::span<const std::byte> data) {
  Header header{.magic = {}, .uuid = uuid, .size_bytes = data.size(), .checksum = checksum_of(data)};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  const std::string unfinished = fmt::format("{}.{}", path, getpid());
  {
    std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(&header), sizeof header);
    file.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
    file.close();
    if (!file) {
      std::filesystem::remove(unfinished, error);
      return fail(ErrorKind::kIo, "cannot write the pipeline cache {}", unfinished);
    }
  }
  std::filesystem::rename(unfinished, path, error);
  if (error) return fail(ErrorKind::kIo, "cannot write the pipeline cache {}: {}", path, error.message());
  return {};
}

}  // namespace packmule::vulkan
