#include "bench/synthetic_vocab.h"

#include <string>
#include <vector>

namespace packmule::bench {
namespace {

// Kinds of entries, as tokenizer.ggml.token_type numbers them.
constexpr int32_t kNormal = 1;
constexpr int32_t kControl = 3;
constexpr int32_t kUnused = 5;

std::string utf8_below_0x800(uint32_t code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3f))};
}

/// The characters that stand for the bytes 0 to 255 in GPT-2 vocabularies: a byte that is a visible character
/// of Latin-1 stands for itself, the others are U+0100, U+0101 and so on.
std::vector<std::string> byte_symbols() {
  std::vector<std::string> symbols;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    symbols.push_back(utf8_below_0x800(visible ? byte : next++));
  }
  return symbols;
}

}  // namespace

void set_synthetic_vocab(gguf::Writer& writer, int64_t n_vocab) {
  std::vector<std::string> tokens = byte_symbols();
  std::vector<std::string> merges;
  const std::string space = tokens[' '];
  for (char first = 'a' - 1; first <= 'z'; ++first) {
    const std::string left = first < 'a' ? space : std::string(1, first);
    for (char second = 'a'; second <= 'z'; ++second) {
      tokens.push_back(left + second);
      merges.push_back(left + " " + second);
    }
  }
  std::vector<int32_t> types(tokens.size(), kNormal);
  const auto size = static_cast<size_t>(n_vocab);
  while (tokens.size() + 3 < size) tokens.push_back(fmt::format("[PAD{}]", tokens.size()));
  types.resize(tokens.size(), kUnused);
  for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) tokens.emplace_back(special);
  types.resize(tokens.size(), kControl);

  const auto end_of_text = static_cast<uint32_t>(size - 3);
  writer.set("tokenizer.ggml.model", std::string("gpt2"));
  writer.set("tokenizer.ggml.pre", std::string("qwen2"));
  writer.set("tokenizer.ggml.tokens", std::move(tokens));
  writer.set("tokenizer.ggml.token_type", std::move(types));
  writer.set("tokenizer.ggml.merges", std::move(merges));
  writer.set("tokenizer.ggml.eos_token_id", end_of_text + 2);
  writer.set("tokenizer.ggml.padding_token_id", end_of_text);
  writer.set("tokenizer.ggml.bos_token_id", end_of_text);
  writer.set("tokenizer.ggml.add_bos_token", false);
  writer.set(
      "tokenizer.chat_template",
      std::string("{%- for message in messages -%}\n"
                  "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\n"
                  "{%- endfor -%}\n"
                  "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n"));
}

}  // namespace packmule::bench
