#include "grammar/gbnf.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/utf8.h"

namespace packmule::grammar {
namespace {

constexpr int kMaxDepth = 64;
constexpr int64_t kMaxRepetition = 100'000;

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfParser {
 public:
  GbnfParser(std::string_view text, Source& source) : text_(text), source_(source) {}

  Result<RuleId> run() {
    skip(true);
    while (at_ < text_.size()) {
      if (!rule()) return error();
      skip(true);
    }
    for (const auto& [name, use] : uses_) {
      if (source_.rules()[use.id].defined) continue;
      at_ = use.at;
      return error("rule '" + name + "' is used but not defined");
    }
    const auto root = uses_.find("root");
    if (root == uses_.end() || !source_.rules()[root->second.id].defined) {
      at_ = text_.size();
      return error("there is no rule 'root'");
    }
    return root->second.id;
  }

 private:
  struct Use {
    RuleId id;
    size_t at;  // first seen
  };

  tl::unexpected<Error> error(std::string what = {}) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t column = at_ - (before.rfind('\n') + 1) + 1;
    return fail(ErrorKind::kInvalidArgument, "grammar, line {}, column {}: {}", line, column,
                what.empty() ? problem_ : what);
  }
  bool problem(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
    return false;
  }
  [[nodiscard]] char peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool take(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }
  /// White space and comments; line ends too if `lines`.
  void skip(bool lines) {
    for (; at_ < text_.size(); ++at_) {
      if (peek() == '#')
        while (at_ + 1 < text_.size() && text_[at_ + 1] != '\n' && text_[at_ + 1] != '\r') ++at_;
      else if (!(peek() == ' ' || peek() == '\t' || (lines && (peek() == '\n' || peek() == '\r'))))
        return;
    }
  }
  std::string_view name() {
    const size_t begin = at_;
    while (is_name_char(peek())) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  RuleId id_of(std::string_view name, size_t at) {
    const auto [found, added] = uses_.try_emplace(std::string(name));
    if (added) found->second = {source_.add_rule(std::string(name)), at};
    return found->second.id;
  }

  bool rule() {
    const size_t begin = at_;
    const std::string_view rule_name = name();
    if (rule_name.empty()) return problem("expected the name of a rule");
    const RuleId id = id_of(rule_name, begin);
    if (source_.rules()[id].defined) {
      at_ = begin;
      return problem("rule '" + std::string(rule_name) + "' is defined twice");
    }
    skip(false);
    if (text_.substr(at_, 3) != "::=")
      return problem("expected '::=' behind the name '" + std::string(rule_name) + "'");
    at_ += 3;
    skip(true);
    const auto body = alternatives(0);
    if (!body) return false;
    source_.define(id, *body);
    skip(false);
    if (at_ < text_.size() && peek() != '\n' && peek() != '\r')
      return problem("expected the end of the rule, or what may stand in one");
    return true;
  }

  std::optional<Expr> alternatives(int depth) {
    std::vector<Expr> choices;
    do {
      skip(depth > 0 || !choices.empty());
      const auto one = sequence(depth);
      if (!one) return std::nullopt;
      choices.push_back(*one);
      skip(depth > 0);
    } while (take('|'));
    return source_.choice(std::move(choices));
  }

  std::optional<Expr> sequence(int depth) {
    std::vector<Expr> parts;
    for (;;) {
      skip(depth > 0);
      std::optional<Expr> part;
      const size_t begin = at_;
      if (is_name_char(peek())) {
        const std::string_view rule_name = name();
        part = source_.rule(id_of(rule_name, begin));
      } else if (take('"')) {
        part = literal();
      } else if (take('[')) {
        part = char_class();
      } else if (take('.')) {
        part = source_.chars({{0, kLastChar}});
      } else if (take('(')) {
        part = group(depth);
      } else if (peek() == '<' || (peek() == '!' && peek(1) == '<')) {
        problem("literals of tokens are not supported: write their text in quotes");
        return std::nullopt;
      } else {
        return source_.sequence(std::move(parts));
      }
      if (part) part = repetition(*part, depth);
      if (!part) return std::nullopt;
      parts.push_back(*part);
    }
  }

  std::optional<Expr> group(int depth) {
    if (depth >= kMaxDepth) {
      problem("parentheses are nested deeper than " + std::to_string(kMaxDepth) + " levels");
      return std::nullopt;
    }
    const auto inner = alternatives(depth + 1);
    if (!inner) return std::nullopt;
    skip(true);
    if (!take(')')) {
      problem("expected ')'");
      return std::nullopt;
    }
    return inner;
  }

  std::optional<Expr> repetition(Expr what, int depth) {
    for (int n_marks = 0;; ++n_marks) {
      const size_t before = at_;
      skip(depth > 0);
      if (take('*')) {
        what = source_.repeat(what, 0, kUnlimited);
      } else if (take('+')) {
        what = source_.repeat(what, 1, kUnlimited);
      } else if (take('?')) {
        what = source_.optional(what);
      } else if (take('{')) {
        const auto bounded = bounds(what);
        if (!bounded) return std::nullopt;
        what = *bounded;
      } else {
        at_ = before;
        return what;
      }
      if (n_marks >= kMaxMarks) {
        problem("too many repetitions of the same thing in a row");
        return std::nullopt;
      }
    }
  }

  std::optional<Expr> bounds(Expr what) {
    const auto number = [&]() -> std::optional<int64_t> {
      skip(false);
      int64_t value = 0;
      const size_t begin = at_;
      for (; peek() >= '0' && peek() <= '9' && value <= kMaxRepetition; ++at_)
        value = value * 10 + (peek() - '0');
      skip(false);
      if (at_ == begin) return std::nullopt;
      return value;
    };
    const size_t begin = at_;
    const auto refuse = [&](std::string reason) {
      at_ = begin;
      problem(std::move(reason));
      return std::optional<Expr>();
    };
    const auto min = number();
    auto max = min;
    if (take(',')) {
      max = number();
      if (!max) max = kUnlimited;
    }
    if (!min || !take('}')) return refuse("expected {n}, {n,} or {n,m} with whole numbers");
    if (*min > kMaxRepetition || *max > kMaxRepetition)
      return refuse("repetitions of more than " + std::to_string(kMaxRepetition) + " are not supported");
    if (*max != kUnlimited && *max < *min) return refuse("the upper bound is below the lower one");
    return source_.repeat(what, *min, *max);
  }

  std::optional<uint32_t> character() {
    if (!take('\\')) {
      const Utf8Unit unit = utf8_unit(text_, at_);
      if (unit.kind != Utf8Kind::kCharacter) {
        problem("this is not valid UTF-8");
        return std::nullopt;
      }
      const uint32_t c = code_point(text_.substr(at_, unit.size_bytes));
      at_ += unit.size_bytes;
      return c;
    }
    const char escape = peek();
    ++at_;
    switch (escape) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        return static_cast<uint32_t>(escape);
      case 'x':
        return hex(2);
      case 'u':
        return hex(4);
      case 'U':
        return hex(8);
      default:
        --at_;
        problem("unknown escape");
        return std::nullopt;
    }
  }
  std::optional<uint32_t> hex(int n_digits) {
    uint64_t value = 0;
    for (int i = 0; i < n_digits; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) {
        problem("expected " + std::to_string(n_digits) + " hexadecimal digits");
        return std::nullopt;
      }
      value = value << 4 | static_cast<uint64_t>(digit);
    }
    if (value > kLastChar || (value >= 0xd800 && value <= 0xdfff)) {
      problem("the escape stands for no character");
      return std::nullopt;
    }
    return static_cast<uint32_t>(value);
  }

