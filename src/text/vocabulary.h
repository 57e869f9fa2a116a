// The tokens of a GGUF file and the tables made from them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/file.h"
#include "text/bpe.h"
#include "text/special_tokens.h"
#include "text/tokenizer.h"

namespace packmule::text {

/// Token ids by the bytes of the tokens.
class TokenIndex {
 public:
  explicit TokenIndex(size_t n_tokens);
  /// Keeps the first of equal tokens. `bytes_of(id)` gives the bytes of an id inserted earlier.
  template <class BytesOf>
  void insert(std::string_view token, int32_t id, const BytesOf& bytes_of);
  template <class BytesOf>
  [[nodiscard]] int32_t find(std::string_view token, const BytesOf& bytes_of) const;  // -1: absent

 private:
  struct Slot {
    uint32_t hash = 0;  // compared first: the bytes of other tokens are rarely touched
    int32_t id = -1;
  };
  template <class BytesOf>
  [[nodiscard]] size_t slot_of(std::string_view token, uint32_t hash, const BytesOf& bytes_of) const;
  std::vector<Slot> slots_;  // a power of two, at most half full
};

/// Immutable after read().
struct Vocabulary {
  std::string bytes;                         // of all tokens, back to back
  std::vector<uint64_t> begins;              // [n_tokens + 1] into `bytes`
  std::vector<TokenKind> kinds;              // [n_tokens]
  std::array<TokenId, 256> token_of_byte{};  // -1: the vocabulary has none
  MergeTable merges{0};
  SpecialTokens specials{{}};
  TokenIndex spelled{0};  // normal tokens spelled in the byte alphabet: those that merges make
  TokenIndex added{0};    // all others but padding
  TokenId eos = -1;
  TokenId bos = -1;
  TokenId im_end = -1;     // `<|im_end|>`
  TokenId endoftext = -1;  // `<|endoftext|>`
  bool add_bos = false;

  /// Reads and checks the `tokenizer.ggml.*` keys.
  static Result<std::unique_ptr<Vocabulary>> read(const gguf::File& file);

  [[nodiscard]] int64_t n_tokens() const { return static_cast<int64_t>(kinds.size()); }
  [[nodiscard]] bool has(TokenId id) const { return id >= 0 && id < n_tokens(); }
  [[nodiscard]] std::string_view token_bytes(TokenId id) const {
    return std::string_view(bytes).substr(begins[id], begins[id + 1] - begins[id]);
  }
  /// -1: absent.
  [[nodiscard]] TokenId find_spelled(std::string_view text) const;
  [[nodiscard]] TokenId find_added(std::string_view text) const;

 private:
  Status read_tokens(const gguf::File& file);
  Status read_merges(const gguf::File& file);
};

}  // namespace packmule::text
