#include "cache/disk_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/checksum.h"

namespace packmule::cache {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".kv";

std::string file_name(const SnapshotFormat& format, std::span<const int32_t> tokens, bool logits) {
  const uint64_t model[] = {format.model, format.layout};
  return fmt::format("{:016x}-{:016x}{}", checksum_of(std::span<const uint64_t>(model)),
                     checksum_of(tokens, logits ? 1 : 0), kSuffix);
}

/// Begins like what file_name() gives.
bool is_own_name(std::string_view name) {
  constexpr size_t kDigits = 16, kStem = 2 * kDigits + 1;
  if (name.size() < kStem + kSuffix.size() || name[kDigits] != '-') return false;
  for (size_t i = 0; i < kStem; ++i)
    if (i != kDigits && std::string_view("0123456789abcdef").find(name[i]) == std::string_view::npos)
      return false;
  return name.substr(kStem).starts_with(kSuffix);
}

int64_t common(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t n = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n), b.begin()).first - a.begin();
}

}  // namespace

Result<std::unique_ptr<DiskCache>> DiskCache::open(Options options) {
  std::unique_ptr<DiskCache> cache(new DiskCache(std::move(options)));
  PACKMULE_TRY_STATUS(cache->lock_folder());
  cache->scan();
  return cache;
}

DiskCache::~DiskCache() {
  if (lock_ >= 0) close(lock_);
}

Status DiskCache::lock_folder() {
  const std::string& folder = options_.folder;
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    const fs::path parent = fs::path(folder).parent_path();
    if (!parent.empty()) fs::create_directories(parent, error);
    if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
      return fail(ErrorKind::kIo, "cannot make the folder {}: {}", folder, std::strerror(errno));
  }
  lock_ = ::open(path_of(".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_ < 0) return fail(ErrorKind::kIo, "cannot write in {}: {}", folder, std::strerror(errno));
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0)
    return fail(ErrorKind::kIo, "{} is in use by another process; give each its own folder", folder);
  return {};
}

/// What a server before this one left.
void DiskCache::scan() {
  struct File {
    std::string name;
    fs::file_time_type time;
    int64_t bytes = 0;
  };
  std::vector<File> files;
  std::error_code error;
  for (fs::directory_iterator it(options_.folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename();
    if (!is_own_name(name)) continue;
    if (name.ends_with(kPartialSuffix)) {
      std::error_code ignored;  // whoever was writing it is gone: the folder is locked
      fs::remove(it->path(), ignored);
      continue;
    }
    std::error_code no_size, no_time;
    File file{.name = name, .time = it->last_write_time(no_time)};
    file.bytes = static_cast<int64_t>(it->file_size(no_size));
    if (!no_size && !no_time && name.ends_with(kSuffix)) files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.time < b.time; });

  int64_t n_foreign = 0, n_orphans = 0;
  const auto leave_alone = [&](const File& file) {
    others_.insert(others_.begin(), {file.name, file.bytes});
  };
  std::vector<std::pair<File*, SnapshotHead>> usable;
  for (File& file : files) {
    bytes_ += file.bytes;
    auto source = open_source(path_of(file.name));
    auto reader = source ? SnapshotReader::open(std::move(*source), options_.format)
                         : tl::unexpected(std::move(source).error());
    if (reader) {
      usable.emplace_back(&file, reader->head());
      continue;
    }
    leave_alone(file);
    if (reader.error().kind == ErrorKind::kUnsupported)
      ++n_foreign;
    else
      log(reader.error().message);
  }
  // Those that hold the first pages come first, so that the others find them.
  std::vector<size_t> order(usable.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return usable[a].second.first_page < usable[b].second.first_page;
  });
  for (const size_t i : order) {
    const auto& [file, head] = usable[i];
    const std::span<const int32_t> tokens(head.tokens);
    const Cover have = cover(tokens);
    if (have.n_tokens / kPageTokens < head.first_page) {
      ++n_orphans;
      leave_alone(*file);
      continue;
    }
    const auto begin = static_cast<size_t>(head.first_page * kPageTokens);
    const int64_t n_end = head.checkpoints.back().n_tokens;
    Entry entry{.name = file->name,
                .tokens = {tokens.begin() + static_cast<std::ptrdiff_t>(std::min(begin, tokens.size())),
                           tokens.end()},
                .first_page = head.first_page,
                .marks = head.checkpoints,
                .bytes = file->bytes,
                .written = true,
                .n_saved = n_end,
                .use = static_cast<int64_t>(i)};
    // Not from the one before it in the conversation, but from the one before it on the disk.
    walk(tokens, [&](Ticket, const Entry& other, int64_t reach) {
      for (const SnapshotHead::Mark& mark : other.marks)
        if (mark.n_tokens <= reach && mark.n_tokens < n_end)
          entry.n_saved = std::min(entry.n_saved, n_end - mark.n_tokens);
    });
    add(std::move(entry), tokens);
  }
  n_uses_ = static_cast<int64_t>(usable.size());
  if (n_foreign + n_orphans > 0)
    log(fmt::format(
        "{}: {} files of another model, other cache types, a larger context or another version, and {} "
        "whose beginning is missing, are left alone",
        options_.folder, n_foreign, n_orphans));
  const std::lock_guard lock(mutex_);
  if (bytes_ > options_.limit_bytes) (void)make_room(0, 0);
}

