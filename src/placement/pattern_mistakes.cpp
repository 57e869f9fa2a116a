#include "placement/pattern_mistakes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "placement/words.h"

namespace packmule::placement {
namespace {

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

/// Indices of tensors that a changed pattern is found in; none if it is no pattern.
std::vector<int> found(const std::string& text, const Inventory& inventory) {
  std::vector<int> tensors;
  const auto pattern = Pattern::compile(text);
  if (!pattern) return tensors;
  for (size_t t = 0; t < inventory.tensors.size(); ++t)
    if (pattern->found_in(inventory.tensors[t].name).value_or(false)) tensors.push_back(static_cast<int>(t));
  return tensors;
}

std::vector<int> layers_of(std::span<const int> tensors, const Inventory& inventory) {
  std::vector<int> layers;
  for (const int t : tensors)
    if (const int layer = inventory.tensors[static_cast<size_t>(t)].layer; layer >= 0)
      layers.push_back(layer);
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

/// The character class that begins at `at`, without its brackets; empty when it is not closed.
std::string_view class_at(std::string_view text, size_t at) {
  size_t end = text.find(']', at + 2);  // a bracket at the very beginning would be a character
  return end == std::string_view::npos ? std::string_view() : text.substr(at + 1, end - at - 1);
}

/// Every dot that is not in a class, not escaped and not repeated, as the character itself.
std::string with_escaped_dots(std::string_view text) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\' && i + 1 < text.size()) {
      out += text.substr(i, 2);
      ++i;
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    const bool repeated =
        i + 1 < text.size() && std::string_view("*+?{").find(text[i + 1]) != std::string_view::npos;
    if (c == '.' && !in_class && !repeated) out += '\\';
    out += c;
  }
  return out;
}

/// Numbers of blocks as they stand in the pattern after "blk." with nothing that ends them, each with an end:
/// "blk\.1" becomes "blk\.1\.".
std::string with_ended_numbers(std::string_view text, std::string& number) {
  const size_t block = text.find("blk");
  if (block == std::string_view::npos) return std::string(text);
  size_t at = block + 3;
  while (at < text.size() && (text[at] == '\\' || text[at] == '.')) ++at;
  const size_t begin = at;
  while (at < text.size() && is_digit(text[at])) ++at;
  if (at == begin) return std::string(text);
  if (at < text.size() && !(text[at] == '.' && at + 1 < text.size() && text[at + 1] == '*')) {
    // A dot, a class, a group or a repetition goes on with the number or ends it.
    return std::string(text);
  }
  number = text.substr(begin, at - begin);
  return fmt::format("{}\\.{}", text.substr(0, at), text.substr(at));
}

/// [1-12], [10-20]: a range of digits beside single ones. [0-24-7] may be meant.
bool looks_like_numbers(std::string_view set) {
  bool has_range = false;
  bool has_single = false;
  for (size_t i = 0; i < set.size(); ++i) {
    if (!is_digit(set[i])) return false;
    const bool is_range = i + 2 < set.size() && set[i + 1] == '-' && is_digit(set[i + 2]);
    (is_range ? has_range : has_single) = true;
    if (is_range) i += 2;
  }
  return has_range && has_single;
}

void numbers_in_classes(std::string_view text, std::vector<std::string>& warnings) {
  for (size_t at = text.find('['); at != std::string_view::npos; at = text.find('[', at + 1))
    if (const std::string_view set = class_at(text, at); looks_like_numbers(set))
      warnings.push_back(
          fmt::format("[{}] is a set of single characters, not a range of numbers: it matches one "
                      "digit; write the numbers out, as in (8|9|1[0-2])",
                      set));
}

/// A range of digits, "2-9".
struct DigitRange {
  int first = 0;
  int last = 0;
};
std::optional<DigitRange> digit_range(std::string_view set) {
  if (set.size() != 3 || set[1] != '-' || !is_digit(set[0]) || !is_digit(set[2])) return std::nullopt;
  return DigitRange{set[0] - '0', set[2] - '0'};
}

/// [0-1][2-9] and the like: two digits of which the first may be 0, as if 02 were a layer's number.
/// `matched`: layers that the pattern is found in.
void leading_zeros(std::string_view text, const std::vector<int>& matched, int64_t n_layers,
                   std::vector<std::string>& warnings) {
  for (size_t at = text.find('['); at != std::string_view::npos; at = text.find('[', at + 1)) {
    const std::string_view set = class_at(text, at);
    const size_t after = at + set.size() + 2;
    const bool begins_number =
        at == 0 || std::string_view("(|.").find(text[at - 1]) != std::string_view::npos;
    if (!begins_number || after >= text.size() || text[after] != '[') continue;
    const auto tens = digit_range(set);
    const auto units = digit_range(class_at(text, after));
    if (!tens || !units || tens->first != 0 || tens->last == 9) continue;
    std::string ranges;
    std::vector<int> left_out;
    for (int ten = 1; ten <= tens->last; ++ten) {
      ranges += fmt::format("{}{} to {}", ranges.empty() ? "" : ", ", ten * 10 + units->first,
                            ten * 10 + units->last);
      for (int layer = ten * 10; layer < ten * 10 + 10 && layer < n_layers; ++layer)
        if (!std::binary_search(matched.begin(), matched.end(), layer)) left_out.push_back(layer);
    }
    if (left_out.empty()) continue;
    warnings.push_back(
        fmt::format("[{}][{}] matches {}: layers are numbered without leading zeros, so the 0 never matches; "
                    "the rule leaves {} out",
                    set, class_at(text, after), ranges, layer_words(left_out)));
  }
}

}  // namespace

