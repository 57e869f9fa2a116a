#include "cache/snapshot_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "base/checksum.h"

namespace packmule::cache {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");

constexpr char kMagic[8] = {'P', 'M', 'K', 'V', 'S', 'N', 'A', 'P'};

struct SnapshotHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t model;
  uint64_t layout;
  uint64_t n_tokens;
  uint64_t first_page;
  uint64_t n_checkpoints;
  uint64_t checksum;  // of what is before
};
static_assert(sizeof(SnapshotHeader) == 64);

struct MarkRecord {
  uint64_t n_tokens;
  uint64_t n_logits;
};

/// More could not be told apart by anybody.
constexpr uint64_t kMostCheckpoints = 4096;
constexpr int64_t kSumBytes = sizeof(uint64_t);

std::span<const std::byte> bytes_of(const auto& value) {
  return std::as_bytes(std::span(&value, 1));
}

uint64_t header_sum(const SnapshotHeader& header) {
  return checksum(bytes_of(header).first(offsetof(SnapshotHeader, checksum)));
}

int64_t head_bytes(int64_t n_tokens, int64_t n_checkpoints) {
  return static_cast<int64_t>(sizeof(SnapshotHeader)) + n_tokens * static_cast<int64_t>(sizeof(int32_t)) +
         n_checkpoints * static_cast<int64_t>(sizeof(MarkRecord)) + kSumBytes;
}

int64_t checkpoint_bytes(const SnapshotFormat& format, bool logits) {
  return format.state_bytes + (logits ? format.n_vocab * static_cast<int64_t>(sizeof(float)) : 0) + kSumBytes;
}

tl::unexpected<Error> damaged(const std::string& name, std::string_view what) {
  return fail(ErrorKind::kInvalidFile, "{}: damaged: {}; delete it", name, what);
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int number() const { return number_; }
  /// False when the system could not write all of it after all.
  [[nodiscard]] bool finish() {
    const bool good = fsync(number_) == 0;
    return (close(std::exchange(number_, -1)) == 0) && good;
  }

 private:
  int number_;
};

/// Collects small parts, so that each does not cost a call of the system.
class Output {
 public:
  explicit Output(int file) : file_(file) { buffer_.reserve(kRoom); }
  void put(std::span<const std::byte> bytes) {
    n_bytes_ += static_cast<int64_t>(bytes.size());
    if (buffer_.size() + bytes.size() > kRoom) flush();
    if (bytes.size() >= kRoom)
      send(bytes);
    else
      buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  void flush() {
    send(buffer_);
    buffer_.clear();
  }
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] int64_t n_bytes() const { return n_bytes_; }

 private:
  static constexpr size_t kRoom = size_t{1} << 20;
  void send(std::span<const std::byte> bytes) {
    while (error_ == 0 && !bytes.empty()) {
      const ssize_t n = ::write(file_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0)
        error_ = n < 0 ? errno : EIO;
      else
        bytes = bytes.subspan(static_cast<size_t>(n));
    }
  }
  int file_;
  int error_ = 0;
  int64_t n_bytes_ = 0;
  std::vector<std::byte> buffer_;
};

