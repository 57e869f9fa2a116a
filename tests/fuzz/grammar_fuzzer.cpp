// Bytes as a grammar: GBNF, or a JSON Schema if they begin with '{'. What comes behind a NUL is then read by
// it. A grammar that compiles never gets stuck, and its masks agree with what it reads byte by byte.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/matcher.h"

namespace {

using namespace packmule;
using namespace packmule::grammar;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "grammar_fuzzer: %s\n", what);
  std::abort();
}

constexpr int32_t kEnd = 256;

std::shared_ptr<const Vocabulary> vocabulary() {
  static const auto made = [] {
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    tokens.emplace_back();
    for (const char* token : {"ab", "\": \"", "\"}", "{\"", "12", "\",", "aaaaaaaa", "],", "a\"", "\n  "})
      tokens.emplace_back(token);
    return std::make_shared<const Vocabulary>(std::move(tokens), std::vector<int32_t>{kEnd});
  }();
  return made;
}

Result<std::shared_ptr<const Grammar>> compile(std::string_view text) {
  if (!text.starts_with('{')) return compile_gbnf(text);
  const auto schema = parse_json(text, "the schema");
  if (!schema) return tl::unexpected<Error>(schema.error());
  return compile_json_schema(*schema);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t nul = std::min(all.find('\0'), all.size());
  const auto grammar = compile(all.substr(0, nul));
  if (!grammar) {
    require(!grammar.error().message.empty() && grammar.error().message.find('\n') == std::string::npos,
            "an error is one line");
    return 0;
  }
  const auto tokens = std::make_shared<const TokenGrammar>(*grammar, vocabulary());
  Matcher matcher(tokens);
  std::string_view text = all.substr(std::min(nul + 1, all.size()));
  for (size_t n = 0; n < 24; ++n) {
    const auto mask = matcher.mask();
    if (!mask) {
      require(mask.error().message.find("too ambiguous") != std::string::npos, "it got stuck");
      return 0;
    }
    int32_t some = -1;
    for (int32_t id = 0; id < static_cast<int32_t>(vocabulary()->n_tokens()); ++id) {
      const bool bit = ((*mask)[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0;
      if (id == kEnd) {
        require(bit == matcher.may_end(), "the end is allowed where the text may end");
        continue;
      }
      if (bit && some < 0) some = id;
      // Trying changes nothing when it is refused, so only a copy may try what is allowed.
      if (!bit) require(!matcher.accept(id), "a token is read that the mask forbids");
    }
    if (some < 0) return 0;
    const int32_t next = text.empty() ? some : static_cast<uint8_t>(text.front());
    if (!text.empty()) text.remove_prefix(1);
    const auto now = matcher.mask();
    if (!now) return 0;
    const bool allowed = ((*now)[static_cast<size_t>(next) / 64] >> (next % 64) & 1) != 0;
    const auto status = matcher.accept(next);
    if (!status && status.error().message.find("too ambiguous") != std::string::npos) return 0;
    require(status.has_value() == allowed, "the mask allows a token that is not read");
    if (!status && !matcher.accept(some)) return 0;
  }
  return 0;
}
