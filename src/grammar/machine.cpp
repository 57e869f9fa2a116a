#include "grammar/machine.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace packmule::grammar {
namespace {

uint64_t mix(uint64_t h, uint64_t value) {
  h = (h ^ value) * 0x9e3779b97f4a7c15u;
  return h ^ h >> 32;
}

}  // namespace

void StepTable::add(ConfigId config, uint8_t byte, ConfigId to) {
  if (2 * (size_ + 1) > slots_.size()) {
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    for (const Slot& slot : old)
      if (slot.key != 0) insert(slot.key, slot.to);
  }
  insert(key_of(config, byte), to);
  ++size_;
}

void StepTable::insert(uint64_t key, ConfigId to) {
  size_t i = place(key);
  while (slots_[i].key != 0) i = (i + 1) & (slots_.size() - 1);
  slots_[i] = {.key = key, .to = to};
}

Machine::Machine(std::shared_ptr<const Grammar> grammar)
    : grammar_(std::move(grammar)),
      called_(grammar_->rules().size()),
      rule_of_rank_(grammar_->rules().size()) {
  for (size_t r = 0; r < rule_of_rank_.size(); ++r)
    rule_of_rank_[grammar_->rules()[r].rank] = static_cast<uint32_t>(r);
  configs_.push_back({});   // kDead
  contexts_.push_back({});  // kRoot
}

std::span<const Machine::Item> Machine::items(ConfigId config) const {
  return std::span(item_pool_).subspan(configs_[config].begin, configs_[config].size);
}

std::span<const Machine::Return> Machine::returns(ContextId context) const {
  return std::span(return_pool_).subspan(contexts_[context].begin, contexts_[context].size);
}

ConfigId Machine::start() {
  // As if it were called, so that the end of an empty text is not taken for the end of the rule.
  const uint32_t root = grammar_->rules()[grammar_->root()].start;
  found_.clear();
  complete_ = grammar_->accepts_empty();
  for (const CallEdge& edge : grammar_->call_edges(grammar_->state(root))) call(edge.call, edge.to, kRoot);
  const ConfigId closed = close();
  // The root's own first state.
  found_.assign(items(closed).begin(), items(closed).end());
  found_.push_back({root, kRoot});
  complete_ = grammar_->accepts_empty();
  return intern_config();
}

ConfigId Machine::inside(uint32_t state) {
  found_.assign(1, {state, kRoot});
  complete_ = false;
  return intern_config();
}

ConfigId Machine::at(uint32_t state, std::span<const Return> returns) {
  std::vector<Return> copy(returns.begin(), returns.end());
  found_.assign(1, {state, intern_context(copy)});
  complete_ = false;
  return intern_config();
}

ConfigId Machine::behind(std::span<const Return> returns, bool again) {
  found_.clear();
  complete_ = false;
  // A copy: the pool may move.
  const std::vector<Return> copy(returns.begin(), returns.end());
  for (const Return& r : copy) finish_rule(r, again);
  return close();
}

ConfigId Machine::step(ConfigId config, uint8_t byte) {
  if (const ConfigId known = steps_.find(config, byte); known != StepTable::kUnknown) return known;
  found_.clear();
  complete_ = false;
  const Span span = configs_[config];
  for (uint32_t i = span.begin; i < span.begin + span.size; ++i) {
    const Item item = item_pool_[i];
    for (const ByteEdge& edge : grammar_->byte_edges(grammar_->state(item.state))) {
      if (byte < edge.first) break;
      if (byte <= edge.last) add(edge.to, item.context);
    }
  }
  const ConfigId next = close();
  steps_.add(config, byte, next);
  return next;
}

void Machine::add(uint32_t state, ContextId context) {
  // Few as a rule, and then a search is the fastest set there is.
  constexpr size_t kFew = 16;
  const Item item{state, context};
  const auto key = [](const Item& i) { return uint64_t{i.state} << 32 | i.context; };
  if (found_.size() < kFew) {
    if (std::find(found_.begin(), found_.end(), item) != found_.end()) return;
  } else {
    if (found_.size() == kFew) {
      found_set_.clear();
      for (const Item& known : found_) found_set_.insert(key(known));
    }
    if (!found_set_.insert(key(item)).second) return;
  }
  if (found_.size() >= kMaxItems) {
    overflowed_ = true;
    return;
  }
  found_.push_back(item);
}

void Machine::finish_rule(ContextId context) {
  if (context == kRoot) {
    complete_ = true;
    return;
  }
  const Span span = contexts_[context];
  for (uint32_t i = span.begin; i < span.begin + span.size; ++i) {
    const Return r = return_pool_[i];
    finish_rule(r, true);
  }
}

void Machine::finish_rule(const Return& r, bool again) {
  const Grammar::Call& call = grammar_->call(r.call);
  if (!call.counted()) return add(r.state, r.context);
  if (r.count >= call.min) add(r.state, r.context);
  if (!again) return;
  if (call.max == kUnlimited)
    call_rule(call.rule, {r.state, r.context, r.call, std::min(r.count + 1, call.min)});
  else if (r.count < call.max)
    call_rule(call.rule, {r.state, r.context, r.call, r.count + 1});
}

