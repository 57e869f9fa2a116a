#include "engine/scheduler.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/boundaries.h"
#include "kernels/kernels.h"
#include "model/delta_net.h"

namespace packmule::engine {
namespace {

using Clock = std::chrono::steady_clock;

/// A prompt with many messages keeps at most this share of all checkpoints.
constexpr int64_t kShareOfAPrompt = 4;
constexpr size_t kLeastCheckpoints = 2, kMostCheckpoints = 256;

size_t most_checkpoints(int64_t budget_bytes, int64_t state_bytes) {
  if (state_bytes <= 0) return kMostCheckpoints;
  return std::clamp(static_cast<size_t>(budget_bytes / state_bytes / kShareOfAPrompt), kLeastCheckpoints,
                    kMostCheckpoints);
}

}  // namespace

Result<std::unique_ptr<Scheduler>> Scheduler::start(model::Model& model, ThreadPool& threads,
                                                    const EngineOptions& options, int64_t cache_ram_bytes,
                                                    uint64_t model_hash) {
  const cache::Layout layout = model.cache_layout();
  const int64_t page_bytes = std::max<int64_t>(1, layout.kv_bytes_per_token() * cache::kPageTokens);
  // Half for pages beyond those of the context, at most as many as could be told apart; half for states. A
  // device's memory was given to the context alone: there, pages that no request needs are what past ones
  // keep.
  constexpr int64_t kMostPages = 1 << 16;
  const int64_t more_pages =
      layout.has_device_attention() ? 0 : std::min(cache_ram_bytes / 2 / page_bytes, kMostPages);
  PACKMULE_TRY(auto pages, model.new_pool(options.ctx_size + more_pages * cache::kPageTokens));
  std::unique_ptr<Scheduler> scheduler(
      new Scheduler(model, threads, options, std::move(pages), cache_ram_bytes / 2, model_hash));
  for (int i = 0; i < options.n_parallel; ++i) {
    Slot slot;
    slot.id = i;
    PACKMULE_TRY(slot.sequence, scheduler->pages_->new_sequence(options.ctx_size));
    scheduler->slots_.push_back(std::move(slot));
  }
  PACKMULE_TRY_STATUS(scheduler->open_disk());
  scheduler->publish();
  scheduler->thread_ = std::jthread([s = scheduler.get()](const std::stop_token& stop) { s->work(stop); });
  return scheduler;
}

Scheduler::Scheduler(model::Model& model, ThreadPool& threads, const EngineOptions& options,
                     std::shared_ptr<cache::PagePool> pages, int64_t checkpoint_bytes, uint64_t model_hash)
    : model_(model),
      threads_(threads),
      options_(options),
      pages_(std::move(pages)),
      tree_(pages_, checkpoint_bytes),
      cutting_{.grid = std::min(kernels::kDeltaChunk, options.ubatch_size),
               .look_back = pages_->layout().conv_taps - 1,
               .short_slice = model::kChunkedFrom - 1},
      most_checkpoints_(most_checkpoints(checkpoint_bytes, pages_->layout().recurrent_bytes())),
      snapshot_format_(
          cache::SnapshotFormat::of(*pages_, model_hash, model.hparams().n_vocab, options.ctx_size)) {}

Scheduler::~Scheduler() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void Scheduler::submit(std::shared_ptr<Generation> generation) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({.generation = std::move(generation)});
    news_ = true;
    state_.waiting = static_cast<int64_t>(waiting_.size());
  }
  filled_.notify_one();
}

