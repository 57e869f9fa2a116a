// What an engine is doing: a snapshot, for whoever shows or measures it.
#pragma once

#include <cstdint>
#include <vector>

namespace packmule::engine {

/// A place for one request. `task` and the counts keep those of the last request while the slot is free.
struct SlotState {
  int id = 0;
  int64_t task = -1;  // number of the request, counted from 0; -1: none yet
  bool busy = false;
  bool decoding = false;         // the prompt is done; false and busy: it is being processed
  int64_t prompt_tokens = 0;     // of the request
  int64_t cached_tokens = 0;     // of those, taken over from earlier requests
  int64_t processed_tokens = 0;  // of the prompt that are done, cached ones included
  int64_t generated_tokens = 0;  // so far
  int64_t held_tokens = 0;       // that the slot's sequence holds; while it is free: that its last one held
};

/// Sums since the engine was opened. Times are those in which at least one request was in the phase, so that
/// tokens divided by seconds is what the machine gives, not what one request sees.
struct Totals {
  int64_t requests = 0;       // that have ended, whatever their end
  int64_t prompt_tokens = 0;  // processed; cached ones are not in it
  int64_t cached_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t steps = 0;  // passes through the model
  double prompt_seconds = 0;
  double generate_seconds = 0;
};

/// What was brought to the disk, and what came back. All zero without --cache-disk.
struct DiskState {
  int64_t entries = 0;
  int64_t bytes = 0;  // of the files
  int64_t limit_bytes = 0;
  int64_t hits = 0;
  int64_t hit_tokens = 0;  // that were read from files instead of being computed
  int64_t read_bytes = 0;
  int64_t written_entries = 0;
  int64_t written_bytes = 0;
  int64_t lost_entries = 0;  // that could not be written
};

struct State {
  std::vector<SlotState> slots;
  Totals totals;
  int64_t waiting = 0;                  // requests that have no slot yet
  int64_t context_tokens = 0;           // most tokens of one request, prompt and answer
  int64_t kv_page_tokens = 0;           // of a page
  int64_t kv_pages = 0;                 // of the pool
  int64_t kv_pages_used = 0;            // by slots and by what is kept for later prompts
  int64_t kv_bytes = 0;                 // of the pool, when every page has been written
  int64_t recurrent_bytes = 0;          // states of the slots' sequences
  int64_t checkpoints = 0;              // recurrent states kept for later prompts
  int64_t checkpoint_bytes = 0;         // what they take
  int64_t checkpoint_budget_bytes = 0;  // what they may take
  DiskState disk;
};

}  // namespace packmule::engine
