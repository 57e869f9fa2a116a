#include "grammar/schema_numbers.h"

#include <algorithm>
#include <cstdlib>

#include "grammar/grammar.h"

namespace packmule::grammar {
namespace {

/// A decimal number: sign, digits before the point without leading zeros, digits behind it without trailing
/// ones.
struct Decimal {
  bool negative = false;
  std::string whole = "0";
  std::string fraction;
  [[nodiscard]] bool zero() const { return whole == "0" && fraction.empty(); }
};

/// The digits of a JSON number, its exponent resolved.
Decimal decimal(const Json& number) {
  std::string text = json_of(number);
  Decimal out;
  if (text.starts_with('-')) out.negative = true, text.erase(0, 1);
  int exponent = 0;
  if (const size_t e = text.find_first_of("eE"); e != std::string::npos) {
    exponent = std::atoi(text.c_str() + e + 1);
    text.resize(e);
  }
  const size_t point = std::min(text.find('.'), text.size());
  std::string digits = text.substr(0, point);
  if (point < text.size()) digits += text.substr(point + 1);
  auto n_whole = static_cast<int64_t>(point) + exponent;
  if (n_whole < 1) {
    digits.insert(0, static_cast<size_t>(1 - n_whole), '0');
    n_whole = 1;
  }
  if (digits.size() < static_cast<size_t>(n_whole))
    digits.append(static_cast<size_t>(n_whole) - digits.size(), '0');
  out.whole = digits.substr(0, static_cast<size_t>(n_whole));
  out.fraction = digits.substr(static_cast<size_t>(n_whole));
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size() - 1));
  out.fraction.resize(out.fraction.find_last_not_of('0') + 1);
  if (out.zero()) out.negative = false;
  return out;
}

class Comparison {
 public:
  explicit Comparison(Source& source) : s_(source) {}

  Expr at_most(const Decimal& bound, bool less) {
    if (bound.negative) return s_.sequence({s_.text("-"), beyond(bound, less)});
    if (bound.zero() && less) return s_.sequence({s_.text("-"), beyond(bound, true)});
    return s_.choice({s_.sequence({s_.text("-"), any()}), up_to(bound, less)});
  }
  Expr at_least(const Decimal& bound, bool more) {
    if (bound.negative) return s_.choice({any(), s_.sequence({s_.text("-"), up_to(bound, more)})});
    if (bound.zero() && !more) return s_.choice({any(), s_.sequence({s_.text("-"), up_to(bound, false)})});
    return beyond(bound, more);
  }
  Expr signed_any() { return s_.sequence({s_.optional(s_.text("-")), any()}); }
  Expr signed_whole() { return s_.sequence({s_.optional(s_.text("-")), whole()}); }

 private:
  Expr digit(char first, char last) {
    if (first > last) return s_.choice({});
    return s_.chars({{static_cast<unsigned char>(first), static_cast<unsigned char>(last)}});
  }
  Expr digits(int64_t min, int64_t max) { return s_.repeat(digit('0', '9'), min, max); }
  Expr whole() { return s_.choice({s_.text("0"), s_.sequence({digit('1', '9'), digits(0, kUnlimited)})}); }
  Expr any_fraction() { return s_.optional(s_.sequence({s_.text("."), digits(1, kUnlimited)})); }
  Expr any() { return s_.sequence({whole(), any_fraction()}); }

