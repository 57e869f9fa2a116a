// Byte-level BPE as Qwen uses it: text <-> token ids.
//
// Encoding, in order: special tokens are cut out of the text (longest match; which kinds, the caller says),
// each remaining piece is brought to Unicode NFC, cut by the pre-tokenizer pattern, mapped to the byte
// alphabet, and merged by rank. Decoding maps back to bytes. Exact on the reference tokenizer's cases
// (tests/data/tokenizer).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/file.h"

namespace packmule::text {

using TokenId = int32_t;

/// As stored in `tokenizer.ggml.token_type`.
enum class TokenKind : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

/// Which added tokens are recognised inside the text that is encoded.
enum class ParseSpecial {
  kNone,         // none: all of it is plain text
  kUserDefined,  // `<think>`, `<tool_call>` ..., not the control tokens: for text a user typed
  kAll,          // control tokens too: for the output of a chat template
};

class Tokenizer {
 public:
  /// Reads the `tokenizer.ggml.*` keys.
  static Result<std::unique_ptr<Tokenizer>> load(const gguf::File& file);
  ~Tokenizer();

  /// `utf8` must be valid UTF-8 (NUL allowed); otherwise an error with the byte offset.
  /// At the byte offsets `never_control` (ascending) no control token is recognised, whatever `parse_special`
  /// says: there begins text from outside in the output of a chat template.
  [[nodiscard]] Result<std::vector<TokenId>> encode(std::string_view utf8, ParseSpecial parse_special,
                                                    std::span<const size_t> never_control = {}) const;
  /// The texts of all control tokens.
  [[nodiscard]] std::vector<std::string> control_tokens() const;

  /// Bytes of one token, as a view that lives as long as the tokenizer. Control tokens give their text too;
  /// padding tokens and ids out of range give "".
  [[nodiscard]] std::string_view token_bytes(TokenId id) const;
  /// Concatenated bytes; not necessarily valid UTF-8. Control tokens are left out unless asked for.
  [[nodiscard]] std::string decode(const std::vector<TokenId>& ids, bool with_control = true) const;

  [[nodiscard]] int64_t n_tokens() const;  // rows of the embedding, padding included
  [[nodiscard]] TokenKind kind(TokenId id) const;
  [[nodiscard]] bool is_padding(TokenId id) const;            // kUnused: must never be sampled
  [[nodiscard]] bool is_end_of_generation(TokenId id) const;  // eos, <|im_end|>, <|endoftext|>
  [[nodiscard]] TokenId eos() const;                          // -1 when the file has none
  [[nodiscard]] TokenId bos() const;
  [[nodiscard]] bool add_bos() const;
  /// The id of a token by its text (special tokens included), or -1.
  [[nodiscard]] TokenId find(std::string_view text) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Turns a stream of token bytes into a stream of valid UTF-8: holds back the bytes of an unfinished
/// character, and replaces what can never become one by U+FFFD.
class Utf8Stream {
 public:
  /// The text that became certain by these bytes (possibly "").
  [[nodiscard]] std::string push(std::string_view bytes);
  /// What is left at the end: U+FFFD for an unfinished character.
  [[nodiscard]] std::string finish();

 private:
  std::string pending_;
};

}  // namespace packmule::text
