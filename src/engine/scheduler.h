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
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "cache/prefix_tree.h"
#include "cache/sequence.h"
#include "engine/generation.h"
#include "engine/options.h"
#include "engine/slicing.h"
#include "engine/state.h"
#include "model/model.h"

namespace packmule::engine {

class Scheduler {
 public:
  /// The model, and the threads it uses, belong to the scheduler as long as it lives.
  static Result<std::unique_ptr<Scheduler>> start(model::Model& model, ThreadPool& threads,
                                                  const EngineOptions& options, int64_t cache_ram_bytes);
  /// Ends what runs and what waits as cancelled.
  ~Scheduler();

  /// From any thread. The generation's caller is told of everything else by its delivery.
  void submit(std::shared_ptr<Generation> generation);
  [[nodiscard]] State state() const;

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
    // Of the step at hand.
    int64_t slice_end = 0;
    std::vector<model::Mark> marks;
    std::vector<std::unique_ptr<cache::RecurrentState>> states;  // of the marks that have one, in order

    [[nodiscard]] bool busy() const { return generation != nullptr; }
    [[nodiscard]] int64_t n_tokens() const { return sequence->n_tokens(); }
  };

  Scheduler(model::Model& model, ThreadPool& threads, const EngineOptions& options,
            std::shared_ptr<cache::PagePool> pages, int64_t checkpoint_bytes);

  void work(const std::stop_token& stop);
  [[nodiscard]] bool wait_for_work(const std::stop_token& stop);
  void drop_cancelled();
  void admit();
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
  std::deque<std::shared_ptr<Generation>> waiting_;  // guarded by mutex_
  State state_;                                      // guarded by mutex_
  Totals totals_;
  std::jthread thread_;  // last: the others must exist as long as it runs
};

}  // namespace packmule::engine