void DiskCache::walk(std::span<const int32_t> tokens,
                     const std::function<void(Ticket, const Entry&, int64_t)>& visit) const {
  std::vector<Ticket> open = roots_;
  while (!open.empty()) {
    const Ticket ticket = open.back();
    open.pop_back();
    const Entry& entry = entries_.at(ticket);
    const auto begin = static_cast<size_t>(entry.begin());
    if (begin > tokens.size()) continue;
    const int64_t reach = entry.begin() + common(entry.tokens, tokens.subspan(begin));
    visit(ticket, entry, reach);
    for (const Ticket child : entry.children)
      if (entries_.at(child).begin() <= reach) open.push_back(child);
  }
}

/// Whose file, with those before it, holds most of these tokens' K and V.
DiskCache::Cover DiskCache::cover(std::span<const int32_t> tokens) const {
  Cover best;
  walk(tokens, [&](Ticket ticket, const Entry&, int64_t reach) {
    if (reach > best.n_tokens) best = {ticket, reach};
  });
  return best;
}

/// Under the entry that has the pages before its own.
DiskCache::Ticket DiskCache::add(Entry entry, std::span<const int32_t> tokens) {
  const Ticket ticket = ++last_ticket_;
  if (entry.first_page > 0) {
    Ticket parent = cover(tokens).ticket;
    while (entries_.at(parent).first_page >= entry.first_page) parent = entries_.at(parent).parent;
    entry.parent = parent;
  }
  (entry.parent == 0 ? roots_ : entries_.at(entry.parent).children).push_back(ticket);
  entries_.emplace(ticket, std::move(entry));
  return ticket;
}

bool DiskCache::make_room(int64_t bytes, Ticket keep) {
  if (bytes > options_.limit_bytes) return false;
  while (bytes_ + bytes > options_.limit_bytes) {
    if (!others_.empty()) {
      unlink(path_of(others_.back().name).c_str());
      bytes_ -= others_.back().bytes;
      others_.pop_back();
      continue;
    }
    const std::pair<const Ticket, Entry>* least = nullptr;
    for (const auto& one : entries_) {
      if (!one.second.children.empty() || one.first == keep) continue;
      if (least == nullptr ||
          std::pair(one.second.value(), one.second.use) < std::pair(least->second.value(), least->second.use))
        least = &one;
    }
    if (least == nullptr) return false;
    clock_ = std::max(clock_, least->second.value());
    remove(least->first, true);
  }
  return true;
}

/// Nothing builds on it.
void DiskCache::remove(Ticket ticket, bool delete_file) {
  const Entry& entry = entries_.at(ticket);
  auto& siblings = entry.parent == 0 ? roots_ : entries_.at(entry.parent).children;
  std::erase(siblings, ticket);
  if (delete_file) {
    bytes_ -= entry.bytes;
    if (entry.written) unlink(path_of(entry.name).c_str());
  } else {
    others_.insert(others_.begin(), {entry.name, entry.bytes});
  }
  entries_.erase(ticket);
}

void DiskCache::remove_with_children(Ticket ticket, bool delete_file) {
  const std::vector<Ticket> children = entries_.at(ticket).children;
  for (const Ticket child : children) remove_with_children(child, delete_file);
  remove(ticket, delete_file);
}