  /// Without a sign: at most the bound, or less.
  Expr up_to(const Decimal& b, bool less) {
    return s_.choice({s_.sequence({whole_below(b.whole), any_fraction()}),
                      s_.sequence({s_.text(b.whole), fraction_up_to(b.fraction, less)})});
  }
  Expr beyond(const Decimal& b, bool more) {
    return s_.choice({s_.sequence({whole_above(b.whole), any_fraction()}),
                      s_.sequence({s_.text(b.whole), fraction_beyond(b.fraction, more)})});
  }
  Expr whole_below(const std::string& b) {
    const auto n = static_cast<int64_t>(b.size());
    std::vector<Expr> choices;
    if (n > 1)
      choices.insert(choices.end(), {s_.text("0"), s_.sequence({digit('1', '9'), digits(0, n - 2)})});
    for (size_t i = 0; i < b.size(); ++i)
      choices.push_back(s_.sequence(
          {s_.text(b.substr(0, i)), digit(i == 0 && n > 1 ? '1' : '0', static_cast<char>(b[i] - 1)),
           digits(n - 1 - static_cast<int64_t>(i), n - 1 - static_cast<int64_t>(i))}));
    return s_.choice(std::move(choices));
  }
  Expr whole_above(const std::string& b) {
    const auto n = static_cast<int64_t>(b.size());
    std::vector<Expr> choices{s_.sequence({digit('1', '9'), digits(n, kUnlimited)})};
    for (size_t i = 0; i < b.size(); ++i)
      choices.push_back(
          s_.sequence({s_.text(b.substr(0, i)),
                       digit(std::max<char>(static_cast<char>(b[i] + 1), i == 0 ? '1' : '0'), '9'),
                       digits(n - 1 - static_cast<int64_t>(i), n - 1 - static_cast<int64_t>(i))}));
    return s_.choice(std::move(choices));
  }
  /// With the point, or nothing. `b` has no trailing zeros.
  Expr fraction_up_to(const std::string& b, bool less) {
    std::vector<Expr> tails;  // behind the point
    for (size_t i = 0; i < b.size(); ++i) {
      tails.push_back(s_.sequence(
          {s_.text(b.substr(0, i)), digit('0', static_cast<char>(b[i] - 1)), digits(0, kUnlimited)}));
      if (i > 0) tails.push_back(s_.text(b.substr(0, i)));
    }
    const Expr zeros = s_.repeat(s_.text("0"), b.empty() ? 1 : 0, kUnlimited);
    if (!less) tails.push_back(s_.sequence({s_.text(b), zeros}));
    std::vector<Expr> choices{s_.sequence({s_.text("."), s_.choice(std::move(tails))})};
    if (!less || !b.empty()) choices.push_back(s_.text(""));
    return s_.choice(std::move(choices));
  }
  Expr fraction_beyond(const std::string& b, bool more) {
    std::vector<Expr> tails;
    for (size_t i = 0; i < b.size(); ++i)
      tails.push_back(s_.sequence(
          {s_.text(b.substr(0, i)), digit(static_cast<char>(b[i] + 1), '9'), digits(0, kUnlimited)}));
    if (more)
      tails.push_back(s_.sequence(
          {s_.text(b), s_.repeat(s_.text("0"), 0, kUnlimited), digit('1', '9'), digits(0, kUnlimited)}));
    else
      tails.push_back(s_.sequence({s_.text(b), digits(b.empty() ? 1 : 0, kUnlimited)}));
    std::vector<Expr> choices{s_.sequence({s_.text("."), s_.choice(std::move(tails))})};
    if (!more && b.empty()) choices.push_back(s_.text(""));
    return s_.choice(std::move(choices));
  }

  Source& s_;
};

}  // namespace

Result<Expr> number_between(JsonRules& rules, bool whole, const std::optional<Bound>& low,
                            const std::optional<Bound>& high, Effort& effort) {
  Source& source = rules.source();
  Comparison compare(source);
  PACKMULE_TRY(Dfa dfa, automaton_of(source, whole ? compare.signed_whole() : compare.signed_any(), effort));
  if (low) {
    PACKMULE_TRY(const Dfa one,
                 automaton_of(source, compare.at_least(decimal(low->value), low->excluded), effort));
    PACKMULE_TRY(dfa, intersect(dfa, one, effort));
  }
  if (high) {
    PACKMULE_TRY(const Dfa one,
                 automaton_of(source, compare.at_most(decimal(high->value), high->excluded), effort));
    PACKMULE_TRY(dfa, intersect(dfa, one, effort));
  }
  return source.automaton(std::move(dfa));
}

}  // namespace packmule::grammar
