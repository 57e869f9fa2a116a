#include "text/tokenizer.h"

#include <fmt/format.h>

#include "base/utf8.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/vocabulary.h"

namespace packmule::text {

struct Tokenizer::Impl {
  std::unique_ptr<Vocabulary> vocabulary;
  std::unique_ptr<Pretokenizer> pretokenizer;

  /// What the pieces of one encode() share.
  struct Scratch {
    BpeMerger merger;
    Pretokenizer::Workspace workspace;
    std::string normalized;
    std::vector<size_t> ends;
    std::vector<TokenId> symbols;
  };
  /// Appends the tokens of text without added tokens.
  [[nodiscard]] Status encode_plain(std::string_view text, Scratch& scratch, std::vector<TokenId>& ids) const;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const gguf::File& file) {
  auto impl = std::make_unique<Impl>();
  PACKMULE_TRY(impl->vocabulary, Vocabulary::read(file));
  PACKMULE_TRY(impl->pretokenizer, Pretokenizer::create());
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

Status Tokenizer::Impl::encode_plain(std::string_view text, Scratch& scratch,
                                     std::vector<TokenId>& ids) const {
  PACKMULE_TRY(const std::string_view normal, pretokenizer->normalize(text, scratch.normalized));
  PACKMULE_TRY_STATUS(pretokenizer->split(normal, scratch.workspace, scratch.ends));
  size_t begin = 0;
  for (const size_t end : scratch.ends) {
    scratch.symbols.clear();
    for (size_t i = begin; i < end; ++i) {
      const auto byte = static_cast<uint8_t>(normal[i]);
      const TokenId symbol = vocabulary->token_of_byte[byte];
      if (symbol < 0)
        return fail(ErrorKind::kInvalidArgument,
                    "the vocabulary of this model has no token for byte 0x{:02X}, needed by the character at "
                    "byte {} of a text in NFC",
                    byte, i);
      scratch.symbols.push_back(symbol);
    }
    scratch.merger.merge(scratch.symbols, ids);
    begin = end;
  }
  return {};
}

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view utf8, ParseSpecial parse_special,
                                               std::span<const size_t> never_control) const {
  if (const size_t bad = find_invalid_utf8(utf8); bad != utf8.size())
    return fail(ErrorKind::kInvalidArgument,
                "text to tokenize is not valid UTF-8: byte {} of {} is 0x{:02X}; send UTF-8", bad,
                utf8.size(), static_cast<uint8_t>(utf8[bad]));
  const Vocabulary& vocabulary = *impl_->vocabulary;
  std::vector<TokenId> ids;
  PACKMULE_TRY(auto workspace, Pretokenizer::Workspace::create());
  Impl::Scratch scratch{BpeMerger(vocabulary.merges), std::move(workspace), {}, {}, {}};
  size_t at = 0;
  while (at < utf8.size()) {
    SpecialTokens::Match special;
    if (parse_special != ParseSpecial::kNone)
      special = vocabulary.specials.find(utf8, at, parse_special == ParseSpecial::kAll, never_control);
    const size_t plain_end = special.size_bytes > 0 ? special.at : utf8.size();
    if (plain_end > at)
      PACKMULE_TRY_STATUS(impl_->encode_plain(utf8.substr(at, plain_end - at), scratch, ids));
    if (special.size_bytes > 0) ids.push_back(special.id);
    at = plain_end + special.size_bytes;
  }
  return ids;
}

std::vector<std::string> Tokenizer::control_tokens() const {
  std::vector<std::string> texts;
  for (TokenId id = 0; id < n_tokens(); ++id)
    if (kind(id) == TokenKind::kControl) texts.emplace_back(token_bytes(id));
  return texts;
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  return impl_->vocabulary->has(id) ? impl_->vocabulary->token_bytes(id) : std::string_view();
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids, bool with_control) const {
  std::string out;
  for (const TokenId id : ids)
    if (with_control || kind(id) != TokenKind::kControl) out += token_bytes(id);
  return out;
}

int64_t Tokenizer::n_tokens() const {
  return impl_->vocabulary->n_tokens();
}

TokenKind Tokenizer::kind(TokenId id) const {
  return impl_->vocabulary->has(id) ? impl_->vocabulary->kinds[id] : TokenKind::kUnused;
}

bool Tokenizer::is_padding(TokenId id) const {
  return kind(id) == TokenKind::kUnused;
}

bool Tokenizer::is_end_of_generation(TokenId id) const {
  const Vocabulary& vocabulary = *impl_->vocabulary;
  return id >= 0 && (id == vocabulary.eos || id == vocabulary.im_end || id == vocabulary.endoftext);
}

TokenId Tokenizer::eos() const {
  return impl_->vocabulary->eos;
}

TokenId Tokenizer::bos() const {
  return impl_->vocabulary->bos;
}

bool Tokenizer::add_bos() const {
  return impl_->vocabulary->add_bos;
}

TokenId Tokenizer::find(std::string_view text) const {
  const TokenId added = impl_->vocabulary->find_added(text);
  return added >= 0 ? added : impl_->vocabulary->find_spelled(text);
}

}  // namespace packmule::text
