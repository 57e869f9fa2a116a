// Who computes what next: the one thread that uses the model.
//
// Each step sends one batch through the model: the last token of every request that is decoding, and slices
// of the prompts. While others decode, prompts together get a bounded number of tokens a step; else whole
// ubatches. KV pages come from one pool. When it has no free page, what is kept for later prompts is dropped,
// the least valuable first; when that is not enough, the youngest request loses its place, waits at the head
// of the queue, and later reads its own answer again: same bits, same tokens.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "cache/prefix_tree.h"
#include "cache/sequence.h"
#include "engine/disk_tier.h"
#include "engine/generation.h"
#include "engine/options.h"
#include "engine/slicing.h"
#include "engine/state.h"
#include "model/model.h"

namespace packmule::engine {

class Scheduler {
 public:
  /// The model, and the threads it uses, belong to the scheduler as long as it lives. `model_hash` tells it
  /// from other models on the disk.
  static Result<std::unique_ptr<Scheduler>> start(model::Model& model, ThreadPool& threads,
                                                  const EngineOptions& options, int64_t cache_ram_bytes,
                                                  uint64_t model_hash);
  /// Ends what runs and what waits as cancelled, then brings what is kept to the disk, if there is one.
  ~Scheduler();

  /// From any thread. The generation's caller is told of everything else by its delivery.
  void submit(std::shared_ptr<Generation> generation);
  [[nodiscard]] State state() const;

  // The last conversation of a slot; see Engine. From any thread; they wait until the slot is free.
  [[nodiscard]] Result<cache::Snapshot> copy_slot(int slot, const std::stop_token& stop);
  [[nodiscard]] Status fill_slot(int slot, std::shared_ptr<const cache::Snapshot> snapshot,
                                 const std::stop_token& stop);
  /// The number of tokens that are kept no more.
  [[nodiscard]] Result<int64_t> erase_slot(int slot, const std::stop_token& stop);
  /// What snapshots must be like.
  [[nodiscard]] const cache::SnapshotFormat& snapshot_format() const { return snapshot_format_; }

 private:
  struct Slot {
    int id = 0;
    std::unique_ptr<cache::Sequence> sequence;
    std::shared_ptr<Generation> generation;  // null: free
    int64_t task = -1;
    int64_t order = 0;      // the younger, the larger
    bool decoding = false;  // one token a step; else `reading`
    Reading reading;
    std::vector<int64_t> checkpoints;  // where they are wanted in this prompt, ascending
    int64_t kept_at = 0;               // tokens behind which the tree has a checkpoint of this sequence
    int64_t served = 0;
    std::vector<int32_t> last_tokens;  // that it held when its last request ended
    // Of the step at hand.
    int64_t slice_end = 0;
    std::vector<model::Mark> marks;
    std::vector<std::unique_ptr<cache::RecurrentState>> states;  // of the marks that have one, in order

    [[nodiscard]] bool busy() const { return generation != nullptr; }
    [[nodiscard]] int64_t n_tokens() const { return sequence->n_tokens(); }
  };

  /// A request that has no slot yet.
  struct Waiting {
    std::shared_ptr<Generation> generation;
    std::shared_ptr<Arrival> arrival = nullptr;  // from the disk, which it waits for
    bool asked_disk = false;
  };

  Scheduler(model::Model& model, ThreadPool& threads, const EngineOptions& options,
            std::shared_ptr<cache::PagePool> pages, int64_t checkpoint_bytes, uint64_t model_hash);

  Status open_disk();
  /// Runs the function on the scheduler's thread, between steps, until it returns true. False when the
  /// scheduler ends before.
  bool run_between_steps(std::function<bool()> part);
  void post(std::function<bool()> part, std::function<void(bool ran)> after);
  void run_errands();
  template <class T>
  [[nodiscard]] Result<T> with_free_slot(int slot, const std::stop_token& stop,
                                         std::function<std::optional<Result<T>>(Slot&)> part);
  void work(const std::stop_token& stop);
  [[nodiscard]] bool wait_for_work(const std::stop_token& stop);
  void drop_ended_from_outside();
  void admit();
  [[nodiscard]] std::shared_ptr<Generation> next_in_line(size_t& at);
  [[nodiscard]] bool must_wait(Waiting& waiting);
  [[nodiscard]] bool is_being_read(std::span<const int32_t> prompt) const;
  [[nodiscard]] bool place(Slot& slot, const std::shared_ptr<Generation>& generation);
  void step();
  void make_room_for_decoding();
  void plan();
  void plan_marks(Slot& slot);
  [[nodiscard]] Result<std::span<const float>> forward(Slot* alone);
  void finish_slices(std::span<const float> logits);
  void draw();
  void keep(Slot& slot);
  void leave(Slot& slot);
  void end(Slot& slot);
  void retire(Slot& slot);
  [[nodiscard]] Slot* youngest();
  [[nodiscard]] int64_t n_busy() const;
  void publish();

  model::Model& model_;
  ThreadPool& threads_;
  const EngineOptions options_;
  std::shared_ptr<cache::PagePool> pages_;
  cache::PrefixTree tree_;
  std::vector<Slot> slots_;
  Cutting cutting_;
  size_t most_checkpoints_;  // of one prompt
  int64_t n_placed_ = 0;
  int64_t n_steps_ = 0;
  bool no_room_ = false;  // for the head of the queue, until somebody leaves

  // The step at hand.
  std::vector<Slot*> in_batch_;
  std::vector<model::Slice> batch_;
  struct Draw {
    Slot* slot;
    std::span<const float> logits;
    int64_t n_before;  // tokens it had generated
    bool ended = false;
  };
  std::vector<Draw> draws_;
  std::vector<float> kept_logits_;
  std::vector<std::shared_ptr<Generation>> ended_;  // whose callers are not told yet

  mutable std::mutex mutex_;
  std::condition_variable_any filled_;
  std::deque<Waiting>
      waiting_;        // guarded by mutex_; only submit() adds to it from another thread, at its end
  State state_;        // guarded by mutex_
  bool news_ = false;  // guarded by mutex_: a request or an errand since the last step
  struct Errand {
    std::function<bool()> part;
    std::function<void(bool ran)> after;
  };
  std::vector<Errand> new_errands_;  // guarded by mutex_
  bool closed_ = false;              // guarded by mutex_: no more errands are run
  std::vector<Errand> errands_;
  Totals totals_;
  const cache::SnapshotFormat snapshot_format_;
  std::unique_ptr<DiskTier> disk_;  // may be null
  std::jthread thread_;             // last: the others must exist as long as it runs
};

}  // namespace packmule::engine