std::vector<std::string> pattern_mistakes(const Pattern& pattern, std::span<const int> matched,
                                          const Inventory& inventory) {
  const std::string& text = pattern.text();
  std::vector<std::string> warnings;
  numbers_in_classes(text, warnings);
  leading_zeros(text, layers_of(matched, inventory), inventory.shape.n_layers, warnings);

  if (matched.empty()) {
    std::string single;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '\\') continue;
      single += text[i];
    }
    if (single != text && !found(single, inventory).empty())
      warnings.push_back(fmt::format(
          "two backslashes stand for one that is in the name, and no tensor has one; with single ones, "
          "{}, it would match",
          pattern_words(single)));
    return warnings;
  }
  const std::vector<int> strict = found(with_escaped_dots(text), inventory);
  if (!strict.empty() && !std::equal(strict.begin(), strict.end(), matched.begin(), matched.end())) {
    const std::vector<int> with = layers_of(strict, inventory);
    warnings.push_back(fmt::format(
        "an unescaped dot stands for any character: with \\. the rule would match {} in {}, not {} in {}",
        count_words(static_cast<int64_t>(strict.size()), "tensor"), layer_words(with),
        count_words(static_cast<int64_t>(matched.size()), "tensor"),
        layer_words(layers_of(matched, inventory))));
  }
  std::string number;
  const std::vector<int> ended = found(with_ended_numbers(text, number), inventory);
  if (!number.empty() && ended.size() < matched.size())
    warnings.push_back(
        fmt::format("blk.{} is the beginning of other numbers too: the rule matches {}; end the number with "
                    "\\. to get layer {} only",
                    number, layer_words(layers_of(matched, inventory)), number));

  const auto count = [&](auto is_it) {
    return std::count_if(matched.begin(), matched.end(),
                         [&](int t) { return is_it(inventory.tensors[static_cast<size_t>(t)]); });
  };
  const auto n_experts = count([](const Tensor& t) { return is_expert(t.part); });
  const auto n_shared = count([](const Tensor& t) { return t.part == Part::kShared; });
  const auto n_routers = count([](const Tensor& t) { return t.part == Part::kRouter; });
  if (n_experts > 0 && n_shared > 0 && text.find("shexp") == std::string::npos &&
      text.find("exp") != std::string::npos)
    warnings.push_back(fmt::format(
        "it also matches {} of shared experts (shexp), which every token uses; _exps matches routed "
        "experts only",
        count_words(n_shared, "tensor")));
  if (n_experts > 0 && n_routers > 0 && text.find("ffn") != std::string::npos)
    warnings.push_back(fmt::format(
        "it also matches {} of routers (ffn_gate_inp or the norm before it), which every token uses",
        count_words(n_routers, "tensor")));
  return warnings;
}

}  // namespace packmule::placement
