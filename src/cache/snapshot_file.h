// Snapshots in files.
//
// Little endian: a header of 64 bytes (SnapshotHeader); i32 tokens[n_tokens]; for each checkpoint {u64
// n_tokens, u64 n_logits (0 or those of the vocabulary)}; u64 sum of all of this. Then each page, followed by
// its sum; then for each checkpoint its state and logits (f32), followed by their sum. Sums are XXH64. The
// size of the file follows from its head, so one that was cut off is known before anything is read.
//
// Such a file holds what people wrote, as tokens that anybody can turn back into text: it is made readable
// for its owner only (0600). It is written under another name in the same folder, brought to the disk (fsync)
// and renamed: whoever opens it sees all of it or nothing. What is read is untrusted: every number is checked
// before it is used, and a file that does not fit gives one line with what was expected and found.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cache/snapshot.h"

namespace packmule::cache {

inline constexpr uint32_t kSnapshotVersion = 1;

/// What a file is known by without reading its pages and states.
struct SnapshotHead {
  struct Mark {
    int64_t n_tokens = 0;
    bool logits = false;
    bool operator==(const Mark&) const = default;
  };
  std::vector<int32_t> tokens;
  int64_t first_page = 0;
  std::vector<Mark> checkpoints;

  [[nodiscard]] int64_t file_bytes(const SnapshotFormat& format) const;
};

/// Bytes that can be read at any place, of a file or, for tests, of memory.
struct ByteSource {
  std::string name;
  uint64_t size_bytes = 0;
  std::function<Status(uint64_t offset, std::span<std::byte> to)> read;
};
/// A regular file; what is no such thing (a link, a pipe, a folder) is refused.
[[nodiscard]] Result<ByteSource> open_source(const std::string& path);

class SnapshotReader {
 public:
  /// Reads and checks the head: kInvalidFile when it is damaged, kUnsupported when it was made by another
  /// model, with other cache types, or by a later version.
  static Result<SnapshotReader> open(ByteSource source, const SnapshotFormat& format);

  [[nodiscard]] const SnapshotHead& head() const { return head_; }
  [[nodiscard]] int64_t size_bytes() const { return static_cast<int64_t>(source_.size_bytes); }
  /// Pages from `page` on, counted from the beginning of the conversation, as many as `to` has room for.
  [[nodiscard]] Status read_pages(int64_t page, std::span<std::byte> to) const;
  [[nodiscard]] Result<Snapshot::Checkpoint> read_checkpoint(size_t index) const;
  [[nodiscard]] Result<Snapshot> read_all() const;

 private:
  SnapshotReader(ByteSource source, const SnapshotFormat& format)
      : source_(std::move(source)), format_(format) {}
  [[nodiscard]] Status read_head();
  [[nodiscard]] int64_t n_pages() const;
  [[nodiscard]] int64_t pages_begin() const;

  ByteSource source_;
  SnapshotFormat format_;
  SnapshotHead head_;
};

/// The size of the file.
[[nodiscard]] Result<int64_t> write_snapshot(const std::string& path, const SnapshotFormat& format,
                                             const Snapshot& snapshot);

/// How names of files that are still being written end.
inline constexpr std::string_view kPartialSuffix = ".partial";

}  // namespace packmule::cache
