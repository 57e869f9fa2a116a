#include "api/metrics.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/system_memory.h"

namespace packmule::api {
namespace {

template <class Number>
std::string metric(std::string_view name, std::string_view type, std::string_view help, Number value) {
  return fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
}

double per_second(int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
}

/// What lies where, as one metric with labels.
std::string tiers(const Backend& backend, const engine::State& state, int64_t kv_used) {
  constexpr std::string_view kName = "packmule:tier_bytes";
  std::string out = fmt::format("# HELP {0} What each tier of memory holds.\n# TYPE {0} gauge\n", kName);
  const auto add = [&](std::string_view tier, std::string_view what, int64_t bytes) {
    out += fmt::format("{}{{tier=\"{}\",what=\"{}\"}} {}\n", kName, tier, what, bytes);
  };
  add("ram", "weights", backend.info().size_bytes);
  add("ram", "kv_cache", kv_used);
  add("ram", "recurrent_states", state.recurrent_bytes);
  add("ram", "checkpoints", state.checkpoint_bytes);
  add("disk", "conversations", state.disk.bytes);
  return out;
}

}  // namespace

void FirstTokenTimes::add(double seconds) {
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
  const std::lock_guard lock(mutex_);
  ++counts_[static_cast<size_t>(bucket)];
  sum_ += seconds;
}

std::string FirstTokenTimes::text(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  std::string out = fmt::format(
      "# HELP {0} Time from the arrival of a request to the first token of its answer.\n# TYPE {0} "
      "histogram\n",
      name);
  int64_t n = 0;
  for (size_t i = 0; i < kBounds.size(); ++i) {
    n += counts_[i];
    out += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, kBounds[i], n);
  }
  n += counts_.back();
  return out + fmt::format("{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n{0}_count {1}\n", name, n, sum_);
}

std::string metrics_text(const Backend& backend, const FirstTokenTimes& first_token, int64_t n_waiting,
                         int64_t n_timed_out) {
  const engine::State state = backend.state();
  const engine::Totals& t = state.totals;
  const engine::DiskState& disk = state.disk;
  const auto n_busy = std::count_if(state.slots.begin(), state.slots.end(),
                                    [](const engine::SlotState& s) { return s.busy; });
  const int64_t kv_used = state.kv_pages > 0 ? state.kv_bytes / state.kv_pages * state.kv_pages_used : 0;
  return metric("llamacpp:prompt_tokens_total", "counter", "Prompt tokens processed.", t.prompt_tokens) +
         metric("llamacpp:prompt_seconds_total", "counter", "Time in which prompts were processed.",
                t.prompt_seconds) +
         metric("llamacpp:tokens_predicted_total", "counter", "Tokens generated.", t.generated_tokens) +
         metric("llamacpp:tokens_predicted_seconds_total", "counter", "Time in which tokens were generated.",
                t.generate_seconds) +
         metric("llamacpp:n_decode_total", "counter", "Passes through the model.", t.steps) +
         metric("llamacpp:prompt_tokens_seconds", "gauge", "Average speed of prompts in tokens a second.",
                per_second(t.prompt_tokens, t.prompt_seconds)) +
         metric("llamacpp:predicted_tokens_seconds", "gauge",
                "Average speed of generation in tokens a second.",
                per_second(t.generated_tokens, t.generate_seconds)) +
         metric("llamacpp:requests_processing", "gauge", "Requests that are being worked on.", n_busy) +
         metric("llamacpp:requests_deferred", "gauge", "Requests that wait for their turn.",
                state.waiting + n_waiting) +
         metric("packmule:requests_total", "counter", "Generations that have ended.", t.requests) +
         metric("packmule:requests_timed_out_total", "counter",
                "Requests that ended because their time was up.", n_timed_out) +
         metric("packmule:prompt_tokens_cached_total", "counter",
                "Prompt tokens that were there already and not processed again.", t.cached_tokens) +
         first_token.text("packmule:time_to_first_token_seconds") +
         metric("packmule:slots", "gauge", "Requests that can be worked on at once.", state.slots.size()) +
         metric("packmule:weights_bytes", "gauge", "Size of the weights as stored.",
                backend.info().size_bytes) +
         metric("packmule:kv_cache_bytes", "gauge", "Size of the attention cache.", state.kv_bytes) +
         metric("packmule:kv_cache_used_bytes", "gauge", "Of it, pages that hold tokens.", kv_used) +
         metric("packmule:recurrent_state_bytes", "gauge", "Size of the recurrent states of the slots.",
                state.recurrent_bytes) +
         metric("packmule:checkpoint_bytes", "gauge", "Size of the states kept for later prompts.",
                state.checkpoint_bytes) +
         metric("packmule:kv_pages", "gauge", "Pages of the attention cache.", state.kv_pages) +
         metric("packmule:kv_pages_used", "gauge", "Of them, those that hold tokens.", state.kv_pages_used) +
         metric("packmule:checkpoints", "gauge", "States kept for later prompts.", state.checkpoints) +
         metric("packmule:checkpoint_budget_bytes", "gauge", "What they may take.",
                state.checkpoint_budget_bytes) +
         metric("packmule:disk_cache_bytes", "gauge", "Size of the files of past conversations.",
                disk.bytes) +
         metric("packmule:disk_cache_limit_bytes", "gauge", "What they may take.", disk.limit_bytes) +
         metric("packmule:disk_cache_entries", "gauge", "Checkpoints in them.", disk.entries) +
         metric("packmule:disk_cache_hits_total", "counter", "Prompts that went on from a file.", disk.hits) +
         metric("packmule:disk_cache_hit_tokens_total", "counter",
                "Prompt tokens that were read from files and not processed.", disk.hit_tokens) +
         metric("packmule:disk_cache_read_bytes_total", "counter", "Read from files.", disk.read_bytes) +
         metric("packmule:disk_cache_written_bytes_total", "counter", "Written to files.",
                disk.written_bytes) +
         metric("packmule:disk_cache_written_total", "counter", "Checkpoints written.",
                disk.written_entries) +
         metric("packmule:disk_cache_lost_total", "counter", "Checkpoints that could not be written.",
                disk.lost_entries) +
         tiers(backend, state, kv_used) +
         metric("packmule:available_memory_bytes", "gauge",
                "Memory that can still be taken without swapping.", available_memory_bytes());
}

}  // namespace packmule::api
