// The masks of random grammars and vocabularies against brute force, and the machine against a matcher that
// follows the expressions as they stand.
#include "grammar/matcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "grammar/gbnf.h"

namespace packmule::grammar {
namespace {

using Random = std::mt19937;

size_t below(Random& random, size_t n) {
  return random() % n;
}

/// A GBNF text of a few rules over the letters a to d. Rules call only what comes behind at least one letter
/// or has a higher number, so that there is no left recursion.
class RandomGrammar {
 public:
  explicit RandomGrammar(Random& random) : random_(random), n_rules_(1 + below(random, 4)) {}

  std::string text() {
    std::string out;
    for (rule_ = 0; rule_ < n_rules_; ++rule_)
      out += (rule_ == 0 ? std::string("root") : "r" + std::to_string(rule_)) +
             " ::= " + choice(kDepth, false) + "\n";
    return out;
  }

 private:
  std::string choice(int depth, bool behind) {
    std::string out = sequence(depth, behind);
    for (size_t n = below(random_, 3); n > 0; --n) out += " | " + sequence(depth, behind);
    return out;
  }
  std::string sequence(int depth, bool behind) {
    std::string out;
    for (size_t n = below(random_, 4); n > 0; --n) out += item(depth, behind) + " ";
    return out.empty() ? "\"\"" : out;
  }
  std::string item(int depth, bool& behind) {
    // Counted repetitions inside of each other have too many readings.
    static const char* kRepeats[] = {"",    "",      "",      "",     "*",       "+",     "?",
                                     "{2}", "{1,3}", "{0,2}", "{2,}", "{3,450}", "{420,}"};
    const std::string repeat = kRepeats[below(random_, std::size(kRepeats) - (depth == kDepth ? 0 : 2))];
    const bool may_be_none = repeat == "*" || repeat == "?" || repeat == "{0,2}";
    std::string what;
    switch (below(random_, depth > 0 ? 6 : 3)) {
      case 0:
        what = std::string({'"', letter(), '"'});
        break;
      case 1:
        what = std::string({'"', letter(), letter(), '"'});
        break;
      case 2:
        what = below(random_, 2) == 0 ? "[ab]" : "[^b]";
        break;
      case 3: {
        const size_t lowest = behind ? 0 : rule_ + 1;
        if (lowest >= n_rules_) return "\"a\"";
        const size_t r = lowest + below(random_, n_rules_ - lowest);
        return r == 0 ? "root" : "r" + std::to_string(r);
      }
      default:
        what = "(" + choice(depth - 1, behind) + ")";
        return what + repeat;  // may match nothing: what follows is not behind a letter for sure
    }
    behind = behind || !may_be_none;
    return what + repeat;
  }
  static constexpr int kDepth = 3;
  char letter() { return static_cast<char>('a' + below(random_, 3)); }

  Random& random_;
  size_t n_rules_;
  size_t rule_ = 0;
};

/// All ends of what an expression matches at a place, by following it; slow and plain.
class Reference {
 public:
  Reference(const Source& source, std::string_view text) : source_(source), text_(text) {}

  std::set<size_t> ends(Expr e, size_t at) {
    const auto known = memo_.find({e, at});
    if (known != memo_.end()) return known->second;
    const Source::Node& node = source_.node(e);
    std::set<size_t> out;
    switch (node.kind) {
      case Source::Kind::kText:
        if (text_.substr(at).starts_with(node.text)) out.insert(at + node.text.size());
        break;
      case Source::Kind::kChars:
        if (at < text_.size() && contains(node.chars, static_cast<unsigned char>(text_[at])))
          out.insert(at + 1);
        break;
      case Source::Kind::kSequence:
        out = {at};
        for (const Expr child : node.children) out = after(out, child);
        break;
      case Source::Kind::kChoice:
        for (const Expr child : node.children) out.merge(ends(child, at));
        break;
      case Source::Kind::kRepeat: {
        std::set<size_t> now{at};
        // Beyond this many, repetitions can only be empty ones.
        const int64_t most =
            node.max == kUnlimited ? node.min + static_cast<int64_t>(text_.size()) + 1 : node.max;
        for (int64_t n = 0; n <= most && !now.empty(); ++n) {
          if (n >= node.min) out.insert(now.begin(), now.end());
          now = after(now, node.children[0]);
        }
        break;
      }
      case Source::Kind::kRule:
        out = ends(source_.rules()[node.rule].body, at);
        break;
      case Source::Kind::kAutomaton:
      case Source::Kind::kGraph:
        ADD_FAILURE() << "GBNF has none";
    }
    return memo_[{e, at}] = out;
  }

