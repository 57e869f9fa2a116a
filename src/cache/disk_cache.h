// Checkpoints in a folder of the disk: what memory had no room for, and what a server that was stopped left.
//
// A file holds one checkpoint and the KV pages that no other file has yet (snapshot_file.h); the others it
// names by nothing but its tokens: whichever files hold their beginning. So the files form a tree like that
// in memory, and one that others go on from is never dropped before them. When the folder's limit is reached,
// the least valuable goes first, by the same rule as in memory (prefix_tree.h); how recently a file was used
// is its time of modification, which survives. Files of other models, damaged ones and those of later
// versions are left alone until their room is needed: then they go first. One process at a time may use a
// folder.
//
// Errors never get further than a line of the log: without its disk a server is slower, not broken.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cache/snapshot.h"
#include "cache/snapshot_file.h"

namespace packmule::cache {

/// All may be called from several threads; none waits for another's reading or writing.
class DiskCache {
 public:
  struct Options {
    std::string folder;  // made if need be, for its owner only
    int64_t limit_bytes = 0;
    SnapshotFormat format;
    std::function<void(const std::string& line)> log;  // may be unset
  };
  struct Statistics {
    int64_t entries = 0;
    int64_t bytes = 0;  // of all files in the folder that are its own
    int64_t limit_bytes = 0;
    int64_t hits = 0;
    int64_t hit_tokens = 0;  // that were read from files instead of being computed
    int64_t read_bytes = 0;
    int64_t written_entries = 0;
    int64_t written_bytes = 0;
    int64_t lost_entries = 0;  // that could not be written: no room, an error, or the disk was too slow
  };
  using Ticket = int64_t;

  /// Looks through the folder. An error when it cannot be used at all.
  static Result<std::unique_ptr<DiskCache>> open(Options options);
  ~DiskCache();

  // ---- writing: reserve, then store or cancel ----
  struct Reserved {
    Ticket ticket = 0;
    int64_t first_page = 0;  // pages before are on the disk already
  };
  /// Makes room for a checkpoint behind `tokens` that saves `n_saved` of them. None if it is there already
  /// (it then counts as used), or if there is no room. From now on it is found, and others may build on it.
  [[nodiscard]] std::optional<Reserved> reserve(std::span<const int32_t> tokens, bool logits,
                                                int64_t n_saved);
  /// Writes the file. The snapshot begins at the page that was named and has the one checkpoint. False when
  /// that failed: the log says why, once.
  bool store(Ticket ticket, const Snapshot& snapshot);
  void cancel(Ticket ticket);
  /// As cancel(), because of an error, of which the log is told once.
  void lose(Ticket ticket, const std::string& why);

  // ---- reading ----
  struct Found {
    int64_t n_tokens = 0;       // 0: nothing
    std::vector<Ticket> chain;  // the files to be read, the first pages' first
    bool written = true;        // false: a store() is still to come
  };
  /// The longest beginning of `tokens` that has a checkpoint; all of them only if it has logits.
  [[nodiscard]] Found find(std::span<const int32_t> tokens) const;
  /// Reads what was found, pages from `first_page` on. An error when it is there no more, or damaged, which
  /// the log is told; nothing is found there again then.
  [[nodiscard]] Result<Snapshot> load(const Found& found, std::span<const int32_t> tokens,
                                      int64_t first_page);
  /// `n_tokens` of what load() gave need not be computed.
  void count_hit(int64_t n_tokens);

  /// Deletes what stands on the way of these tokens and nothing else builds on.
  void erase(std::span<const int32_t> tokens);

  [[nodiscard]] Statistics statistics() const;
  void count_lost();

 private:
  struct Entry {
    std::string name;             // of the file
    std::vector<int32_t> tokens;  // from that of its first page on
    int64_t first_page = 0;
    std::vector<SnapshotHead::Mark> marks;  // of the checkpoints in it
    int64_t bytes = 0;
    Ticket parent = 0;  // has the pages before; 0: there are none
    std::vector<Ticket> children;
    bool written = false;
    int64_t n_saved = 0;
    int64_t clock = 0, use = 0;  // as in the tree
    [[nodiscard]] int64_t begin() const { return first_page * kPageTokens; }
    [[nodiscard]] int64_t end() const { return begin() + static_cast<int64_t>(tokens.size()); }
    [[nodiscard]] int64_t value() const { return clock + n_saved; }
  };
  /// A file that is of no use here.
  struct Other {
    std::string name;
    int64_t bytes = 0;
  };
  struct Cover {
    Ticket ticket = 0;
    int64_t n_tokens = 0;
  };

  explicit DiskCache(Options options) : options_(std::move(options)) {}
  [[nodiscard]] Status lock_folder();
  void scan();
  void walk(std::span<const int32_t> tokens,
            const std::function<void(Ticket, const Entry&, int64_t reach)>& visit) const;
  [[nodiscard]] Cover cover(std::span<const int32_t> tokens) const;
  Ticket add(Entry entry, std::span<const int32_t> tokens);
  [[nodiscard]] bool make_room(int64_t bytes, Ticket keep);
  void remove(Ticket ticket, bool delete_file);
  void remove_with_children(Ticket ticket, bool delete_file);
  void use(Entry& entry);
  void log(const std::string& line) const;
  void drop_lost(Ticket ticket, const std::string& why);
  [[nodiscard]] std::string path_of(const std::string& name) const;

  const Options options_;
  int lock_ = -1;  // a descriptor
  mutable std::mutex mutex_;
  std::map<Ticket, Entry> entries_;
  std::vector<Ticket> roots_;
  std::vector<Other> others_;  // the oldest last
  int64_t bytes_ = 0;
  int64_t n_uses_ = 0;
  int64_t clock_ = 0;
  Ticket last_ticket_ = 0;
  bool failing_ = false;  // and the log was told
  Statistics counts_;
};

}  // namespace packmule::cache
