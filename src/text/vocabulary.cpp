#include "text/vocabulary.h"

#include <bit>
#include <functional>
#include <limits>
#include <string>

#include "text/byte_alphabet.h"

namespace packmule::text {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kPre = "tokenizer.ggml.pre";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTokenType = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";

Status check_kind_of_tokenizer(const gguf::File& file) {
  PACKMULE_TRY(const std::string_view model, file.get_string(kModel));
  if (model != "gpt2")
    return fail(ErrorKind::kUnsupported,
                "{}: {} is \"{}\", expected \"gpt2\" (byte-level BPE, as Qwen3-Next has it)", file.path(),
                kModel, model);
  PACKMULE_TRY(const std::string_view pre, file.get_string(kPre));
  if (pre != "qwen2")
    return fail(ErrorKind::kUnsupported,
                "{}: {} is \"{}\", expected \"qwen2\": the split pattern of that name is not known",
                file.path(), kPre, pre);
  return {};
}

Result<std::vector<TokenKind>> read_kinds(const gguf::File& file, size_t n_tokens) {
  PACKMULE_TRY(const std::vector<int64_t> types, file.get_integers(kTokenType));
  if (types.size() != n_tokens)
    return fail(ErrorKind::kInvalidFile, "{}: {} has {} entries, expected {}, one for each of {}",
                file.path(), kTokenType, types.size(), n_tokens, kTokens);
  std::vector<TokenKind> kinds;
  kinds.reserve(n_tokens);
  for (size_t i = 0; i < n_tokens; ++i) {
    if (types[i] < 1 || types[i] > 5)
      return fail(ErrorKind::kInvalidFile, "{}: {}[{}] is {}, expected 1 to 5 in a byte-level vocabulary",
                  file.path(), kTokenType, i, types[i]);
    kinds.push_back(static_cast<TokenKind>(types[i]));
  }
  return kinds;
}

/// The optional id under `key`, or -1.
Result<TokenId> read_token_id(const gguf::File& file, std::string_view key, size_t n_tokens) {
  if (!file.has(key)) return -1;
  PACKMULE_TRY(const uint64_t id, file.get_u64(key));
  if (id >= n_tokens)
    return fail(ErrorKind::kInvalidFile, "{}: {} is {}, expected less than the {} tokens", file.path(), key,
                id, n_tokens);
  return static_cast<TokenId>(id);
}

}  // namespace

TokenIndex::TokenIndex(size_t n_tokens) : slots_(std::bit_ceil(2 * n_tokens + 2)) {}

template <class BytesOf>
size_t TokenIndex::slot_of(std::string_view token, uint32_t hash, const BytesOf& bytes_of) const {
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].id >= 0 && (slots_[at].hash != hash || bytes_of(slots_[at].id) != token))
    at = (at + 1) & (slots_.size() - 1);
  return at;
}

template <class BytesOf>
void TokenIndex::insert(std::string_view token, int32_t id, const BytesOf& bytes_of) {
  const auto hash = static_cast<uint32_t>(std::hash<std::string_view>()(token));
  Slot& slot = slots_[slot_of(token, hash, bytes_of)];
  if (slot.id < 0) slot = {hash, id};
}

template <class BytesOf>
int32_t TokenIndex::find(std::string_view token, const BytesOf& bytes_of) const {
  const auto hash = static_cast<uint32_t>(std::hash<std::string_view>()(token));
  return slots_[slot_of(token, hash, bytes_of)].id;
}

TokenId Vocabulary::find_spelled(std::string_view text) const {
  return spelled.find(text, [this](TokenId id) { return token_bytes(id); });
}

TokenId Vocabulary::find_added(std::string_view text) const {
  return added.find(text, [this](TokenId id) { return token_bytes(id); });
}

Result<std::unique_ptr<Vocabulary>> Vocabulary::read(const gguf::File& file) {
  PACKMULE_TRY_STATUS(check_kind_of_tokenizer(file));
  auto vocabulary = std::make_unique<Vocabulary>();
  PACKMULE_TRY_STATUS(vocabulary->read_tokens(file));
  PACKMULE_TRY_STATUS(vocabulary->read_merges(file));
  const size_t n = vocabulary->kinds.size();
  PACKMULE_TRY(vocabulary->eos, read_token_id(file, "tokenizer.ggml.eos_token_id", n));
  PACKMULE_TRY(vocabulary->bos, read_token_id(file, "tokenizer.ggml.bos_token_id", n));
  if (file.has("tokenizer.ggml.add_bos_token")) {
    PACKMULE_TRY(vocabulary->add_bos, file.get_bool("tokenizer.ggml.add_bos_token"));
  }
  vocabulary->im_end = vocabulary->find_added("<|im_end|>");
  vocabulary->endoftext = vocabulary->find_added("<|endoftext|>");
  return vocabulary;
}

