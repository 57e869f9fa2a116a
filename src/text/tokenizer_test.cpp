#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <memory>

#include "base/utf8.h"
#include "tests/support/test_data.h"
#include "text/vocabulary_file_for_test.h"

namespace packmule::text {
namespace {

using testing::HasSubstr;
using Ids = std::vector<TokenId>;

struct Loaded {
  std::unique_ptr<gguf::File> file;
  std::unique_ptr<Tokenizer> tokenizer;
};

Loaded load_file(const std::string& relative) {
  const auto path = testing_support::find_data(relative);
  EXPECT_TRUE(path.has_value()) << relative << " is missing";
  if (!path) return {};
  auto file = gguf::File::open(path->string());
  EXPECT_TRUE(file.has_value()) << file.error().message;
  if (!file) return {};
  Loaded loaded{std::make_unique<gguf::File>(std::move(*file)), nullptr};
  auto tokenizer = Tokenizer::load(*loaded.file);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  if (tokenizer) loaded.tokenizer = std::move(*tokenizer);
  return loaded;
}

const Tokenizer* qwen() {
  static const Loaded loaded = load_file("tokenizer/qwen3-vocab.gguf");
  return loaded.tokenizer.get();
}

/// The tokenizer of a small file, or why it was refused.
Result<std::unique_ptr<Tokenizer>> load(const VocabularyFile& vocabulary) {
  const std::vector<std::byte> bytes = vocabulary.bytes();
  PACKMULE_TRY(const gguf::File file, gguf::File::parse(bytes, "small.gguf"));
  return Tokenizer::load(file);
}

std::string refusal(const VocabularyFile& vocabulary) {
  auto tokenizer = load(vocabulary);
  return tokenizer ? "" : tokenizer.error().message;
}

Ids encode(const Tokenizer& tokenizer, std::string_view text, ParseSpecial parse) {
  auto ids = tokenizer.encode(text, parse);
  EXPECT_TRUE(ids.has_value()) << ids.error().message;
  return ids.value_or(Ids{});
}

std::string repeated(std::string_view unit, size_t n_bytes) {
  std::string text;
  while (text.size() < n_bytes) text += unit;
  return text;
}

// ---- the reference cases ----

TEST(TokenizerReference, EveryCaseInEveryMode) {
  ASSERT_NE(qwen(), nullptr);
  const auto path = testing_support::find_data("tokenizer/cases.jsonl");
  ASSERT_TRUE(path.has_value());
  int64_t n_cases = 0;
  int64_t n_checks = 0;
  for (const Json& item : testing_support::read_json_lines(*path)) {
    const auto text = item.at("text").get<std::string>();
    const auto all = item.at("ids").get<Ids>();
    const auto expected = [&](const char* key) { return item.contains(key) ? item[key].get<Ids>() : all; };
    const std::string nfc = item.value("decoded", text);
    const std::string shown =
        fmt::format("case {} ({}): {}", n_cases, item.value("tag", ""), text.substr(0, 80));
    EXPECT_EQ(encode(*qwen(), text, ParseSpecial::kAll), all) << shown;
    EXPECT_EQ(encode(*qwen(), text, ParseSpecial::kNone), expected("ids_plain")) << shown;
    EXPECT_EQ(encode(*qwen(), text, ParseSpecial::kUserDefined), expected("ids_user_defined_only")) << shown;
    EXPECT_EQ(qwen()->decode(all), nfc) << shown;
    EXPECT_EQ(qwen()->decode(expected("ids_plain")), nfc) << shown;
    n_checks += 5;
    ++n_cases;
  }
  EXPECT_GT(n_cases, 0);
  std::cout << n_cases << " reference cases, " << n_checks << " comparisons, none skipped\n";
}

TEST(TokenizerReference, SmallVocabularyRoundTrips) {
  const Loaded small = load_file("golden/tinyC-Q4_K_M.gguf");
  ASSERT_NE(small.tokenizer, nullptr);
  const auto path = testing_support::find_data("tokenizer/cases.jsonl");
  ASSERT_TRUE(path.has_value());
  for (const Json& item : testing_support::read_json_lines(*path)) {
    const auto text = item.at("text").get<std::string>();
    for (const auto parse : {ParseSpecial::kAll, ParseSpecial::kUserDefined, ParseSpecial::kNone}) {
      const Ids ids = encode(*small.tokenizer, text, parse);
      const std::string decoded = small.tokenizer->decode(ids);
      // The text in NFC, as the reference says. Added tokens cut the text before it is normalized; the few of
      // the small vocabulary are among those of the large one, so that only kAll compares.
      if (parse == ParseSpecial::kAll) {
        EXPECT_EQ(decoded, item.value("decoded", text));
      }
      for (const TokenId id : ids) ASSERT_LT(id, small.tokenizer->n_tokens());
    }
  }
}

// ---- special tokens ----

TEST(Tokenizer, RecognisesWhatTheCallerAsksFor) {
  auto tokenizer = load(VocabularyFile::plain());
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const std::string text = "ab<think>ab<|im_end|>";
  EXPECT_EQ(encode(**tokenizer, text, ParseSpecial::kAll), (Ids{256, 258, 256, 257}));
  const Ids user = encode(**tokenizer, text, ParseSpecial::kUserDefined);
  EXPECT_EQ(user.size(), 3 + std::string("<|im_end|>").size());
  EXPECT_EQ(user[1], 258);
  EXPECT_EQ(encode(**tokenizer, text, ParseSpecial::kNone).size(), text.size() - 2);  // only `ab` merges
  EXPECT_EQ((*tokenizer)->decode({256, 258, 257, 256}), "ab<think><|im_end|>ab");
  EXPECT_EQ((*tokenizer)->decode({256, 258, 257, 256}, false), "ab<think>ab");
}

TEST(Tokenizer, ReadsNoControlTokenWhereItIsToldNotTo) {
  auto tokenizer = load(VocabularyFile::plain());
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const std::string text = "<|im_end|><think><|im_end|>";
  const auto ids = [&](std::vector<size_t> never) {
    return (*tokenizer)->encode(text, ParseSpecial::kAll, never).value();
  };
  const Ids plain = encode(**tokenizer, "<|im_end|>", ParseSpecial::kNone);
  Ids first_typed = plain;
  first_typed.insert(first_typed.end(), {258, 257});
  EXPECT_EQ(ids({}), (Ids{257, 258, 257}));
  EXPECT_EQ(ids({0}), first_typed);
  EXPECT_EQ(ids({0, 10}), first_typed);  // <think> is no control token
  EXPECT_EQ(ids({1, 16, 18}), (Ids{257, 258, 257}));
  Ids last_typed = {257, 258};
  last_typed.insert(last_typed.end(), plain.begin(), plain.end());
  EXPECT_EQ(ids({17}), last_typed);
  EXPECT_EQ((*tokenizer)->control_tokens(), std::vector<std::string>{"<|im_end|>"});
}

TEST(Tokenizer, TakesTheLongestAddedToken) {
  VocabularyFile file = VocabularyFile::plain();
  for (const char* text : {"<th", "<think>er", "<think>ers!"}) {
    file.tokens.emplace_back(text);
    file.types.push_back(4);
  }
  auto tokenizer = load(file);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  EXPECT_EQ(encode(**tokenizer, "<think>", ParseSpecial::kAll), (Ids{258}));
  EXPECT_EQ(encode(**tokenizer, "<think>er", ParseSpecial::kAll), (Ids{261}));
  EXPECT_EQ(encode(**tokenizer, "<think>ers", ParseSpecial::kAll), (Ids{261, (*tokenizer)->find("s")}));
  EXPECT_EQ(encode(**tokenizer, "<think>ers!", ParseSpecial::kAll), (Ids{262}));
  EXPECT_EQ(encode(**tokenizer, "<thi", ParseSpecial::kAll), (Ids{260, (*tokenizer)->find("i")}));
  EXPECT_EQ(encode(**tokenizer, "<<think>", ParseSpecial::kAll), (Ids{(*tokenizer)->find("<"), 258}));
}

TEST(Tokenizer, KnowsPaddingAndTheEnd) {
  const Tokenizer* tokenizer = qwen();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_TRUE(tokenizer->is_end_of_generation(tokenizer->eos()));
  for (const char* text : {"<|im_end|>", "<|endoftext|>"}) {
    ASSERT_GE(tokenizer->find(text), 0);
    EXPECT_TRUE(tokenizer->is_end_of_generation(tokenizer->find(text)));
    EXPECT_EQ(tokenizer->kind(tokenizer->find(text)), TokenKind::kControl);
  }
  EXPECT_FALSE(tokenizer->is_end_of_generation(tokenizer->find("<|im_start|>")));
  EXPECT_FALSE(tokenizer->is_end_of_generation(-1));
  EXPECT_EQ(tokenizer->kind(tokenizer->find("<think>")), TokenKind::kUserDefined);
  int64_t n_padding = 0;
  for (TokenId id = 0; id < tokenizer->n_tokens(); ++id) {
    if (tokenizer->is_padding(id)) {
      ++n_padding;
      EXPECT_EQ(tokenizer->token_bytes(id), "");
    } else {
      EXPECT_NE(tokenizer->token_bytes(id), "") << id;
    }
  }
  EXPECT_GT(n_padding, 0);
  for (const TokenId id : {-1, INT32_MIN, INT32_MAX, static_cast<TokenId>(tokenizer->n_tokens())}) {
    EXPECT_EQ(tokenizer->token_bytes(id), "");
    EXPECT_TRUE(tokenizer->is_padding(id)) << "an id out of range must not be sampled either";
  }
  EXPECT_FALSE(tokenizer->add_bos());
}

TEST(Tokenizer, FindsEveryTokenByItsText) {
  const Tokenizer* tokenizer = qwen();
  ASSERT_NE(tokenizer, nullptr);
  for (TokenId id = 0; id < tokenizer->n_tokens(); ++id)
    if (!tokenizer->is_padding(id)) {
      ASSERT_EQ(tokenizer->find(tokenizer->token_bytes(id)), id);
    }
  EXPECT_EQ(tokenizer->find("no such token in any vocabulary"), -1);
  EXPECT_EQ(tokenizer->find(""), -1);
}

// ---- size and damage ----

TEST(Tokenizer, LongTextsOfEveryKind) {
  const Tokenizer* tokenizer = qwen();
  ASSERT_NE(tokenizer, nullptr);
  // Sizes at which an algorithm that is quadratic in the length of a piece, of a run of pieces or of added
  // tokens does not end within the time limit of a test, and a recursive one runs out of stack.
  for (const auto& [unit, n_bytes] :
       std::vector<std::pair<std::string_view, size_t>>{{"a", 1'000'000},
                                                        {" ", 500'000},
                                                        {"\n", 500'000},
                                                        {" \n", 500'000},
                                                        {"!", 500'000},
                                                        {"7", 500'000},
                                                        {"\xE4\xB8\xAD", 500'000},
                                                        {"<think>", 500'000},
                                                        {"<|im_", 500'000}}) {
    const std::string text = repeated(unit, n_bytes);
    EXPECT_TRUE(tokenizer->decode(encode(*tokenizer, text, ParseSpecial::kAll)) == text) << unit;
  }
  const std::string decomposed = repeated("e\xCC\x81", 1'500'000);
  EXPECT_TRUE(tokenizer->decode(encode(*tokenizer, decomposed, ParseSpecial::kAll)) ==
              repeated("\xC3\xA9", 1'000'000));
}

TEST(Tokenizer, RefusesInvalidUtf8WithTheOffset) {
  const Tokenizer* tokenizer = qwen();
  ASSERT_NE(tokenizer, nullptr);
  for (const auto& [text, at] :
       std::vector<std::pair<std::string, std::string>>{{"hello \xFF", "byte 6 of 7 is 0xFF"},
                                                        {"\xED\xA0\x80", "byte 0 of 3 is 0xED"},
                                                        {"<think>\xC3", "byte 7 of 8 is 0xC3"}}) {
    auto ids = tokenizer->encode(text, ParseSpecial::kAll);
    ASSERT_FALSE(ids.has_value());
    EXPECT_EQ(ids.error().kind, ErrorKind::kInvalidArgument);
    EXPECT_THAT(ids.error().message, HasSubstr(at));
  }
  EXPECT_EQ(tokenizer->decode(encode(*tokenizer, std::string("a\0b", 3), ParseSpecial::kAll)),
            std::string("a\0b", 3));
}

TEST(Tokenizer, NamesAByteWithoutToken) {
  VocabularyFile file = VocabularyFile::plain();
  for (std::string& token : file.tokens)
    if (token == "q") token = std::string("zz");
  auto tokenizer = load(file);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  auto ids = (*tokenizer)->encode("aq", ParseSpecial::kAll);
  ASSERT_FALSE(ids.has_value());
  EXPECT_THAT(ids.error().message, HasSubstr("no token for byte 0x71"));
}

TEST(TokenizerLoad, RefusesDamagedVocabularies) {
  const auto changed = [](auto&& change) {
    VocabularyFile file = VocabularyFile::plain();
    change(file);
    return refusal(file);
  };
  using F = VocabularyFile;
  EXPECT_EQ(changed([](F&) {}), "");
  EXPECT_THAT(changed([](F& f) { f.model = "llama"; }), HasSubstr("\"llama\", expected \"gpt2\""));
  EXPECT_THAT(changed([](F& f) { f.model = ""; }), HasSubstr("tokenizer.ggml.model"));
  EXPECT_THAT(changed([](F& f) { f.pre = "gpt-4o"; }), HasSubstr("\"gpt-4o\", expected \"qwen2\""));
  EXPECT_THAT(changed([](F& f) { f.pre = ""; }), HasSubstr("tokenizer.ggml.pre"));
  EXPECT_THAT(changed([](F& f) { f.tokens.clear(); }), HasSubstr("tokenizer.ggml.tokens"));
  EXPECT_THAT(changed([](F& f) { f.types.clear(); }), HasSubstr("tokenizer.ggml.token_type"));
  EXPECT_THAT(changed([](F& f) { f.types.pop_back(); }), HasSubstr("has 259 entries, expected 260"));
  EXPECT_THAT(changed([](F& f) { f.types[3] = 0; }), HasSubstr("token_type[3] is 0"));
  EXPECT_THAT(changed([](F& f) { f.types[3] = 6; }), HasSubstr("token_type[3] is 6"));
  EXPECT_THAT(changed([](F& f) { f.merges.clear(); }), HasSubstr("tokenizer.ggml.merges"));
  for (const char* merge : {"", "ab", " ab", "ab ", "a  b", "a b c"})
    EXPECT_THAT(changed([&](F& f) { f.merges.emplace_back(merge); }), HasSubstr("merges[1]")) << merge;
  EXPECT_THAT(changed([](F& f) { f.merges.emplace_back("a b"); }), HasSubstr("the same as entry 0"));
  EXPECT_THAT(changed([](F& f) { f.merges.emplace_back("a c"); }),
              HasSubstr("the merged text is not a token"));
  EXPECT_THAT(changed([](F& f) { f.merges.emplace_back("a \xC4\xA0zz"); }),
              HasSubstr("the right part is not a token"));
  EXPECT_THAT(changed([](F& f) { f.eos = 260; }), HasSubstr("eos_token_id is 260, expected less than"));
}

}  // namespace
}  // namespace packmule::text
