#include "vulkan/cache_file.h"

#include <algorithm>
#include <cstring>
#include <fstream>

#include "base/user_cache.h"

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
  std::string name;
  for (const uint8_t byte : uuid) name += fmt::format("{:02x}", byte);
  return user_cache_path(fmt::format("vulkan-{}.cache", name));
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
  std::vector<std::byte> whole(sizeof header + data.size());
  std::memcpy(whole.data(), &header, sizeof header);
  std::ranges::copy(data, whole.begin() + sizeof header);
  return replace_file(path, whole, "the pipeline cache");
}

}  // namespace packmule::vulkan
