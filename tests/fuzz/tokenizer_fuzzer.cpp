// A vocabulary (bytes that begin with "GGUF"): loaded, or refused. Any other bytes are a text: what the
// tokenizer accepts must come back, and the stream decoder must not care how it is cut.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/utf8.h"
#include "text/tokenizer.h"
#include "text/vocabulary_file_for_test.h"

namespace {

using namespace packmule;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tokenizer_fuzzer: %s\n", what);
  std::abort();
}

void load(std::span<const std::byte> bytes) {
  const auto file = gguf::File::parse(bytes, "fuzz.gguf");
  if (!file) return;
  const auto tokenizer = text::Tokenizer::load(*file);
  if (!tokenizer) {
    require(!tokenizer.error().message.empty(), "a refusal without a reason");
    return;
  }
  for (text::TokenId id = -1; id <= (*tokenizer)->n_tokens(); ++id) {
    const std::string_view text = (*tokenizer)->token_bytes(id);
    require(text.empty() || (*tokenizer)->find(text) >= 0, "a token is not found by its text");
  }
}

const text::Tokenizer& small_tokenizer() {
  static const std::unique_ptr<text::Tokenizer> tokenizer = [] {
    text::VocabularyFile vocabulary = text::VocabularyFile::plain();
    for (const char* token : {"aa", "aaaa", "aab"}) vocabulary.tokens.emplace_back(token);
    vocabulary.types.insert(vocabulary.types.end(), {1, 1, 1});
    vocabulary.merges.insert(vocabulary.merges.end(), {"a a", "aa aa", "a ab"});
    const std::vector<std::byte> bytes = vocabulary.bytes();
    const auto file = gguf::File::parse(bytes, "small.gguf");
    require(file.has_value(), "the vocabulary of the fuzzer is damaged");
    auto loaded = text::Tokenizer::load(*file);
    require(loaded.has_value(), "the vocabulary of the fuzzer does not load");
    return std::move(*loaded);
  }();
  return *tokenizer;
}

void encode(std::string_view bytes) {
  const text::Tokenizer& tokenizer = small_tokenizer();
  const bool valid = find_invalid_utf8(bytes) == bytes.size();
  for (const auto parse :
       {text::ParseSpecial::kNone, text::ParseSpecial::kUserDefined, text::ParseSpecial::kAll}) {
    const auto ids = tokenizer.encode(bytes, parse);
    require(ids.has_value() == valid, "valid text is refused, or invalid text accepted");
    if (!ids) continue;
    const std::string decoded = tokenizer.decode(*ids);
    require(find_invalid_utf8(decoded) == decoded.size(), "a valid text comes back damaged");
    const auto again = tokenizer.encode(decoded, parse);
    require(again.has_value() && *again == *ids, "normalized text is not a fixed point");
  }
}

void stream(std::string_view bytes) {
  text::Utf8Stream whole;
  std::string expected = whole.push(bytes);
  expected += whole.finish();
  text::Utf8Stream cut;
  std::string got;
  for (const char byte : bytes) got += cut.push(std::string_view(&byte, 1));
  got += cut.finish();
  require(got == expected, "the text depends on the cut");
  require(find_invalid_utf8(got) == got.size(), "the stream gave bytes that are not UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.starts_with("GGUF")) {
    load({reinterpret_cast<const std::byte*>(data), size});
  } else {
    encode(bytes);
    stream(bytes);
  }
  return 0;
}