 private:
  std::set<size_t> after(const std::set<size_t>& begins, Expr e) {
    std::set<size_t> out;
    for (const size_t b : begins) out.merge(ends(e, b));
    return out;
  }
  const Source& source_;
  std::string_view text_;
  std::map<std::pair<Expr, size_t>, std::set<size_t>> memo_;
};

std::shared_ptr<const Vocabulary> random_vocabulary(Random& random) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back();          // no text
  tokens.emplace_back("<end>");   // ends
  tokens.emplace_back(100, 'a');  // longer than what is repeated
  tokens.emplace_back("\xc3\xa4");
  tokens.emplace_back("b\xc3");
  for (int i = 0; i < 200; ++i) {
    std::string token;
    for (size_t n = 2 + below(random, 5); n > 0; --n) token += static_cast<char>('a' + below(random, 4));
    tokens.push_back(token);
  }
  return std::make_shared<const Vocabulary>(std::move(tokens), std::vector<int32_t>{257});
}

bool bit(sampling::TokenMask mask, size_t id) {
  return (mask[id / 64] >> (id % 64) & 1) != 0;
}

TEST(Machine, AgreesWithTheExpressions) {
  Random random(11);
  int n_whole = 0, n_grammars = 0, n_overflowed = 0;
  for (int round = 0; round < 250; ++round) {
    const std::string text = RandomGrammar(random).text();
    SCOPED_TRACE(text);
    Source source;
    const auto root = read_gbnf(text, source);
    ASSERT_TRUE(root.has_value()) << root.error().message;
    Effort effort;
    const auto grammar = Grammar::compile(source, *root, effort);
    if (!grammar) {
      EXPECT_THAT(grammar.error().message, testing::HasSubstr("no text at all"));
      continue;
    }
    ++n_grammars;
    Machine machine(*grammar);
    // All texts over three letters up to a length, then longer ones drawn by the machine itself.
    std::vector<std::string> texts{""};
    for (size_t i = 0; i < texts.size() && texts[i].size() < 4; ++i)
      for (const char c : {'a', 'b', 'd'}) texts.push_back(texts[i] + c);
    for (int i = 0; i < 10; ++i) {
      std::string drawn;
      ConfigId config = machine.start();
      for (int n = 0; n < 30; ++n) {
        const char c = static_cast<char>('a' + below(random, 4));
        const ConfigId next = machine.step(config, static_cast<uint8_t>(c));
        if (next == Machine::kDead) continue;
        config = next;
        drawn += c;
      }
      texts.push_back(drawn);
      texts.push_back(drawn + "b");
    }
    std::set<std::string> alive;
    for (auto it = texts.rbegin(); it != texts.rend(); ++it) {
      ConfigId config = machine.start();
      for (const char c : *it) config = machine.step(config, static_cast<uint8_t>(c));
      if (machine.overflowed()) break;
      const bool whole = Reference(source, *it).ends(source.rules()[*root].body, 0).contains(it->size());
      ASSERT_EQ(machine.complete(config), whole) << "'" << *it << "'";
      n_whole += whole ? 1 : 0;
      if (config != Machine::kDead) alive.insert(*it);
    }
    if (machine.overflowed()) {  // says so, and nothing else counts
      ++n_overflowed;
      continue;
    }
    for (const std::string& one : alive)
      for (size_t n = 0; n < one.size(); ++n) {
        ConfigId config = machine.start();
        for (const char c : one.substr(0, n)) config = machine.step(config, static_cast<uint8_t>(c));
        ASSERT_NE(config, Machine::kDead);
      }
  }
  EXPECT_GT(n_grammars, 200);
  EXPECT_LT(n_overflowed, 30);
  EXPECT_GT(n_whole, 3000);
}

/// Every bit of the mask, by trying the token's bytes.
void check_mask(Matcher& matcher, const std::shared_ptr<const Grammar>& grammar, const Vocabulary& vocabulary,
                const std::string& so_far) {
  const auto mask = matcher.mask();
  ASSERT_TRUE(mask.has_value()) << mask.error().message;
  Machine machine(grammar);
  ConfigId config = machine.start();
  for (const char c : so_far) config = machine.step(config, static_cast<uint8_t>(c));
  for (size_t id = 0; id < vocabulary.n_tokens(); ++id) {
    const std::string_view bytes = vocabulary.bytes(static_cast<int32_t>(id));
    ConfigId next = config;
    for (const char c : bytes) next = machine.step(next, static_cast<uint8_t>(c));
    const bool ends = id == 257;
    const bool expected = ends ? machine.complete(config) : !bytes.empty() && next != Machine::kDead;
    ASSERT_EQ(bit(*mask, id), expected) << "token " << id << " '" << bytes << "' behind '" << so_far << "'";
  }
}

TEST(Matcher, MasksAreWhatTheBytesSay) {
  Random random(12);
  int n_masks = 0, n_overflowed = 0;
  for (int round = 0; round < 100; ++round) {
    const std::string text = RandomGrammar(random).text();
    SCOPED_TRACE(text);
    const auto grammar = compile_gbnf(text);
    if (!grammar) continue;
    const auto vocabulary = random_vocabulary(random);
    const auto tokens = std::make_shared<const TokenGrammar>(*grammar, vocabulary);
    for (int walk = 0; walk < 2; ++walk) {
      Matcher matcher(tokens);
      std::string so_far;
      for (int n = 0; n < 12; ++n) {
        if (const auto mask = matcher.mask();
            !mask && mask.error().message.find("too ambiguous") != std::string::npos) {
          ++n_overflowed;
          break;
        }
        check_mask(matcher, *grammar, *vocabulary, so_far);
        if (testing::Test::HasFatalFailure()) return;
        ++n_masks;
        const auto mask = matcher.mask();
        std::vector<int32_t> allowed;
        for (size_t id = 0; id < vocabulary->n_tokens(); ++id)
          if (bit(*mask, id) && id != 257) allowed.push_back(static_cast<int32_t>(id));
        if (allowed.empty()) {
          EXPECT_TRUE(matcher.may_end());
          break;
        }
        // Of the allowed ones mostly those with several letters.
        const int32_t token =
            allowed[below(random, 4) == 0
                        ? below(random, allowed.size())
                        : allowed.size() - 1 - below(random, std::min<size_t>(allowed.size(), 40))];
        ASSERT_TRUE(matcher.accept(token).has_value());
        so_far += vocabulary->bytes(token);
      }
    }
  }
  EXPECT_GT(n_masks, 1000);
  EXPECT_LT(n_overflowed, 30);
}

/// Tokens of text as vocabularies have them, many of them, with characters cut at any byte.
std::shared_ptr<const Vocabulary> text_vocabulary(Random& random) {
  const std::vector<std::string> pieces = {"a",
                                           "b",
                                           "Z",
                                           "0",
                                           "7",
                                           " ",
                                           "\"",
                                           "\\",
                                           "\n",
                                           "<",
                                           ">",
                                           "/",
                                           "p",
                                           "\t",
                                           "\x01",
                                           "\xc3\xa4",
                                           "\xe4\xb8\xad",
                                           "\xf0\x9f\x98\x80",
                                           "\xed\x9f\xbf",
                                           "\xff",
                                           "\xed\xa0\x80",
                                           "\xc0\x80"};
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back();
  tokens.emplace_back("<end>");
  for (int i = 0; i < 6000; ++i) {
    std::string token = below(random, 4) == 0 ? " " : "";
    // Mostly text, so that there are large parts of the tree without anything else.
    for (size_t n = 1 + below(random, 5); n > 0; --n)
      token += pieces[below(random, 3) == 0 ? below(random, pieces.size()) : below(random, 6)];
    if (below(random, 4) == 0) token = token.substr(below(random, token.size()));
    if (below(random, 4) == 0) token.resize(1 + below(random, token.size()));
    tokens.push_back(token);
  }
  return std::make_shared<const Vocabulary>(std::move(tokens), std::vector<int32_t>{257});
}

TEST(Matcher, MasksOfTextsAreWhatTheBytesSay) {
  Random random(16);
  const auto vocabulary = text_vocabulary(random);
  const std::vector<std::string> begins = {"",          "a",    "aa",         "\"",
                                           "\"a",       "\"\\", "\"\xc3",     "\"a\"",
                                           " ",         "<",    "a<",         "a</",
                                           "a</p",      "\n",   "\n  ",       "\xe4\xb8",
                                           "a\xf0\x9f", "\xf0", "aaaaaaaaaa", "\"aaaaaaaaaaaaaaaaaaaa"};
  int n_masks = 0;
  for (const char* text :
       {R"g(root ::= "\"" ([^"\\\x00-\x1f] | "\\" ["\\/bn])* "\"" [,\]]*)g",       // a JSON string
        R"g(root ::= "\"" ([^"\\\x00-\x1f] | "\\" ["\\/bn]){0,30} "\"" [,\]]*)g",  // a short one
        R"g(root ::= ws [^<]* ws
               ws ::= "" | " " | "\n" [ \t]{0,64})g",   // anything behind white space
        R"g(root ::= ([^<] | "<" [^/])* "</p" ">"*)g",  // up to a tag
        R"g(root ::= [a-z]* [^a-z]*)g", R"g(root ::= ([a-z] [^a-z])*)g", R"g(root ::= [^b]{2,12} [^c]{3})g",
        R"g(root ::= ([a-z0-9 ] | [^a-z0-9 ] "a"){2,400} "<")g"}) {
    SCOPED_TRACE(text);
    const auto grammar = compile_gbnf(text);
    ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
    const auto tokens = std::make_shared<const TokenGrammar>(*grammar, vocabulary);
    for (const std::string& so_far : begins) {
      Matcher matcher(tokens);
      if (!matcher.accept(std::string_view(so_far))) continue;
      check_mask(matcher, *grammar, *vocabulary, so_far);
      if (testing::Test::HasFatalFailure()) return;
      ++n_masks;
    }
  }
  EXPECT_GT(n_masks, 50);
}