State Scheduler::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void Scheduler::work(const std::stop_token& stop) {
  while (wait_for_work(stop)) {
    drop_ended_from_outside();
    run_errands();
    admit();
    if (n_busy() > 0) step();
    publish();
    for (const auto& generation : ended_) generation->close();
    ended_.clear();
  }
  const auto cancel = [](Generation& generation) {
    generation.end(FinishReason::kCancelled);
    generation.close();
  };
  for (Slot& slot : slots_) {
    if (!slot.busy()) continue;
    keep(slot);
    cancel(*slot.generation);
  }
  std::vector<Errand> errands = std::move(errands_);
  {
    const std::lock_guard lock(mutex_);
    for (const Waiting& one : waiting_) cancel(*one.generation);
    waiting_.clear();
    closed_ = true;
    std::move(new_errands_.begin(), new_errands_.end(), std::back_inserter(errands));
  }
  for (const Errand& errand : errands) errand.after(false);
  if (disk_ != nullptr) disk_->save_all(tree_);
}

bool Scheduler::wait_for_work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  filled_.wait(lock, stop, [this] { return news_ || n_busy() > 0 || !errands_.empty(); });
  news_ = false;
  return !stop.stop_requested();
}

void Scheduler::drop_ended_from_outside() {
  for (Slot& slot : slots_) {
    if (!slot.busy()) continue;
    const auto reason = slot.generation->ended_from_outside();
    if (!reason) continue;
    slot.generation->end(*reason);
    end(slot);
  }
  const std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [this](const Waiting& one) {
    const auto reason = one.generation->ended_from_outside();
    if (!reason) return false;
    one.generation->end(*reason);
    ended_.push_back(one.generation);
    no_room_ = false;  // it may have been the one that needs so much
    return true;
  });
}

/// False when there are not enough pages for it as long as others run.
bool Scheduler::place(Slot& slot, const std::shared_ptr<Generation>& generation) {
  const std::span<const int32_t> tokens = generation->tokens();
  const int64_t n_prompt = generation->n_prompt(), n_drawn = std::ssize(tokens) - n_prompt;
  const cache::PrefixTree::Found found =
      tree_.resume(tokens.first(static_cast<size_t>(n_prompt)), *slot.sequence);
  kept_logits_.assign(found.logits.begin(), found.logits.end());
  // Room for the prompt and the first token behind it, and for one page of everybody else.
  const int64_t n_needed = std::max<int64_t>(n_prompt + 1, std::ssize(tokens));
  const int64_t n_others = n_busy();
  if (!tree_.free_pages(slot.sequence->pages_to_reserve(n_needed - slot.n_tokens()) + n_others)) {
    if (n_others > 0) {
      slot.sequence->release();
      return false;
    }
    // Alone it fits without what is kept, for no prompt is longer than the pool without the cache's share.
    slot.sequence->reset();
    tree_.clear();
  }
  if (const Status reserved = slot.sequence->reserve(n_needed - slot.n_tokens()); !reserved) {
    generation->end(tl::unexpected(reserved.error()));
    ended_.push_back(generation);
    slot.sequence->release();
    return true;
  }
  const int64_t n_cached = slot.n_tokens();
  slot.generation = generation;
  slot.order = slot.task = n_placed_++;
  slot.served = n_steps_;
  slot.kept_at = n_cached;
  slot.decoding = false;
  slot.reading = {.position = n_cached,
                  .n_prompt = n_prompt,
                  .n_tokens = n_prompt + std::max<int64_t>(0, n_drawn - 1),
                  .boundaries = generation->boundaries()};
  // Gone on from a boundary, or from a place in the rhythm of the chunks behind one, nothing shows.
  const int64_t origin = origin_at(slot.reading, n_cached);
  slot.reading.origin = (n_cached - origin) % cutting_.grid == 0 ? origin : n_cached;
  const auto& all = generation->boundaries();
  const auto first = std::upper_bound(all.begin(), all.end(), n_cached);
  slot.checkpoints = thin_out({first, all.end()}, most_checkpoints_ - 1);
  slot.checkpoints.push_back(n_prompt);
  generation->begin(n_cached);
  if (n_drawn == 0) totals_.cached_tokens += n_cached;
  publish();  // before the caller hears of it
  if (n_cached == n_prompt) {
    generation->prompt_progress(n_prompt);
    if (n_drawn == 0) {
      const bool ended = generation->next(kept_logits_);
      totals_.generated_tokens += generation->statistics().generated_tokens;
      if (ended) {
        end(slot);
        return true;
      }
    }
    slot.decoding = slot.reading.n_tokens == n_prompt;
  }
  return true;
}

