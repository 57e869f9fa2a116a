// The loop that every decoder and encoder shares.
#pragma once

#include <cstdint>

namespace packmule::quant {

/// Calls fn(block, out) for each block of n_elems weights, a multiple of Block::kElems.
template <class Block, class Fn>
void decode_each(const void* blocks, float* out, int64_t n_elems, Fn fn) {
  const Block* block = static_cast<const Block*>(blocks);
  for (int64_t i = 0; i < n_elems; i += Block::kElems) fn(*block++, out + i);
}

/// Calls fn(in, importance, block) for each block; importance is null or moves along with in.
template <class Block, class Fn>
void encode_each(const float* in, const float* importance, void* blocks, int64_t n_elems, Fn fn) {
  Block* block = static_cast<Block*>(blocks);
  for (int64_t i = 0; i < n_elems; i += Block::kElems)
    fn(in + i, importance == nullptr ? nullptr : importance + i, *block++);
}

}  // namespace packmule::quant
