#include "grammar/text_classes.h"

#include <string>

#include "base/utf8.h"

namespace packmule::grammar {
namespace {

constexpr bool is_in(int c, char first, char last) {
  return c >= first && c <= last;
}

/// The number of a byte's class, below 62 for ASCII.
constexpr std::array<uint8_t, 256> kNumbers = [] {
  std::array<uint8_t, 256> out{};
  uint8_t next = 6;  // what follows are single characters
  for (int c = 0; c < 256; ++c) {
    uint8_t& number = out[static_cast<size_t>(c)];
    if (c >= 0x80)
      number = 63;
    else if (c == '0' || is_in(c, '1', '9'))
      number = 0;
    else if (is_in(c, 'a', 'f'))
      number = 1;
    else if (is_in(c, 'g', 'z'))
      number = 2;
    else if (is_in(c, 'A', 'F'))
      number = 3;
    else if (is_in(c, 'G', 'Z'))
      number = 4;
    else if (c == 0x7f || (c < 0x20 && c != '\n' && c != '\r' && c != '\t'))
      number = 5;
    else
      number = next++;
  }
  return out;
}();

/// The bytes of all classes, one behind the other.
struct Members {
  std::array<std::vector<uint8_t>, 64> of;
  Members() {
    for (int c = 0; c < 256; ++c) of[kNumbers[static_cast<size_t>(c)]].push_back(static_cast<uint8_t>(c));
  }
};

}  // namespace

ClassSet class_of(uint8_t byte) {
  return byte >= 0x80 ? kMultiByte | kRawBytes : ClassSet{1} << kNumbers[byte];
}

std::span<const uint8_t> Loops::bytes_of(ClassSet one) {
  static const Members members;
  return members.of[static_cast<size_t>(__builtin_ctzll(one))];
}

TextClasses::TextClasses(const TokenTrie& trie) : begins(trie.nodes().size(), 0) {
  const auto& nodes = trie.nodes();
  n_before.assign(nodes.size(), kInside);
  std::vector<uint32_t> path;
  std::string text;
  std::vector<ClassSet> from;  // of the text from a byte on
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    path.resize(nodes[i].depth);
    text.resize(nodes[i].depth);
    path.push_back(i);
    text += static_cast<char>(nodes[i].byte);
    const auto [first, last] = trie.values(i);
    if (first == last) continue;
    from.assign(text.size() + 1, 0);
    for (size_t at = text.size(); at-- > 0;) {
      const auto [kind, size] = utf8_unit(text, at);
      if (kind == Utf8Kind::kInvalid)
        from[at] = kRawBytes | from[at + 1];
      else if (static_cast<uint8_t>(text[at]) < 0x80)
        from[at] = class_of(static_cast<uint8_t>(text[at])) | from[at + 1];
      else
        from[at] = kMultiByte | (kind == Utf8Kind::kCharacter ? from[at + size] : 0);
      begins[path[at]] |= from[at];
    }
    uint16_t n = 0;
    for (size_t at = 0; at < text.size(); at += utf8_unit(text, at).size_bytes) n_before[path[at]] = n++;
    if (n > 1)
      for (const uint32_t* value = first; value != last; ++value)
        needs.push_back({.n = n - 1u, .value = *value});
  }
  std::stable_sort(needs.begin(), needs.end(), [](const Need& a, const Need& b) { return a.n > b.n; });
}

}  // namespace packmule::grammar