int64_t Scheduler::n_busy() const {
  return std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.busy(); });
}

Scheduler::Slot* Scheduler::youngest() {
  Slot* found = nullptr;
  for (Slot& slot : slots_)
    if (slot.busy() && (found == nullptr || slot.order > found->order)) found = &slot;
  return found;
}

void Scheduler::step() {
  const auto begin = Clock::now();
  make_room_for_decoding();
  plan();
  if (in_batch_.empty()) return;
  ++n_steps_;
  ++totals_.steps;
  const bool decodes = in_batch_.front()->decoding, reads = !in_batch_.back()->decoding;  // in this order
  const auto logits = forward(n_busy() == 1 && reads ? in_batch_.front() : nullptr);
  if (logits) {
    finish_slices(*logits);
    draw();
  } else {
    for (Slot* slot : in_batch_) {
      for (auto& state : slot->states) tree_.give_back(std::move(state));
      if (logits.error().kind == ErrorKind::kCancelled)
        slot->generation->end(slot->generation->ended_from_outside().value_or(FinishReason::kCancelled));
      else
        slot->generation->end(tl::unexpected(logits.error()));
      retire(*slot);
    }
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (decodes) totals_.generate_seconds += seconds;
  if (reads) totals_.prompt_seconds += seconds;
}

/// Every request that is decoding has room for one more token, or has lost its place.
void Scheduler::make_room_for_decoding() {
  std::vector<Slot*> decoding;
  for (Slot& slot : slots_)
    if (slot.busy() && slot.decoding) decoding.push_back(&slot);
  std::sort(decoding.begin(), decoding.end(),
            [](const Slot* a, const Slot* b) { return a->order < b->order; });
  for (Slot* slot : decoding) {
    while (slot->busy() && slot->sequence->pages_to_reserve(1) > 0 && !tree_.free_pages(1)) {
      Slot* const last = youngest();
      {
        const std::lock_guard lock(mutex_);
        waiting_.push_front({.generation = last->generation, .asked_disk = true});
      }
      leave(*last);
      no_room_ = true;
    }
    if (slot->busy()) (void)slot->sequence->reserve(1);
  }
}

void Scheduler::plan() {
  in_batch_.clear();
  batch_.clear();
  std::vector<Slot*> reading;
  std::vector<Claim> claims;
  for (Slot& slot : slots_) {
    slot.marks.clear();
    slot.states.clear();
    if (!slot.busy()) continue;
    if (slot.decoding) {
      in_batch_.push_back(&slot);
      batch_.push_back({slot.sequence.get(), slot.generation->tokens().last(1), model::WantLogits::kLast});
    } else {
      reading.push_back(&slot);
      claims.push_back({&slot.reading, slot.served});
    }
  }
  if (reading.empty()) return;
  const int64_t chunk = std::clamp(options_.prompt_chunk, cutting_.grid, options_.ubatch_size);
  const std::vector<int64_t> ends = share(claims, cutting_, in_batch_.empty() ? options_.ubatch_size : chunk);
  for (size_t i = 0; i < reading.size(); ++i) {
    Slot& slot = *reading[i];
    const int64_t begin = slot.reading.position;
    if (ends[i] == begin) continue;
    slot.slice_end = ends[i];
    slot.served = n_steps_ + 1;
    plan_marks(slot);
    const bool wants_logits = ends[i] == std::ssize(slot.generation->tokens());
    in_batch_.push_back(&slot);
    batch_.push_back(
        {slot.sequence.get(),
         slot.generation->tokens().subspan(static_cast<size_t>(begin), static_cast<size_t>(ends[i] - begin)),
         wants_logits ? model::WantLogits::kLast : model::WantLogits::kNone, slot.marks});
  }
}

/// Chunks begin anew at every boundary, whether a checkpoint is wanted there or not: which are kept must not
/// show in the results.
void Scheduler::plan_marks(Slot& slot) {
  const Reading& reading = slot.reading;
  const auto mark = [&](int64_t at, bool keep) {
    std::unique_ptr<cache::RecurrentState> state = keep ? tree_.take_state() : nullptr;
    slot.marks.push_back({at - reading.position, state.get()});
    if (state != nullptr) slot.states.push_back(std::move(state));
  };
  for (const int64_t at : reading.boundaries)
    if (at > reading.position && at <= slot.slice_end)
      mark(at, std::binary_search(slot.checkpoints.begin(), slot.checkpoints.end(), at));
  if (slot.slice_end == reading.n_prompt) mark(slot.slice_end, true);
}

/// A prompt that is alone can be stopped in the middle. What it had read before is then kept in the tree.
Result<std::span<const float>> Scheduler::forward(Slot* alone) {
  if (alone == nullptr) return model_.forward(batch_);
  const int64_t n_tokens = alone->n_tokens();
  std::unique_ptr<cache::RecurrentState> before;
  cache::HeldPages pages;
  if (n_tokens != alone->kept_at && n_tokens != 0 && (before = tree_.take_state()) != nullptr) {
    before->copy_from(alone->sequence->recurrent());
    const auto n_pages = static_cast<size_t>((n_tokens - 1) / cache::kPageTokens + 1);
    pages = cache::HeldPages(pages_, alone->sequence->page_numbers().first(n_pages));
  }
  auto logits = model_.forward(batch_, nullptr, alone->generation->stop_token());
  if (before == nullptr) return logits;
  if (!logits && logits.error().kind == ErrorKind::kCancelled)
    tree_.insert(alone->generation->tokens().first(static_cast<size_t>(n_tokens)), pages.numbers(),
                 std::move(before));
  else
    tree_.give_back(std::move(before));
  return logits;
}

/// After a step: what was read is counted, checkpoints go to the tree, and who has logits may draw.
void Scheduler::finish_slices(std::span<const float> logits) {
  const auto n_vocab = static_cast<size_t>(model_.hparams().n_vocab);
  draws_.clear();
  for (size_t i = 0; i < in_batch_.size(); ++i) {
    Slot& slot = *in_batch_[i];
    std::span<const float> row;
    if (batch_[i].want_logits == model::WantLogits::kLast) {
      row = logits.first(n_vocab);
      logits = logits.subspan(n_vocab);
      draws_.push_back({&slot, row, slot.generation->statistics().generated_tokens});
    }
    if (slot.decoding) continue;
    Reading& reading = slot.reading;
    const std::span<const int32_t> tokens = slot.generation->tokens();
    auto state = slot.states.begin();
    for (const model::Mark& mark : slot.marks) {
      if (mark.copy_to == nullptr) continue;
      const int64_t at = reading.position + mark.n_tokens;
      const bool with_logits = at == reading.n_prompt && !row.empty();
      tree_.insert(tokens.first(static_cast<size_t>(at)), slot.sequence->page_numbers(), std::move(*state++),
                   with_logits ? std::vector<float>(row.begin(), row.end()) : std::vector<float>());
      slot.kept_at = at;
    }
    totals_.prompt_tokens += slot.slice_end - reading.position;
    reading.origin = origin_at(reading, slot.slice_end);
    reading.position = slot.slice_end;
    slot.generation->prompt_progress(std::min(reading.position, reading.n_prompt));
    slot.decoding = reading.position == reading.n_tokens;
  }
}

/// Every generation has its own sampler: they draw side by side.
void Scheduler::draw() {
  threads_.run(std::ssize(draws_), [this](int64_t i, int) {
    Draw& one = draws_[static_cast<size_t>(i)];
    one.ended = one.slot->generation->next(one.logits);
  });
  for (const Draw& one : draws_) {
    totals_.generated_tokens += one.slot->generation->statistics().generated_tokens - one.n_before;
    if (one.ended) end(*one.slot);
  }
}

/// Keeps what the sequence holds: a reply's end, or as far as a cancelled prompt was read.
void Scheduler::keep(Slot& slot) {
  const int64_t n_tokens = slot.n_tokens();
  if (n_tokens == 0 || n_tokens == slot.kept_at) return;
  auto state = tree_.take_state();
  if (state == nullptr) return;
  state->take_from(slot.sequence->recurrent());  // the sequence needs it no more
  tree_.insert(slot.generation->tokens().first(static_cast<size_t>(n_tokens)), slot.sequence->page_numbers(),
               std::move(state));
}

void Scheduler::end(Slot& slot) {
  keep(slot);
  retire(slot);
}

/// The slot's generation has ended; its caller is told when the state that is published shows it.
void Scheduler::retire(Slot& slot) {
  ++totals_.requests;
  ended_.push_back(slot.generation);
  leave(slot);
}

void Scheduler::leave(Slot& slot) {
  publish();  // the last figures of the slot
  const auto held = slot.generation->tokens().first(static_cast<size_t>(slot.n_tokens()));
  slot.last_tokens.assign(held.begin(), held.end());
  slot.generation.reset();
  slot.decoding = false;
  slot.sequence->release();
  no_room_ = false;
  const std::lock_guard lock(mutex_);
  news_ = true;  // for whoever waits, when nobody is left to make a next step
}

void Scheduler::publish() {
  const std::lock_guard lock(mutex_);
  state_.slots.resize(slots_.size());
  for (const Slot& slot : slots_) {
    SlotState& shown = state_.slots[static_cast<size_t>(slot.id)];
    shown.id = slot.id;
    shown.task = slot.task;
    shown.busy = slot.busy();
    shown.decoding = slot.decoding;
    shown.held_tokens = slot.busy() ? slot.n_tokens() : std::ssize(slot.last_tokens);
    if (!slot.busy()) continue;
    const Statistics& statistics = slot.generation->statistics();
    shown.prompt_tokens = statistics.prompt_tokens;
    shown.cached_tokens = statistics.cached_tokens;
    shown.generated_tokens = statistics.generated_tokens;
    shown.processed_tokens = std::min(slot.reading.position, slot.reading.n_prompt);
  }
  state_.totals = totals_;
  state_.waiting = static_cast<int64_t>(waiting_.size());
  state_.context_tokens = options_.ctx_size;
  state_.kv_page_tokens = cache::kPageTokens;
  state_.kv_pages = pages_->n_pages();
  state_.kv_pages_used = pages_->n_pages() - pages_->n_free_pages();
  state_.kv_bytes = pages_->capacity_bytes();
  state_.recurrent_bytes = pages_->layout().recurrent_bytes() * std::ssize(slots_);
  state_.checkpoints = tree_.n_checkpoints();
  state_.checkpoint_bytes = tree_.size_bytes();
  state_.checkpoint_budget_bytes = tree_.budget_bytes();
  if (disk_ == nullptr) return;
  const cache::DiskCache::Statistics disk = disk_->disk().statistics();
  state_.disk = {.entries = disk.entries,
                 .bytes = disk.bytes,
                 .limit_bytes = disk.limit_bytes,
                 .hits = disk.hits,
                 .hit_tokens = disk.hit_tokens,
                 .read_bytes = disk.read_bytes,
                 .written_entries = disk.written_entries,
                 .written_bytes = disk.written_bytes,
                 .lost_entries = disk.lost_entries};
}

}  // namespace packmule::engine
