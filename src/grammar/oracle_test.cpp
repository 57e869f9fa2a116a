// What independent programs say (tests/oracle/make_grammar_cases.mjs): xgrammar of schemas and of masks, and
// a validator of the standard, which has the last word where the two disagree.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/matcher.h"
#include "tests/support/test_data.h"

namespace packmule::grammar {
namespace {

std::vector<Json> read_lines(const char* name) {
  const auto path = testing_support::find_data(name);
  EXPECT_TRUE(path.has_value()) << name << " is missing";
  return path ? testing_support::read_json_lines(*path) : std::vector<Json>();
}

bool accepts(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  Machine machine(grammar);
  ConfigId config = machine.start();
  for (const char c : text) config = machine.step(config, static_cast<uint8_t>(c));
  EXPECT_FALSE(machine.overflowed());
  return machine.complete(config);
}

TEST(Oracle, SchemasAcceptWhatIsValid) {
  const auto lines = read_lines("grammar/schemas.jsonl");
  ASSERT_GE(lines.size(), 300u);
  int n_texts = 0, n_accepted = 0, n_refused = 0, n_looser = 0, n_stricter = 0, n_not_generated = 0;
  for (const Json& line : lines) {
    SCOPED_TRACE(line["schema"].dump());
    const auto grammar = compile_json_schema(line["schema"]);
    const bool ignores_all_of = line["schema"].dump().find("\"allOf\"") != std::string::npos;
    if (!grammar) {
      // One that nothing is valid by has no grammar; nothing else of these may be refused.
      EXPECT_THAT(grammar.error().message, testing::HasSubstr("no text at all"));
      for (const Json& text : line["texts"]) EXPECT_FALSE(text[2].get<bool>()) << text[0];
      ++n_refused;
      continue;
    }
    for (const Json& text : line["texts"]) {
      const bool ours = accepts(*grammar, text[0].get<std::string>());
      const bool valid = text[2].get<bool>();
      const bool known = !text[1].is_null();
      const bool oracle = known && text[1].get<bool>();
      ++n_texts;
      n_accepted += ours ? 1 : 0;
      // Never looser than the standard, whatever the oracle is.
      if (ours) {
        EXPECT_TRUE(valid) << text[0];
      }
      if (known && oracle != ours) {
        if (oracle && !valid)
          ++n_looser;  // the oracle's grammar ignores something
        else if (ours)
          ++n_stricter;  // it refuses a valid text
        else
          ++n_not_generated;
        // A valid text that the oracle generates and we do not. It ignores allOf and with it that an object
        // with properties gets no others.
        EXPECT_FALSE(oracle && valid && !ignores_all_of) << text[0];
      }
    }
  }
  RecordProperty("texts", n_texts);
  RecordProperty("oracle_looser_than_standard", n_looser);
  RecordProperty("oracle_stricter_than_ours", n_stricter);
  std::printf(
      "%d texts, %d accepted; oracle against the standard: %d looser; against ours: %d stricter, %d more; "
      "%d schemas nothing is valid by\n",
      n_texts, n_accepted, n_looser, n_stricter, n_not_generated, n_refused);
  EXPECT_GT(n_accepted, 800);
}

TEST(Oracle, MasksAreTheSame) {
  const auto lines = read_lines("grammar/masks.jsonl");
  ASSERT_GT(lines.size(), 10u);
  std::vector<std::string> tokens = lines[0]["tokens"].get<std::vector<std::string>>();
  const auto end = static_cast<int32_t>(tokens.size() - 1);
  const auto vocabulary = std::make_shared<const Vocabulary>(tokens, std::vector<int32_t>{end});
  for (size_t i = 1; i < lines.size(); ++i) {
    const auto text = lines[i]["grammar"].get<std::string>();
    SCOPED_TRACE(text);
    const auto grammar = compile_gbnf(text);
    ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
    const auto token_grammar = std::make_shared<const TokenGrammar>(*grammar, vocabulary);
    for (const Json& step : lines[i]["steps"]) {
      Matcher matcher(token_grammar);
      for (const Json& token : step[0]) ASSERT_TRUE(matcher.accept(token.get<int32_t>()).has_value());
      const auto mask = matcher.mask();
      ASSERT_TRUE(mask.has_value()) << mask.error().message;
      std::vector<int32_t> allowed;
      for (int32_t id = 0; id <= end; ++id)
        if (((*mask)[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0) allowed.push_back(id);
      EXPECT_EQ(allowed, step[1].get<std::vector<int32_t>>()) << step[0].dump();
    }
  }
}

}  // namespace
}  // namespace packmule::grammar