TEST(Matcher, CountsLongRepetitionsExactly) {
  Random random(13);
  for (const char* text :
       {R"g(root ::= "<" ([a-c] | "d" [a-d]){5,450} ">" )g", R"g(root ::= [a-c]{420,} [cd]?)g",
        R"g(root ::= ("x" [a-c]{0,460} "d"?){3})g", R"g(root ::= ([a-c]{450} | [ab]{300,500} "c") "d")g",
        R"g(root ::= [a-d]{3,401} .{2})g"}) {
    SCOPED_TRACE(text);
    const auto grammar = compile_gbnf(text);
    ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
    const auto vocabulary = random_vocabulary(random);
    const auto tokens = std::make_shared<const TokenGrammar>(*grammar, vocabulary);
    for (const size_t length :
         {0, 1, 2, 3, 4, 299, 399, 400, 401, 419, 420, 440, 445, 448, 449, 450, 451, 460}) {
      for (const std::string begin : {"", "<", "x",
                                      "xad"
                                      "x"}) {
        const std::string so_far = begin + std::string(length, 'a');
        Matcher matcher(tokens);
        if (!matcher.accept(std::string_view(so_far))) continue;
        check_mask(matcher, *grammar, *vocabulary, so_far);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(Matcher, EndsOnlyWhereTheTextMayEnd) {
  Random random(14);
  const auto vocabulary = random_vocabulary(random);
  const auto tokens =
      std::make_shared<const TokenGrammar>(*compile_gbnf(R"g(root ::= "ab" "c"?)g"), vocabulary);
  Matcher matcher(tokens);
  EXPECT_FALSE(bit(*matcher.mask(), 257));
  EXPECT_FALSE(matcher.accept('b').has_value());
  ASSERT_TRUE(matcher.accept('a').has_value());
  ASSERT_TRUE(matcher.accept('b').has_value());
  EXPECT_TRUE(matcher.may_end());
  EXPECT_TRUE(bit(*matcher.mask(), 257));
  EXPECT_TRUE(bit(*matcher.mask(), 'c'));
  EXPECT_FALSE(matcher.accept(257).has_value()) << "no text";
  ASSERT_TRUE(matcher.accept('c').has_value());
  EXPECT_TRUE(matcher.may_end());
}

TEST(Matcher, SaysWhenTheVocabularyCannotGoOn) {
  const auto vocabulary =
      std::make_shared<const Vocabulary>(std::vector<std::string>{"a", "b"}, std::vector<int32_t>{});
  const auto tokens = std::make_shared<const TokenGrammar>(*compile_gbnf(R"g(root ::= "ac")g"), vocabulary);
  Matcher matcher(tokens);
  ASSERT_TRUE(matcher.accept(0).has_value());
  const auto mask = matcher.mask();
  ASSERT_FALSE(mask.has_value());
  EXPECT_THAT(mask.error().message, testing::HasSubstr("no token"));
}

TEST(Matcher, LongTextsNeedNoMoreMemory) {
  Random random(15);
  const auto vocabulary = random_vocabulary(random);
  const auto tokens = std::make_shared<const TokenGrammar>(
      *compile_gbnf("root ::= \"[\" root* \"]\" | [a-d]{1,100000} \";\" root | \"b\""), vocabulary);
  Matcher matcher(tokens);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = i % 3 == 0 ? "[" : i % 7 == 0 ? "[b]" : "abcdabcdabcdabcd;b";
    ASSERT_TRUE(matcher.accept(std::string_view(text)).has_value()) << i;
    ASSERT_TRUE(matcher.mask().has_value());
  }
}

}  // namespace
}  // namespace packmule::grammar