void Machine::call(uint32_t call, uint32_t to, ContextId context) {
  const Grammar::Call& c = grammar_->call(call);
  const Grammar::State& after = grammar_->state(to);
  const bool last = !c.counted() && after.final && after.bytes_begin == after.bytes_end &&
                    after.calls_begin == after.calls_end;
  if (last && context != kRoot) {
    // Nothing comes behind it: it returns to where its caller does, and repetition by recursion needs no
    // memory.
    const Span span = contexts_[context];
    for (uint32_t i = span.begin; i < span.begin + span.size; ++i) {
      const Return r = return_pool_[i];
      call_rule(c.rule, r);
    }
    return;
  }
  call_rule(c.rule, {to, context, call, 1});
}

void Machine::call_rule(uint32_t rule, const Return& r) {
  std::vector<Return>& called = called_[rule];
  if (called.empty()) {
    called_ranks_.push_back(grammar_->rules()[rule].rank);
    std::push_heap(called_ranks_.begin(), called_ranks_.end(), std::greater<>());
  }
  if (called.size() < kMaxItems)
    called.push_back(r);
  else
    overflowed_ = true;
}

ConfigId Machine::close() {
  for (size_t i = 0; i < found_.size(); ++i)
    if (grammar_->state(found_[i].state).final) finish_rule(found_[i].context);
  for (size_t i = 0; i < found_.size(); ++i) {
    const Item item = found_[i];
    for (const CallEdge& edge : grammar_->call_edges(grammar_->state(item.state)))
      call(edge.call, edge.to, item.context);
  }
  // In the order of their ranks, so that all callers of a rule are known when it begins.
  while (!called_ranks_.empty()) {
    std::pop_heap(called_ranks_.begin(), called_ranks_.end(), std::greater<>());
    const uint32_t rule = rule_of_rank_[called_ranks_.back()];
    called_ranks_.pop_back();
    const ContextId context = intern_context(called_[rule]);
    called_[rule].clear();
    const uint32_t begin = grammar_->rules()[rule].start;
    for (const CallEdge& edge : grammar_->call_edges(grammar_->state(begin)))
      call(edge.call, edge.to, context);
    add(begin, context);
  }
  return intern_config();
}

ContextId Machine::intern_context(std::vector<Return>& returns) {
  std::sort(returns.begin(), returns.end());
  returns.erase(std::unique(returns.begin(), returns.end()), returns.end());
  uint64_t hash = returns.size();
  for (const Return& r : returns)
    hash = mix(mix(mix(hash, r.state), uint64_t{r.context} << 32 | r.call), static_cast<uint64_t>(r.count));
  const auto [first, last] = context_ids_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const auto known = this->returns(it->second);
    if (std::equal(known.begin(), known.end(), returns.begin(), returns.end())) return it->second;
  }
  if (return_pool_.size() + returns.size() > kMaxStored) {
    overflowed_ = true;
    return kRoot;
  }
  const auto id = static_cast<ContextId>(contexts_.size());
  contexts_.push_back(
      {static_cast<uint32_t>(return_pool_.size()), static_cast<uint32_t>(returns.size()), false});
  return_pool_.insert(return_pool_.end(), returns.begin(), returns.end());
  context_ids_.emplace(hash, id);
  return id;
}

bool Machine::tidy(ConfigId& config) {
  if (std::max(item_pool_.size(), return_pool_.size()) < kTidyAt && steps_.size() < kTidyStepsAt)
    return false;
  std::vector<bool> needed(contexts_.size(), false);
  std::vector<ContextId> work;
  const auto need = [&](ContextId context) {
    if (!needed[context]) needed[context] = true, work.push_back(context);
  };
  for (const Item& item : items(config)) need(item.context);
  while (!work.empty()) {
    const ContextId context = work.back();
    work.pop_back();
    for (const Return& r : returns(context)) need(r.context);
  }
  Machine kept(grammar_);
  kept.overflowed_ = overflowed_;
  // A context is made after those that it leads to.
  std::vector<ContextId> number(contexts_.size(), kRoot);
  for (ContextId context = kRoot + 1; context < contexts_.size(); ++context) {
    if (!needed[context]) continue;
    std::vector<Return> copy(returns(context).begin(), returns(context).end());
    for (Return& r : copy) r.context = number[r.context];
    number[context] = kept.intern_context(copy);
  }
  for (const Item& item : items(config)) kept.found_.push_back({item.state, number[item.context]});
  kept.complete_ = complete(config);
  config = kept.intern_config();
  *this = std::move(kept);
  return true;
}

/// Only states that read a byte matter from here on.
ConfigId Machine::intern_config() {
  std::erase_if(found_, [&](const Item& item) {
    const Grammar::State& state = grammar_->state(item.state);
    return state.bytes_begin == state.bytes_end;
  });
  if (found_.empty() && !complete_) return kDead;
  std::sort(found_.begin(), found_.end());
  found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
  uint64_t hash = complete_ ? 1 : 0;
  for (const Item& item : found_) hash = mix(hash, uint64_t{item.state} << 32 | item.context);
  const auto [first, last] = config_ids_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const auto known = items(it->second);
    if (configs_[it->second].complete == complete_ &&
        std::equal(known.begin(), known.end(), found_.begin(), found_.end()))
      return it->second;
  }
  if (item_pool_.size() + found_.size() > kMaxStored) {
    overflowed_ = true;
    return kDead;
  }
  const auto id = static_cast<ConfigId>(configs_.size());
  configs_.push_back(
      {static_cast<uint32_t>(item_pool_.size()), static_cast<uint32_t>(found_.size()), complete_});
  item_pool_.insert(item_pool_.end(), found_.begin(), found_.end());
  config_ids_.emplace(hash, id);
  return id;
}

}  // namespace packmule::grammar