Status Vocabulary::read_tokens(const gguf::File& file) {
  PACKMULE_TRY(const std::vector<std::string_view> tokens, file.get_strings(kTokens));
  constexpr auto kMost = static_cast<size_t>(std::numeric_limits<TokenId>::max());
  if (tokens.empty() || tokens.size() > kMost)
    return fail(ErrorKind::kInvalidFile, "{}: {} has {} entries, expected 1 to {}", file.path(), kTokens,
                tokens.size(), kMost);
  PACKMULE_TRY(kinds, read_kinds(file, tokens.size()));

  // Normal tokens are spelled in the byte alphabet, added ones as they are. A normal token with a character
  // outside of the alphabet stands for that text as it is, as in the official decoder; no merge makes it.
  std::vector<TokenId> as_they_are;
  size_t n_bytes = 0;
  for (const std::string_view token : tokens) n_bytes += token.size();
  bytes.reserve(n_bytes);
  begins.reserve(tokens.size() + 1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    begins.push_back(bytes.size());
    if (kinds[i] == TokenKind::kNormal && append_spelled_bytes(tokens[i], bytes)) continue;
    if (kinds[i] == TokenKind::kUnused || tokens[i].empty()) continue;
    bytes += tokens[i];
    as_they_are.push_back(static_cast<TokenId>(i));
  }
  begins.push_back(bytes.size());

  const auto bytes_of = [this](TokenId id) { return token_bytes(id); };
  std::vector<SpecialTokens::Entry> entries;
  added = TokenIndex(as_they_are.size());
  for (const TokenId id : as_they_are) {
    added.insert(token_bytes(id), id, bytes_of);
    if (kinds[id] != TokenKind::kNormal)
      entries.push_back({token_bytes(id), id, kinds[id] != TokenKind::kUserDefined});
  }
  specials = SpecialTokens(entries);

  spelled = TokenIndex(tokens.size() - as_they_are.size());
  auto other = as_they_are.begin();
  for (TokenId id = 0; id < n_tokens(); ++id) {
    if (other != as_they_are.end() && *other == id)
      ++other;
    else if (begins[id] != begins[id + 1])
      spelled.insert(token_bytes(id), id, bytes_of);
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    const char as_char = static_cast<char>(byte);
    token_of_byte[byte] = find_spelled(std::string_view(&as_char, 1));
  }
  return {};
}

Status Vocabulary::read_merges(const gguf::File& file) {
  PACKMULE_TRY(const std::vector<std::string_view> texts, file.get_strings(kMerges));
  merges = MergeTable(texts.size());
  std::string joined;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string_view merge = texts[i];
    const size_t space = merge.find(' ');
    if (space == 0 || space + 1 >= merge.size() || merge.find(' ', space + 1) != std::string_view::npos)
      return fail(ErrorKind::kInvalidFile, "{}: {}[{}] is \"{}\", expected two tokens with one space between",
                  file.path(), kMerges, i, merge);
    joined.clear();
    bool spelled_right = append_spelled_bytes(merge.substr(0, space), joined);
    const size_t left_bytes = joined.size();
    spelled_right = spelled_right && append_spelled_bytes(merge.substr(space + 1), joined);
    const std::string_view view = joined;
    const TokenId left = spelled_right ? find_spelled(view.substr(0, left_bytes)) : -1;
    const TokenId right = spelled_right ? find_spelled(view.substr(left_bytes)) : -1;
    const TokenId both = spelled_right ? find_spelled(view) : -1;
    if (left < 0 || right < 0 || both < 0)
      return fail(ErrorKind::kInvalidFile, "{}: {}[{}] is \"{}\", but the {} is not a token", file.path(),
                  kMerges, i, merge,
                  left < 0    ? "left part"
                  : right < 0 ? "right part"
                              : "merged text");
    if (const int64_t earlier = merges.add(left, right, both); earlier >= 0)
      return fail(ErrorKind::kInvalidFile, "{}: {}[{}] is \"{}\", the same as entry {}", file.path(), kMerges,
                  i, merge, earlier);
  }
  return {};
}

}  // namespace packmule::text
