// Small GGUF files with a vocabulary, for tests: written by hand so that any of its keys can be wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "text/byte_alphabet.h"

namespace packmule::text {

/// Every key can be left out by emptying it (strings, arrays) or setting it to -1 (ids).
struct VocabularyFile {
  std::string model = "gpt2";
  std::string pre = "qwen2";
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<std::string> merges;
  int64_t eos = -1;

  /// The 256 bytes, then `ab`, then `<|im_end|>` (control), `<think>` (user-defined), `[PAD259]` (padding).
  static VocabularyFile plain() {
    VocabularyFile file;
    for (int byte = 0; byte < 256; ++byte) file.tokens.push_back(byte_character(static_cast<uint8_t>(byte)));
    file.tokens.insert(file.tokens.end(), {"ab", "<|im_end|>", "<think>", "[PAD259]"});
    file.types.assign(257, 1);
    file.types.insert(file.types.end(), {3, 4, 5});
    file.merges = {"a b"};
    file.eos = 257;
    return file;
  }

  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::string body;
    uint64_t n_keys = 0;
    const auto number = [&](auto value) { body.append(reinterpret_cast<const char*>(&value), sizeof value); };
    const auto string = [&](const std::string& text) {
      number(uint64_t{text.size()});
      body += text;
    };
    const auto key = [&](const char* name, uint32_t type) {
      string(std::string("tokenizer.ggml.") + name);
      number(type);
      ++n_keys;
    };
    const auto array = [&](const char* name, uint32_t element_type, size_t size) {
      key(name, 9);
      number(element_type);
      number(uint64_t{size});
    };
    if (!model.empty()) key("model", 8), string(model);
    if (!pre.empty()) key("pre", 8), string(pre);
    if (!tokens.empty()) {
      array("tokens", 8, tokens.size());
      for (const std::string& token : tokens) string(token);
    }
    if (!types.empty()) {
      array("token_type", 5, types.size());
      for (const int32_t type : types) number(type);
    }
    if (!merges.empty()) {
      array("merges", 8, merges.size());
      for (const std::string& merge : merges) string(merge);
    }
    if (eos >= 0) key("eos_token_id", 4), number(static_cast<uint32_t>(eos));

    std::string head = "GGUF";
    std::swap(head, body);
    std::string file = head;  // the keys
    number(uint32_t{3});
    number(uint64_t{0});
    number(n_keys);
    file = body + file;
    file.resize((file.size() + 31) / 32 * 32, '\0');
    std::vector<std::byte> result(file.size());
    std::memcpy(result.data(), file.data(), file.size());
    return result;
  }
};

}  // namespace packmule::text
