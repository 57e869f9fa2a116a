// Who gets a free slot: the first in line that has nothing better to wait for.
//
// Two things are worth waiting for. A prompt that another slot is reading right now leaves checkpoints behind
// its messages: whoever begins alike goes on from there, instead of reading the same beside it. And what the
// disk has is read by another thread while others go on. Who waits keeps the place in the line, and lets
// others pass.
#include <algorithm>

#include "engine/scheduler.h"

namespace packmule::engine {
namespace {

/// Computing fewer tokens is no reason to wait.
constexpr int64_t kWorthWaiting = 16;

int64_t common(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto n = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin();
}

std::span<const int32_t> prompt_of(const Generation& generation) {
  return generation.tokens().first(static_cast<size_t>(generation.n_prompt()));
}

}  // namespace

void Scheduler::admit() {
  size_t at = 0;
  while (!no_room_ || n_busy() == 0) {
    const auto slot = std::find_if(slots_.begin(), slots_.end(), [](const Slot& s) { return !s.busy(); });
    if (slot == slots_.end()) return;
    const std::shared_ptr<Generation> generation = next_in_line(at);
    if (generation == nullptr) return;
    if (!place(*slot, generation)) {
      no_room_ = true;
      return;
    }
    const std::lock_guard lock(mutex_);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

/// From position `at` of the queue on, which becomes that of the one that is found; null if there is none.
std::shared_ptr<Generation> Scheduler::next_in_line(size_t& at) {
  for (;; ++at) {
    Waiting* candidate = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (at >= waiting_.size()) return nullptr;
      candidate = &waiting_[at];  // a deque's elements stay where they are when others come behind them
    }
    if (!must_wait(*candidate)) return candidate->generation;
  }
}

bool Scheduler::must_wait(Waiting& waiting) {
  if (waiting.arrival != nullptr && !waiting.arrival->over()) return true;
  waiting.arrival = nullptr;
  const std::span<const int32_t> prompt = prompt_of(*waiting.generation);
  if (is_being_read(prompt)) return true;
  if (disk_ == nullptr || waiting.asked_disk) return false;
  waiting.asked_disk = true;
  waiting.arrival = disk_->fetch(prompt, tree_);
  return waiting.arrival != nullptr;
}

/// A slot will leave a checkpoint behind tokens that this prompt begins with, further on than any that is
/// there. When the slot's request is cancelled, this ends too: what it has read is kept.
bool Scheduler::is_being_read(std::span<const int32_t> prompt) const {
  if (tree_.budget_bytes() <= 0) return false;
  const auto n_prompt = static_cast<int64_t>(prompt.size());
  int64_t promised = 0;
  for (const Slot& slot : slots_) {
    if (!slot.busy() || slot.decoding) continue;
    const int64_t n_alike = common(prompt, prompt_of(*slot.generation));
    for (const int64_t at : slot.checkpoints)
      if (at > slot.reading.position && at <= n_alike && (at < n_prompt || at == slot.reading.n_prompt))
        promised = std::max(promised, at);
  }
  return promised > 0 && promised - tree_.find(prompt) >= kWorthWaiting;
}

}  // namespace packmule::engine