void DiskCache::use(Entry& entry) {
  entry.clock = clock_;
  entry.use = n_uses_++;
  if (entry.written) utimensat(AT_FDCWD, path_of(entry.name).c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

std::optional<DiskCache::Reserved> DiskCache::reserve(std::span<const int32_t> tokens, bool logits,
                                                      int64_t n_saved) {
  const std::lock_guard lock(mutex_);
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  Ticket same = 0;
  walk(tokens, [&](Ticket ticket, const Entry& entry, int64_t reach) {
    for (const SnapshotHead::Mark& mark : entry.marks)
      if (mark.n_tokens == n_tokens && reach >= n_tokens && (mark.logits || !logits)) same = ticket;
  });
  if (same != 0) {
    use(entries_.at(same));
    return std::nullopt;
  }
  const Cover have = cover(tokens);
  SnapshotHead head{.tokens = {tokens.begin(), tokens.end()},
                    .first_page = std::min(have.n_tokens, n_tokens) / kPageTokens,
                    .checkpoints = {{.n_tokens = n_tokens, .logits = logits}}};
  const int64_t bytes = head.file_bytes(options_.format);
  if (!make_room(bytes, have.ticket)) {
    ++counts_.lost_entries;
    return std::nullopt;
  }
  Entry entry{
      .name = file_name(options_.format, tokens, logits),
      .tokens = {tokens.begin() + static_cast<std::ptrdiff_t>(head.first_page * kPageTokens), tokens.end()},
      .first_page = head.first_page,
      .marks = head.checkpoints,
      .bytes = bytes,
      .n_saved = n_saved};
  std::erase_if(others_, [&](const Other& other) {
    if (other.name != entry.name) return false;
    bytes_ -= other.bytes;
    return true;
  });
  entry.clock = clock_;
  entry.use = n_uses_++;
  bytes_ += bytes;
  return Reserved{.ticket = add(std::move(entry), tokens), .first_page = head.first_page};
}

bool DiskCache::store(Ticket ticket, const Snapshot& snapshot) {
  std::string name;
  {
    const std::lock_guard lock(mutex_);
    const auto it = entries_.find(ticket);
    if (it == entries_.end()) return true;  // its room was needed meanwhile
    name = it->second.name;
  }
  const auto written = write_snapshot(path_of(name), options_.format, snapshot);
  const std::lock_guard lock(mutex_);
  const auto it = entries_.find(ticket);
  if (it == entries_.end()) {
    if (written) unlink(path_of(name).c_str());
    return true;
  }
  if (!written) {
    drop_lost(ticket, written.error().message);
    return false;
  }
  failing_ = false;
  it->second.written = true;
  ++counts_.written_entries;
  counts_.written_bytes += *written;
  return true;
}

void DiskCache::drop_lost(Ticket ticket, const std::string& why) {
  remove_with_children(ticket, true);
  ++counts_.lost_entries;
  if (!failing_) log(fmt::format("{}; conversations that memory has no room for are lost", why));
  failing_ = true;
}

void DiskCache::lose(Ticket ticket, const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (entries_.contains(ticket)) drop_lost(ticket, why);
}

void DiskCache::cancel(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  if (!entries_.contains(ticket)) return;
  remove_with_children(ticket, true);
  ++counts_.lost_entries;
}

DiskCache::Found DiskCache::find(std::span<const int32_t> tokens) const {
  const std::lock_guard lock(mutex_);
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  Found found;
  Ticket last = 0;
  walk(tokens, [&](Ticket ticket, const Entry& entry, int64_t reach) {
    for (const SnapshotHead::Mark& mark : entry.marks) {
      if (mark.n_tokens > reach || mark.n_tokens <= found.n_tokens) continue;
      if (mark.n_tokens == n_tokens && !mark.logits) continue;
      found.n_tokens = mark.n_tokens;
      last = ticket;
    }
  });
  for (Ticket ticket = last; ticket != 0; ticket = entries_.at(ticket).parent) {
    found.chain.insert(found.chain.begin(), ticket);
    found.written = found.written && entries_.at(ticket).written;
  }
  return found;
}

Result<Snapshot> DiskCache::load(const Found& found, std::span<const int32_t> tokens, int64_t first_page) {
  std::vector<std::string> names;
  {
    const std::lock_guard lock(mutex_);
    for (const Ticket ticket : found.chain) {
      const auto it = entries_.find(ticket);
      if (it == entries_.end() || !it->second.written)
        return fail(ErrorKind::kIo, "{}: a file was dropped before it was read", options_.folder);
      names.push_back(it->second.name);
    }
  }
  size_t at = 0;  // of the chain
  const auto read = [&]() -> Result<Snapshot> {
    std::vector<SnapshotReader>
        readers;  // all open before one is read: what is dropped meanwhile stays readable
    for (at = 0; at < names.size(); ++at) {
      PACKMULE_TRY(ByteSource source, open_source(path_of(names[at])));
      PACKMULE_TRY(SnapshotReader reader, SnapshotReader::open(std::move(source), options_.format));
      readers.push_back(std::move(reader));
    }
    const auto wanted = tokens.first(static_cast<size_t>(found.n_tokens));
    Snapshot out{.tokens = {wanted.begin(), wanted.end()}, .first_page = first_page};
    const auto page_bytes = static_cast<size_t>(options_.format.page_bytes);
    PACKMULE_TRY(out.pages, AlignedBuffer::allocate(static_cast<size_t>(out.n_pages()) * page_bytes,
                                                    "KV pages from a file"));
    std::span<std::byte> to(out.pages.data(), out.pages.size_bytes());
    int64_t page = first_page;
    for (at = 0; at < readers.size(); ++at) {
      const SnapshotHead& head = readers[at].head();
      const bool last = at + 1 == readers.size();
      const int64_t end = last ? first_page + out.n_pages() : readers[at + 1].head().first_page;
      const int64_t end_token = last ? found.n_tokens : end * kPageTokens;
      if (common(head.tokens, wanted) < end_token || head.first_page > std::max(page, first_page))
        return fail(ErrorKind::kInvalidFile, "{}: it is another file than before", path_of(names[at]));
      if (end <= page) continue;
      const auto part = to.first(static_cast<size_t>(end - page) * page_bytes);
      PACKMULE_TRY_STATUS(readers[at].read_pages(page, part));
      to = to.subspan(part.size());
      page = end;
    }
    const auto& marks = readers.back().head().checkpoints;
    at = names.size() - 1;
    const auto mark = std::find_if(marks.begin(), marks.end(), [&](const SnapshotHead::Mark& one) {
      return one.n_tokens == found.n_tokens;
    });
    if (mark == marks.end())
      return fail(ErrorKind::kInvalidFile, "{}: it is another file than before", path_of(names[at]));
    PACKMULE_TRY(Snapshot::Checkpoint checkpoint,
                 readers.back().read_checkpoint(static_cast<size_t>(mark - marks.begin())));
    out.checkpoints.push_back(std::move(checkpoint));
    return out;
  };
  auto snapshot = read();
  const std::lock_guard lock(mutex_);
  if (snapshot) {
    counts_.read_bytes += static_cast<int64_t>(snapshot->pages.size_bytes()) + options_.format.state_bytes +
                          static_cast<int64_t>(snapshot->checkpoints[0].logits.size() * sizeof(float));
    for (const Ticket ticket : found.chain)
      if (const auto it = entries_.find(ticket); it != entries_.end()) use(it->second);
  } else if (snapshot.error().kind != ErrorKind::kOutOfMemory) {
    log(snapshot.error().message);
    if (at < names.size() && entries_.contains(found.chain[at])) remove_with_children(found.chain[at], false);
  }
  return snapshot;
}

void DiskCache::count_hit(int64_t n_tokens) {
  const std::lock_guard lock(mutex_);
  ++counts_.hits;
  counts_.hit_tokens += n_tokens;
}

void DiskCache::count_lost() {
  const std::lock_guard lock(mutex_);
  ++counts_.lost_entries;
}

void DiskCache::erase(std::span<const int32_t> tokens) {
  const std::lock_guard lock(mutex_);
  while (true) {
    Ticket victim = 0;
    walk(tokens, [&](Ticket ticket, const Entry& entry, int64_t reach) {
      if (entry.children.empty() && reach == entry.end()) victim = ticket;
    });
    if (victim == 0) return;
    remove(victim, true);
  }
}

DiskCache::Statistics DiskCache::statistics() const {
  const std::lock_guard lock(mutex_);
  Statistics out = counts_;
  out.entries = static_cast<int64_t>(entries_.size());
  out.bytes = bytes_;
  out.limit_bytes = options_.limit_bytes;
  return out;
}

void DiskCache::log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

std::string DiskCache::path_of(const std::string& name) const {
  return (fs::path(options_.folder) / name).string();
}

}  // namespace packmule::cache
