#include "base/aligned.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace packmule {
namespace {
constexpr size_t kHugePageBytes = size_t{2} << 20;
}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapping_bytes_, other.mapping_bytes_);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

Result<AlignedBuffer> AlignedBuffer::allocate(size_t size_bytes, const char* what) {
  AlignedBuffer buffer;
  if (size_bytes == 0) return buffer;
  const bool huge = size_bytes >= kHugePageBytes;
  if (size_bytes > SIZE_MAX - kHugePageBytes)
    return fail(ErrorKind::kOutOfMemory, "cannot allocate {} bytes for {}: size out of range", size_bytes,
                what);
  const size_t mapping_bytes = size_bytes + (huge ? kHugePageBytes : 0);
  void* mapping = mmap(nullptr, mapping_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    return fail(ErrorKind::kOutOfMemory, "cannot allocate {:.1f} MiB for {}: {}", size_bytes / 1048576.0,
                what, std::strerror(errno));
  auto address = reinterpret_cast<uintptr_t>(mapping);
  if (huge) {
    address = (address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    madvise(reinterpret_cast<void*>(address), size_bytes, MADV_HUGEPAGE);  // a wish; refusal costs only speed
  }
  buffer.data_ = reinterpret_cast<std::byte*>(address);
  buffer.size_bytes_ = size_bytes;
  buffer.mapping_ = mapping;
  buffer.mapping_bytes_ = mapping_bytes;
  return buffer;
}

}  // namespace packmule
