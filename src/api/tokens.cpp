#include "api/tokens.h"

#include <fmt/format.h>

#include <limits>

#include "api/fields.h"

namespace packmule::api {
namespace {

/// A string if the bytes are UTF-8, else an array of numbers.
Json piece_json(std::string_view bytes) {
  Json text = std::string(bytes);
  try {
    (void)text.dump();
    return text;
  } catch (const nlohmann::json::type_error&) {  // what the strict writer throws for bytes that are not UTF-8
    Json numbers = Json::array();
    for (const char c : bytes) numbers.push_back(static_cast<unsigned char>(c));
    return numbers;
  }
}

}  // namespace

ApiResult<Json> tokenize(Backend& backend, const Json& body) {
  Fields fields(body);
  std::string content;
  bool add_special = false, parse_special = true, with_pieces = false;
  if (fields.get("content") == nullptr) fields.fail("content", "missing");
  fields.read("content", content, std::numeric_limits<size_t>::max());
  fields.read("add_special", add_special);
  fields.read("parse_special", parse_special);
  fields.read("with_pieces", with_pieces);
  if (fields.error()) return tl::unexpected(*fields.error());

  auto ids =
      backend.tokenize(content, parse_special ? text::ParseSpecial::kAll : text::ParseSpecial::kNone, {});
  if (!ids) return tl::unexpected(from_error(ids.error()));
  if (add_special && backend.bos() >= 0) ids->insert(ids->begin(), backend.bos());
  if (!with_pieces) return Json{{"tokens", std::move(*ids)}};
  Json tokens = Json::array();
  for (const int32_t id : *ids)
    tokens.push_back(Json{{"id", id}, {"piece", piece_json(backend.token_bytes(id))}});
  return Json{{"tokens", std::move(tokens)}};
}

ApiResult<Json> detokenize(Backend& backend, const Json& body) {
  Fields fields(body);
  const Json* tokens = fields.get("tokens");
  if (tokens == nullptr)
    fields.fail("tokens", "missing");
  else if (!tokens->is_array())
    fields.fail("tokens", fmt::format("expected an array of token ids, found {}", type_name(*tokens)));
  if (fields.error()) return tl::unexpected(*fields.error());
  const int64_t n_vocab = backend.info().n_vocab;
  std::string content;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const auto id = whole_number((*tokens)[i]);
    if (!id || *id < 0 || *id >= n_vocab)
      return tl::unexpected(
          bad_field("tokens", fmt::format("'tokens[{}]': expected a token id from 0 to {}", i, n_vocab - 1)));
    content += backend.token_bytes(static_cast<int32_t>(*id));
  }
  return Json{{"content", std::move(content)}};
}

}  // namespace packmule::api
