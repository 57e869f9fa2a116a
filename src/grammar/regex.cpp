#include "grammar/regex.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/utf8.h"

namespace packmule::grammar {
namespace {

constexpr int kMaxDepth = 64;
constexpr int64_t kMaxRepetition = 100'000;
constexpr size_t kMaxBytes = 16384;

const CharSet kDigits = {{'0', '9'}};
const CharSet kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharSet kSpace = {{9, 13},          {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                        {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                        {0x3000, 0x3000}, {0xfeff, 0xfeff}};
const CharSet kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class RegexParser {
 public:
  RegexParser(std::string_view pattern, Source& source, const WriteChars& write)
      : pattern_(pattern), source_(source), write_(write) {}

  Result<Expr> run() {
    if (pattern_.size() > kMaxBytes)
      return fail(ErrorKind::kUnsupported, "the pattern has {} bytes, at most {} are supported",
                  pattern_.size(), kMaxBytes);
    const auto whole = alternatives(0, true);
    if (whole && at_ < pattern_.size()) problem("')' without a '('");
    if (!whole || !problem_.empty())
      return fail(ErrorKind::kUnsupported, "the pattern '{}' at byte {}: {}", printable(pattern_, 80), at_,
                  problem_);
    return *whole;
  }

 private:
  std::nullopt_t problem(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
    return std::nullopt;
  }
  [[nodiscard]] bool more() const { return at_ < pattern_.size(); }
  [[nodiscard]] char peek(size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool take(char c) {
    if (!more() || peek() != c) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  Expr any_text() { return source_.repeat(write_(source_, {{0, kLastChar}}), 0, kUnlimited); }

  /// `edges`: the alternatives reach from the beginning to the end of the pattern, so that anchors may stand
  /// in them.
  std::optional<Expr> alternatives(int depth, bool edges) {
    std::vector<Expr> choices;
    do {
      const auto one = sequence(depth, edges);
      if (!one) return std::nullopt;
      choices.push_back(*one);
    } while (take('|'));
    return source_.choice(std::move(choices));
  }

  std::optional<Expr> sequence(int depth, bool edges) {
    std::vector<Expr> parts;
    bool begins = false;
    if (edges) {
      while (take('^')) begins = true;
      // A group that is all of the pattern may hold the anchors: ^(?:a|b)$ and (^a$|^b$).
      if (!begins && peek() == '(' && group_is_rest()) {
        const auto inner = group(depth, true);
        if (!inner) return std::nullopt;
        return inner;
      }
      if (!begins) parts.push_back(any_text());
    }
    bool ends = false;
    while (more() && peek() != '|' && peek() != ')') {
      if (take('$')) {
        if (!edges || (more() && peek() != '|' && peek() != ')' && peek() != '$'))
          return problem("the anchor '$' is supported at the end only");
        ends = true;
        continue;
      }
      const auto part = term(depth);
      if (!part) return std::nullopt;
      parts.push_back(*part);
    }
    if (edges && !ends) parts.push_back(any_text());
    return source_.sequence(std::move(parts));
  }

  /// Whether the group that begins here ends where its alternative does, without a quantifier.
  [[nodiscard]] bool group_is_rest() const {
    int open = 0;
    bool in_class = false;
    for (size_t i = at_; i < pattern_.size(); ++i) {
      const char c = pattern_[i];
      if (c == '\\')
        ++i;
      else if (in_class)
        in_class = c != ']';
      else if (c == '[')
        in_class = true;
      else if (c == '(')
        ++open;
      else if (c == ')' && --open == 0)
        return i + 1 == pattern_.size() || pattern_[i + 1] == '|' || pattern_[i + 1] == ')';
    }
    return false;
  }

  std::optional<Expr> group(int depth, bool edges) {
    if (depth >= kMaxDepth) return problem("groups are nested too deeply");
    take('(');
    if (peek() == '?') {
      if (take("?=") || take("?!")) return problem("look-ahead is not supported");
      if (take("?<=") || take("?<!")) return problem("look-behind is not supported");
      if (take("?<")) {
        while (more() && peek() != '>') ++at_;
        if (!take('>')) return problem("the name of a group does not end");
      } else if (!take("?:")) {
        return problem("this kind of group is not supported");
      }
    }
    const auto inner = alternatives(depth + 1, edges);
    if (!inner) return std::nullopt;
    if (!take(')')) return problem("a group does not end");
    return inner;
  }

  std::optional<Expr> term(int depth) {
    std::optional<Expr> what;
    const char c = peek();
    if (c == '(') {
      what = group(depth, false);
    } else if (c == '[') {
      ++at_;
      const auto set = char_class();
      if (set) what = write_(source_, *set);
    } else if (c == '.') {
      ++at_;
      what = write_(source_, complement(kLineEnds));
    } else if (c == '^') {
      return problem("the anchor '^' is supported at the beginning only");
    } else if (c == '*' || c == '+' || c == '?') {
      return problem("a quantifier without anything to repeat");
    } else {
      const auto set = c == '\\' ? escape(false) : literal();
      if (set) what = write_(source_, *set);
    }
    if (!what) return std::nullopt;
    return quantified(*what);
  }

  std::optional<Expr> quantified(Expr what) {
    int64_t min = 1, max = 1;
    if (take('*')) {
      min = 0, max = kUnlimited;
    } else if (take('+')) {
      max = kUnlimited;
    } else if (take('?')) {
      min = 0;
    } else if (peek() == '{') {
      const size_t begin = at_++;
      const auto low = number();
      auto high = low;
      if (take(',')) {
        high = number();
        if (!high) high = kUnlimited;
      }
      if (!low || !take('}')) {
        at_ = begin;
        return problem("expected {n}, {n,} or {n,m}");
      }
      if (*low > kMaxRepetition || *high > kMaxRepetition || (*high != kUnlimited && *high < *low))
        return problem("a repetition with bounds that are too large or in the wrong order");
      min = *low, max = *high;
    } else {
      return what;
    }
    take('?');  // as few as possible: the same strings
    if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{')
      return problem("a quantifier behind a quantifier");
    return source_.repeat(what, min, max);
  }
  std::optional<int64_t> number() {
    const size_t begin = at_;
    int64_t value = 0;
    for (; peek() >= '0' && peek() <= '9' && value <= kMaxRepetition; ++at_)
      value = value * 10 + (peek() - '0');
    if (at_ == begin) return std::nullopt;
    return value;
  }

  std::optional<CharSet> literal() {
    const Utf8Unit unit = utf8_unit(pattern_, at_);
    if (unit.kind != Utf8Kind::kCharacter) {
      problem("not valid UTF-8");
      return std::nullopt;
    }
    const uint32_t c = code_point(pattern_.substr(at_, unit.size_bytes));
    at_ += unit.size_bytes;
    return CharSet{{c, c}};
  }

  std::optional<uint32_t> hex(int n_digits) {
    uint32_t value = 0;
    for (int i = 0; i < n_digits; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return problem("expected hexadecimal digits");
      value = value << 4 | static_cast<uint32_t>(digit);
    }
    return value;
  }

  std::optional<CharSet> escape(bool in_class) {
    ++at_;
    if (!more()) {
      problem("an escape does not end");
      return std::nullopt;
    }
    const char c = peek();
    ++at_;
    const auto one = [](uint32_t code) { return CharSet{{code, code}}; };
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return complement(kDigits);
      case 'w':
        return kWord;
      case 'W':
        return complement(kWord);
      case 's':
        return kSpace;
      case 'S':
        return complement(kSpace);
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'v':
        return one(0x0b);
      case 'f':
        return one('\f');
      case 'r':
        return one('\r');
      case 'x': {
        const auto code = hex(2);
        if (!code) return std::nullopt;
        return one(*code);
      }
      case 'u':
        return unicode_escape();
      case 'c': {
        const char letter = peek();
        if (!((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z'))) break;
        ++at_;
        return one(static_cast<uint32_t>(letter) & 0x1f);
      }
      case '0':
        if (peek() >= '0' && peek() <= '9') break;
        return one(0);
      case 'b':
        if (in_class) return one('\b');
        problem("the word boundary \\b is not supported");
        return std::nullopt;
      case 'B':
        problem("\\B is not supported");
        return std::nullopt;
      case 'p':
      case 'P':
        problem("Unicode properties (\\p) are not supported");
        return std::nullopt;
      case 'k':
        problem("back-references are not supported");
        return std::nullopt;
      default:
        if (c >= '1' && c <= '9') {
          problem("back-references are not supported");
          return std::nullopt;
        }
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80))
          return one(static_cast<unsigned char>(c));
    }
    problem("unknown escape");
    return std::nullopt;
  }
  std::optional<CharSet> unicode_escape() {
    std::optional<uint32_t> code;
    if (take('{')) {
      uint32_t value = 0;
      while (more() && peek() != '}' && value <= kLastChar) {
        const auto digit = hex(1);
        if (!digit) return std::nullopt;
        value = value << 4 | *digit;
      }
      if (!take('}')) {
        problem("an escape does not end");
        return std::nullopt;
      }
      code = value;
    } else {
      code = hex(4);
      if (code && *code >= 0xd800 && *code <= 0xdbff && take("\\u")) {
        const auto low = hex(4);
        if (!low) return std::nullopt;
        if (*low < 0xdc00 || *low > 0xdfff) {
          problem("half of a surrogate pair");
          return std::nullopt;
        }
        code = 0x10000 + ((*code - 0xd800) << 10) + (*low - 0xdc00);
      }
    }
    if (!code) return std::nullopt;
    if (*code > kLastChar || (*code >= 0xd800 && *code <= 0xdfff)) {
      problem("the escape stands for no character");
      return std::nullopt;
    }
    return CharSet{{*code, *code}};
  }

  std::optional<CharSet> char_class() {
    const bool negated = take('^');
    CharSet set;
    while (more() && peek() != ']') {
      const auto first = peek() == '\\' ? escape(true) : literal();
      if (!first) return std::nullopt;
      const bool single = first->size() == 1 && first->front().first == first->front().last;
      if (single && peek() == '-' && peek(1) != ']' && at_ + 1 < pattern_.size()) {
        ++at_;
        const auto last = peek() == '\\' ? escape(true) : literal();
        if (!last) return std::nullopt;
        if (last->size() != 1 || last->front().first != last->front().last ||
            last->front().first < first->front().first) {
          problem("a range of a class that goes backwards or has a class at its end");
          return std::nullopt;
        }
        set.push_back({first->front().first, last->front().first});
      } else {
        set.insert(set.end(), first->begin(), first->end());
      }
    }
    if (!take(']')) {
      problem("a class does not end");
      return std::nullopt;
    }
    return negated ? complement(std::move(set)) : normalized(std::move(set));
  }

  std::string_view pattern_;
  Source& source_;
  const WriteChars& write_;
  size_t at_ = 0;
  std::string problem_;
};

}  // namespace

Result<Expr> read_regex(std::string_view pattern, Source& source, const WriteChars& write) {
  return RegexParser(pattern, source, write).run();
}

}  // namespace packmule::grammar