void put_all(Output& out, const SnapshotFormat& format, const Snapshot& snapshot) {
  SnapshotHeader header{.magic = {},
                        .version = kSnapshotVersion,
                        .header_bytes = sizeof(SnapshotHeader),
                        .model = format.model,
                        .layout = format.layout,
                        .n_tokens = snapshot.tokens.size(),
                        .first_page = static_cast<uint64_t>(snapshot.first_page),
                        .n_checkpoints = snapshot.checkpoints.size(),
                        .checksum = 0};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.checksum = header_sum(header);
  std::vector<MarkRecord> marks;
  for (const Snapshot::Checkpoint& checkpoint : snapshot.checkpoints)
    marks.push_back({static_cast<uint64_t>(checkpoint.n_tokens), checkpoint.logits.size()});
  uint64_t sum = checksum(bytes_of(header));
  sum = checksum_of(std::span<const int32_t>(snapshot.tokens), sum);
  sum = checksum_of(std::span<const MarkRecord>(marks), sum);
  out.put(bytes_of(header));
  out.put(std::as_bytes(std::span(snapshot.tokens)));
  out.put(std::as_bytes(std::span(marks)));
  out.put(bytes_of(sum));
  for (int64_t i = 0; i < snapshot.n_pages(); ++i) {
    const std::span<const std::byte> page{snapshot.pages.data() + i * format.page_bytes,
                                          static_cast<size_t>(format.page_bytes)};
    sum = checksum(page);
    out.put(page);
    out.put(bytes_of(sum));
  }
  for (const Snapshot::Checkpoint& checkpoint : snapshot.checkpoints) {
    const std::span<const std::byte> state(checkpoint.state.data(), checkpoint.state.size_bytes());
    sum = checksum_of(std::span<const float>(checkpoint.logits), checksum(state));
    out.put(state);
    out.put(std::as_bytes(std::span(checkpoint.logits)));
    out.put(bytes_of(sum));
  }
  out.flush();
}

}  // namespace

int64_t SnapshotHead::file_bytes(const SnapshotFormat& format) const {
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  int64_t bytes = head_bytes(n_tokens, static_cast<int64_t>(checkpoints.size()));
  bytes += ((n_tokens + kPageTokens - 1) / kPageTokens - first_page) * (format.page_bytes + kSumBytes);
  for (const Mark& mark : checkpoints) bytes += checkpoint_bytes(format, mark.logits);
  return bytes;
}

