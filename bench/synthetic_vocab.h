// A byte-level BPE vocabulary that any text can be written with: the 256 bytes, pairs of small letters,
// unused entries up to the wanted size, and the special tokens of a Qwen model at its end.
#pragma once

#include <cstdint>

#include "gguf/writer.h"

namespace packmule::bench {

/// Sets the keys `tokenizer.*`. n_vocab is at least kMinVocab.
void set_synthetic_vocab(gguf::Writer& writer, int64_t n_vocab);

}  // namespace packmule::bench
