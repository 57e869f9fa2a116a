#include "cache/prefix_tree.h"

#include <algorithm>
#include <utility>

namespace packmule::cache {
namespace {

/// So that a model of tiny states does not make looking for the least valuable one the slowest part.
constexpr int64_t kMostCheckpoints = 4096;

int64_t bytes_of(const std::vector<int32_t>& tokens, const std::vector<float>& logits) {
  return static_cast<int64_t>(tokens.size() * sizeof(int32_t) + logits.size() * sizeof(float));
}

bool begins_with(std::span<const int32_t> tokens, std::span<const int32_t> beginning) {
  return tokens.size() >= beginning.size() && std::equal(beginning.begin(), beginning.end(), tokens.begin());
}

}  // namespace

struct PrefixTree::Node {
  Node* parent = nullptr;
  std::vector<std::unique_ptr<Node>> children;
  std::vector<int32_t> tokens;  // since the parent
  int64_t end = 0;              // tokens since the root
  HeldPages pages;              // from that of the first of `tokens` to that of the last
  std::unique_ptr<RecurrentState> state;
  std::vector<float> logits;
  int64_t clock = 0;  // when it was last used
  int64_t use = 0;    // how many uses of the tree came before its last one

  [[nodiscard]] int64_t begin() const { return end - static_cast<int64_t>(tokens.size()); }
  [[nodiscard]] int64_t first_page() const { return begin() / kPageTokens; }
  [[nodiscard]] int64_t end_page() const { return (end + kPageTokens - 1) / kPageTokens; }
  [[nodiscard]] int64_t value() const { return clock + static_cast<int64_t>(tokens.size()); }
};

PrefixTree::PrefixTree(std::shared_ptr<PagePool> pool, int64_t budget_bytes)
    : pool_(std::move(pool)),
      budget_bytes_(budget_bytes),
      state_bytes_(pool_->layout().recurrent_bytes()),
      root_(std::make_unique<Node>()) {}

PrefixTree::~PrefixTree() = default;

PrefixTree::Place PrefixTree::deepest(std::span<const int32_t> tokens) const {
  Node* node = root_.get();
  while (true) {
    const auto rest = tokens.subspan(static_cast<size_t>(node->end));
    const auto next = std::find_if(node->children.begin(), node->children.end(),
                                   [&](const auto& child) { return begins_with(rest, child->tokens); });
    if (next == node->children.end()) return {node, node->end};
    node = next->get();
  }
}

PrefixTree::Place PrefixTree::usable(std::span<const int32_t> tokens) const {
  Place place = deepest(tokens);
  if (place.n_tokens == static_cast<int64_t>(tokens.size()) && place.node->logits.empty() &&
      place.node->parent != nullptr)
    place = {place.node->parent, place.node->parent->end};
  return place;
}

int64_t PrefixTree::find(std::span<const int32_t> tokens) const {
  return usable(tokens).n_tokens;
}

std::vector<int64_t> PrefixTree::page_numbers(const Node& node) {
  std::vector<int64_t> pages(static_cast<size_t>(node.end_page()));
  // A page that a node shares with its parent, or has in its place, holds the rows of both.
  for (const Node* at = &node; at->parent != nullptr; at = at->parent) {
    const auto numbers = at->pages.numbers();
    for (int64_t page = at->first_page(); page < at->end_page(); ++page)
      if (int64_t& number = pages[static_cast<size_t>(page)]; at == &node || page < at->end / kPageTokens)
        number = numbers[static_cast<size_t>(page - at->first_page())];
  }
  return pages;
}

void PrefixTree::use(Node& node) {
  node.clock = clock_;
  node.use = n_uses_++;
}

PrefixTree::Found PrefixTree::resume(std::span<const int32_t> tokens, Sequence& sequence) {
  Node* node = usable(tokens).node;
  if (node == root_.get() || (node->end % kPageTokens != 0 && !free_pages(1, node))) {
    sequence.reset();
    return {};
  }
  use(*node);
  if (!sequence.resume(page_numbers(*node), node->end, *node->state)) return {};
  return {node->end, node->end == static_cast<int64_t>(tokens.size()) ? std::span<const float>(node->logits)
                                                                      : std::span<const float>()};
}

/// Until so many more states have room. False when they never will.
bool PrefixTree::shrink(int64_t n_more) {
  while (n_checkpoints_ + n_taken_ + n_more > kMostCheckpoints ||
         (n_checkpoints_ + n_taken_ + n_more) * state_bytes_ + other_bytes_ > budget_bytes_) {
    Node* node = least_valuable(false, nullptr);
    if (node == nullptr) return false;
    make_room(*node);
  }
  return true;
}

std::unique_ptr<RecurrentState> PrefixTree::take_state() {
  if (budget_bytes_ <= 0 || !shrink(1)) return nullptr;
  if (spare_.empty()) {
    if (auto state = pool_->new_state()) {
      spare_.push_back(std::make_unique<RecurrentState>(std::move(*state)));
    } else {
      // A device may have less room than the budget: what is new takes the place of what is worth least.
      Node* const node = least_valuable(false, nullptr);
      if (node == nullptr) return nullptr;
      make_room(*node);
    }
  }
  ++n_taken_;
  auto state = std::move(spare_.back());
  spare_.pop_back();
  return state;
}

void PrefixTree::give_back(std::unique_ptr<RecurrentState> state) {
  if (state == nullptr) return;
  --n_taken_;
  spare_.push_back(std::move(state));
}

void PrefixTree::insert(std::span<const int32_t> tokens, std::span<const int64_t> pages,
                        std::unique_ptr<RecurrentState> state, std::vector<float> logits) {
  Node* parent = deepest(tokens).node;
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  if (parent->end == n_tokens) {
    if (parent != root_.get()) {
      use(*parent);
      if (parent->logits.empty()) {
        other_bytes_ += bytes_of({}, logits);
        parent->logits = std::move(logits);
      }
    }
    return give_back(std::move(state));
  }
  auto node = std::make_unique<Node>();
  node->parent = parent;
  node->tokens.assign(tokens.begin() + parent->end, tokens.end());
  node->end = n_tokens;
  node->pages = HeldPages(pool_, pages.subspan(static_cast<size_t>(node->first_page()),
                                               static_cast<size_t>(node->end_page() - node->first_page())));
  node->state = std::move(state);
  node->logits = std::move(logits);
  --n_taken_;
  ++n_checkpoints_;
  use(*node);
  other_bytes_ += bytes_of(node->tokens, node->logits);
  // Those that go on from the new node become its children; the pages they had before it are its own now.
  const auto longer =
      std::stable_partition(parent->children.begin(), parent->children.end(),
                            [&](auto& child) { return !begins_with(child->tokens, node->tokens); });
  for (auto child = longer; child != parent->children.end(); ++child) {
    (*child)->parent = node.get();
    (*child)->tokens.erase((*child)->tokens.begin(),
                           (*child)->tokens.begin() + static_cast<std::ptrdiff_t>(node->tokens.size()));
    other_bytes_ -= bytes_of(node->tokens, {});
    (*child)->pages.keep_last(static_cast<size_t>((*child)->end_page() - (*child)->first_page()));
    node->children.push_back(std::move(*child));
  }
  parent->children.erase(longer, parent->children.end());
  parent->children.push_back(std::move(node));
  shrink(0);  // for the tokens and logits
}

PrefixTree::Node* PrefixTree::least_valuable(bool leaf, const Node* except) const {
  Node* least = nullptr;
  std::vector<Node*> open{root_.get()};
  while (!open.empty()) {
    Node* node = open.back();
    open.pop_back();
    for (const auto& child : node->children) open.push_back(child.get());
    if (node == root_.get() || node == except || (leaf && !node->children.empty())) continue;
    if (least == nullptr || std::pair(node->value(), node->use) < std::pair(least->value(), least->use))
      least = node;
  }
  return least;
}

bool PrefixTree::free_pages(int64_t n) {
  return free_pages(n, nullptr);
}

bool PrefixTree::free_pages(int64_t n, const Node* except) {
  if (pool_->n_free_pages() + pool_->n_kept_pages() < n) return false;
  while (pool_->n_free_pages() < n) {
    Node* node = least_valuable(true, except);
    if (node == nullptr) return false;
    make_room(*node);
  }
  return true;
}

/// Drops the least valuable.
void PrefixTree::make_room(Node& node) {
  clock_ = std::max(clock_, node.value());
  if (on_drop_) show(node, on_drop_);
  drop(node);
}

void PrefixTree::drop(Node& node) {
  Node* const parent = node.parent;
  --n_checkpoints_;
  other_bytes_ -= bytes_of(node.tokens, node.logits);
  spare_.push_back(std::move(node.state));
  // Its children take over its tokens and pages.
  for (auto& child : node.children) {
    child->parent = parent;
    child->tokens.insert(child->tokens.begin(), node.tokens.begin(), node.tokens.end());
    other_bytes_ += bytes_of(node.tokens, {});
    const auto own = node.pages.numbers(), more = child->pages.numbers();
    std::vector<int64_t> numbers(own.begin(), own.end() - (node.end % kPageTokens != 0 ? 1 : 0));
    numbers.insert(numbers.end(), more.begin(), more.end());
    child->pages = HeldPages(pool_, numbers);
    parent->children.push_back(std::move(child));
  }
  const auto self = std::find_if(parent->children.begin(), parent->children.end(),
                                 [&](const auto& child) { return child.get() == &node; });
  parent->children.erase(self);
}

void PrefixTree::show(const Node& node, const Visitor& visitor) {
  std::vector<int32_t> tokens(static_cast<size_t>(node.end));
  for (const Node* at = &node; at->parent != nullptr; at = at->parent)
    std::copy(at->tokens.begin(), at->tokens.end(), tokens.begin() + at->begin());
  visitor({.tokens = tokens,
           .pages = page_numbers(node),
           .state = *node.state,
           .logits = node.logits,
           .n_saved = static_cast<int64_t>(node.tokens.size())});
}

void PrefixTree::visit(const Visitor& visitor) const {
  std::vector<const Node*> open{root_.get()};
  while (!open.empty()) {
    const Node* node = open.back();
    open.pop_back();
    for (const auto& child : node->children) open.push_back(child.get());
    if (node != root_.get()) show(*node, visitor);
  }
}

bool PrefixTree::visit_one(std::span<const int32_t> tokens, const Visitor& visitor) const {
  const Place place = deepest(tokens);
  if (place.node == root_.get() || place.n_tokens != static_cast<int64_t>(tokens.size())) return false;
  show(*place.node, visitor);
  return true;
}

std::vector<int64_t> PrefixTree::checkpoints_along(std::span<const int32_t> tokens) const {
  std::vector<int64_t> positions;
  for (const Node* node = deepest(tokens).node; node->parent != nullptr; node = node->parent)
    positions.insert(positions.begin(), node->end);
  return positions;
}

HeldPages PrefixTree::hold(std::span<const int32_t> tokens, int64_t n) const {
  const std::vector<int64_t> pages = page_numbers(*deepest(tokens).node);
  return {pool_, std::span(pages).first(static_cast<size_t>(n))};
}

int64_t PrefixTree::erase(std::span<const int32_t> tokens) {
  Node* node = deepest(tokens).node;
  while (node != root_.get() && node->children.empty()) {
    Node* const parent = node->parent;
    drop(*node);
    node = parent;
  }
  return node->end;
}

void PrefixTree::clear() {
  root_->children.clear();
  n_checkpoints_ = 0;
  other_bytes_ = 0;
}

}  // namespace packmule::cache