Result<ByteSource> open_source(const std::string& path) {
  const auto file =
      std::make_shared<Descriptor>(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (file->number() < 0 || fstat(file->number(), &status) != 0)
    return fail(ErrorKind::kIo, "cannot read {}: {}", path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return fail(ErrorKind::kIo, "cannot read {}: it is not a regular file", path);
  return ByteSource{.name = path,
                    .size_bytes = static_cast<uint64_t>(status.st_size),
                    .read = [file, path](uint64_t offset, std::span<std::byte> to) -> Status {
                      while (!to.empty()) {
                        const ssize_t n =
                            pread(file->number(), to.data(), to.size(), static_cast<off_t>(offset));
                        if (n < 0 && errno == EINTR) continue;
                        if (n <= 0)
                          return fail(ErrorKind::kIo, "cannot read {}: {}", path,
                                      n < 0 ? std::strerror(errno) : "it has become shorter");
                        to = to.subspan(static_cast<size_t>(n));
                        offset += static_cast<uint64_t>(n);
                      }
                      return {};
                    }};
}

Result<SnapshotReader> SnapshotReader::open(ByteSource source, const SnapshotFormat& format) {
  SnapshotReader reader(std::move(source), format);
  PACKMULE_TRY_STATUS(reader.read_head());
  return reader;
}

Status SnapshotReader::read_head() {
  const std::string& name = source_.name;
  SnapshotHeader header{};
  if (source_.size_bytes < sizeof header)
    return fail(ErrorKind::kInvalidFile, "{}: no snapshot of a conversation: it has {} bytes, expected more",
                name, source_.size_bytes);
  PACKMULE_TRY_STATUS(source_.read(0, std::as_writable_bytes(std::span(&header, 1))));
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    return fail(ErrorKind::kInvalidFile, "{}: no snapshot of a conversation: it does not begin with PMKVSNAP",
                name);
  if (header.version != kSnapshotVersion)
    return fail(ErrorKind::kUnsupported, "{}: written in version {} of the format, this program reads {}",
                name, header.version, kSnapshotVersion);
  if (header.header_bytes != sizeof header || header.checksum != header_sum(header))
    return damaged(name, "its header does not fit its checksum");
  if (header.model != format_.model)
    return fail(ErrorKind::kUnsupported, "{}: made with another model", name);
  if (header.layout != format_.layout)
    return fail(ErrorKind::kUnsupported,
                "{}: made with other types of the KV cache; start the server with the -ctk and -ctv of then",
                name);
  if (header.n_tokens > static_cast<uint64_t>(format_.max_tokens))
    return fail(ErrorKind::kUnsupported, "{}: it has {} tokens, the context only {}; raise --ctx-size", name,
                header.n_tokens, format_.max_tokens);
  const auto n_tokens = static_cast<int64_t>(header.n_tokens);
  const int64_t n_all_pages = (n_tokens + kPageTokens - 1) / kPageTokens;
  if (n_tokens == 0 || header.first_page > static_cast<uint64_t>(n_all_pages) || header.n_checkpoints == 0 ||
      header.n_checkpoints > kMostCheckpoints)
    return damaged(name, "its header has impossible counts");
  const auto n_checkpoints = static_cast<int64_t>(header.n_checkpoints);
  const int64_t end = head_bytes(n_tokens, n_checkpoints);
  if (source_.size_bytes < static_cast<uint64_t>(end)) return damaged(name, "it ends inside its head");

  head_.first_page = static_cast<int64_t>(header.first_page);
  head_.tokens.resize(static_cast<size_t>(n_tokens));
  std::vector<MarkRecord> marks(static_cast<size_t>(n_checkpoints));
  uint64_t offset = sizeof header, sum = 0;
  const auto next = [&](std::span<std::byte> to) {
    const Status status = source_.read(offset, to);
    offset += to.size();
    return status;
  };
  PACKMULE_TRY_STATUS(next(std::as_writable_bytes(std::span(head_.tokens))));
  PACKMULE_TRY_STATUS(next(std::as_writable_bytes(std::span(marks))));
  PACKMULE_TRY_STATUS(next(std::as_writable_bytes(std::span(&sum, 1))));
  const uint64_t of_tokens = checksum_of(std::span<const int32_t>(head_.tokens), checksum(bytes_of(header)));
  if (sum != checksum_of(std::span<const MarkRecord>(marks), of_tokens))
    return damaged(name, "its tokens do not fit their checksum");
  // A sum says that the bytes are those that were written, not that they make sense.
  for (const int32_t token : head_.tokens)
    if (token < 0 || token >= format_.n_vocab)
      return damaged(name, "it has tokens that the model does not have");
  int64_t before = head_.first_page * kPageTokens - 1;
  for (const MarkRecord& mark : marks) {
    if (mark.n_tokens > header.n_tokens ||
        static_cast<int64_t>(mark.n_tokens) <= std::max<int64_t>(before, 0) ||
        (mark.n_logits != 0 && mark.n_logits != static_cast<uint64_t>(format_.n_vocab)))
      return damaged(name, "its checkpoints are not in order");
    before = static_cast<int64_t>(mark.n_tokens);
    head_.checkpoints.push_back({.n_tokens = before, .logits = mark.n_logits != 0});
  }
  if (source_.size_bytes != static_cast<uint64_t>(head_.file_bytes(format_)))
    return damaged(
        name, fmt::format("it has {} bytes, expected {}", source_.size_bytes, head_.file_bytes(format_)));
  return {};
}

int64_t SnapshotReader::n_pages() const {
  return (static_cast<int64_t>(head_.tokens.size()) + kPageTokens - 1) / kPageTokens - head_.first_page;
}

int64_t SnapshotReader::pages_begin() const {
  return head_bytes(static_cast<int64_t>(head_.tokens.size()),
                    static_cast<int64_t>(head_.checkpoints.size()));
}

Status SnapshotReader::read_pages(int64_t page, std::span<std::byte> to) const {
  if (format_.page_bytes == 0) return {};
  const auto page_bytes = static_cast<size_t>(format_.page_bytes);
  for (; !to.empty(); to = to.subspan(page_bytes), ++page) {
    const auto at =
        static_cast<uint64_t>(pages_begin() + (page - head_.first_page) * (format_.page_bytes + kSumBytes));
    uint64_t sum = 0;
    PACKMULE_TRY_STATUS(source_.read(at, to.first(page_bytes)));
    PACKMULE_TRY_STATUS(source_.read(at + page_bytes, std::as_writable_bytes(std::span(&sum, 1))));
    if (sum != checksum(to.first(page_bytes)))
      return damaged(source_.name, fmt::format("page {} does not fit its checksum", page));
  }
  return {};
}

Result<Snapshot::Checkpoint> SnapshotReader::read_checkpoint(size_t index) const {
  auto at = static_cast<uint64_t>(pages_begin() + n_pages() * (format_.page_bytes + kSumBytes));
  for (size_t i = 0; i < index; ++i)
    at += static_cast<uint64_t>(checkpoint_bytes(format_, head_.checkpoints[i].logits));
  const SnapshotHead::Mark& mark = head_.checkpoints[index];
  Snapshot::Checkpoint out{.n_tokens = mark.n_tokens};
  const auto state_bytes = static_cast<size_t>(format_.state_bytes);
  PACKMULE_TRY(out.state, AlignedBuffer::allocate(state_bytes, "a recurrent state from a file"));
  if (mark.logits) out.logits.resize(static_cast<size_t>(format_.n_vocab));
  const std::span<std::byte> state(out.state.data(), state_bytes);
  const auto logits = std::as_writable_bytes(std::span(out.logits));
  uint64_t sum = 0;
  PACKMULE_TRY_STATUS(source_.read(at, state));
  PACKMULE_TRY_STATUS(source_.read(at + state.size(), logits));
  PACKMULE_TRY_STATUS(
      source_.read(at + state.size() + logits.size(), std::as_writable_bytes(std::span(&sum, 1))));
  if (sum != checksum(logits, checksum(state)))
    return damaged(source_.name,
                   fmt::format("the checkpoint behind token {} does not fit its checksum", mark.n_tokens));
  return out;
}

Result<Snapshot> SnapshotReader::read_all() const {
  Snapshot out{.tokens = head_.tokens, .first_page = head_.first_page};
  PACKMULE_TRY(out.pages, AlignedBuffer::allocate(static_cast<size_t>(n_pages() * format_.page_bytes),
                                                  "KV pages from a file"));
  PACKMULE_TRY_STATUS(read_pages(head_.first_page, {out.pages.data(), out.pages.size_bytes()}));
  for (size_t i = 0; i < head_.checkpoints.size(); ++i) {
    PACKMULE_TRY(Snapshot::Checkpoint checkpoint, read_checkpoint(i));
    out.checkpoints.push_back(std::move(checkpoint));
  }
  return out;
}

Result<int64_t> write_snapshot(const std::string& path, const SnapshotFormat& format,
                               const Snapshot& snapshot) {
  const std::string partial = fmt::format("{}.{}{}", path, getpid(), kPartialSuffix);
  const auto failed = [&](int error) {
    unlink(partial.c_str());
    return fail(ErrorKind::kIo, "cannot write {}: {}", path, std::strerror(error));
  };
  unlink(partial.c_str());  // of a process of the same number that did not get further
  Descriptor file(open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (file.number() < 0) return failed(errno);
  Output out(file.number());
  put_all(out, format, snapshot);
  if (out.error() != 0) return failed(out.error());
  if (!file.finish()) return failed(errno);
  if (rename(partial.c_str(), path.c_str()) != 0) return failed(errno);
  // The new name is on the disk when its folder is.
  const Descriptor folder(
      open(std::filesystem::path(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.number() >= 0) (void)fsync(folder.number());
  return out.n_bytes();
}

}  // namespace packmule::cache