  std::optional<Expr> literal() {
    std::string bytes;
    while (at_ < text_.size() && peek() != '"') {
      const auto c = character();
      if (!c) return std::nullopt;
      bytes += utf8_of(*c);
    }
    if (!take('"')) {
      problem("a literal does not end");
      return std::nullopt;
    }
    return source_.text(bytes);
  }

  std::optional<Expr> char_class() {
    const bool negated = take('^');
    CharSet set;
    while (at_ < text_.size() && peek() != ']') {
      const auto first = character();
      if (!first) return std::nullopt;
      auto last = first;
      if (peek() == '-' && peek(1) != ']') {
        ++at_;
        if (at_ >= text_.size()) break;
        last = character();
        if (!last) return std::nullopt;
        if (*last < *first) {
          problem("the range of a character class goes backwards");
          return std::nullopt;
        }
      }
      set.push_back({*first, *last});
    }
    if (!take(']')) {
      problem("a character class does not end");
      return std::nullopt;
    }
    if (set.empty()) {
      problem("a character class is empty");
      return std::nullopt;
    }
    return source_.chars(negated ? complement(std::move(set)) : std::move(set));
  }

  static constexpr int kMaxMarks = 4;
  std::string_view text_;
  Source& source_;
  size_t at_ = 0;
  std::string problem_;
  std::map<std::string, Use, std::less<>> uses_;
};

}  // namespace

Result<RuleId> read_gbnf(std::string_view text, Source& source) {
  if (text.size() > kMaxGbnfBytes)
    return fail(ErrorKind::kInvalidArgument, "grammar: {} bytes, at most {} are accepted", text.size(),
                kMaxGbnfBytes);
  return GbnfParser(text, source).run();
}

Result<std::shared_ptr<const Grammar>> compile_gbnf(std::string_view text) {
  Source source;
  PACKMULE_TRY(const RuleId root, read_gbnf(text, source));
  Effort effort;
  auto grammar = Grammar::compile(source, root, effort);
  if (!grammar) return fail(grammar.error().kind, "grammar: {}", grammar.error().message);
  return grammar;
}

}  // namespace packmule::grammar
