#include "base/file_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

namespace packmule {
namespace {

/// The whole pages in `part`, or with those that it touches.
void advise(std::span<const std::byte> part, bool touched, int advice) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto down = [page](uintptr_t address) { return address / page * page; };
  const auto begin = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t first = down(touched ? begin : begin + page - 1);
  const uintptr_t last = down(begin + part.size() + (touched ? page - 1 : 0));
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, advice);
}

}  // namespace

FileMap::FileMap(FileMap&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), path_(std::move(other.path_)) {}

FileMap& FileMap::operator=(FileMap&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(path_, other.path_);
  return *this;
}

FileMap::~FileMap() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Result<FileMap> FileMap::open(const std::string& path) {
  // O_NONBLOCK: a named pipe is refused below, not waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(ErrorKind::kIo, "cannot open {}: {}", path, std::strerror(errno));
  struct Closer {
    int fd;
    ~Closer() { close(fd); }
  } closer{fd};
  struct stat info{};
  if (fstat(fd, &info) != 0) return fail(ErrorKind::kIo, "cannot stat {}: {}", path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return fail(ErrorKind::kIo, "cannot open {}: expected a regular file", path);
  FileMap map;
  map.path_ = path;
  if (info.st_size == 0) return map;
  const auto size = static_cast<size_t>(info.st_size);
  void* address = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return fail(ErrorKind::kIo, "cannot map {}: {}", path, std::strerror(errno));
  map.bytes_ = {static_cast<const std::byte*>(address), size};
  return map;
}

void FileMap::will_read(std::span<const std::byte> part) {
#ifdef MADV_POPULATE_READ
  advise(part, true, MADV_POPULATE_READ);  // one call instead of a fault for every few pages
#else
  advise(part, true, MADV_WILLNEED);
#endif
}

void FileMap::was_read(std::span<const std::byte> part) {
  advise(part, false, MADV_DONTNEED);
}

}  // namespace packmule
