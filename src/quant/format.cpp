#include "quant/format.h"

#include <algorithm>
#include <array>

#include "quant/floats.h"
#include "quant/iq1_m.h"
#include "quant/iq1_s.h"
#include "quant/iq2_s.h"
#include "quant/iq2_xs.h"
#include "quant/iq2_xxs.h"
#include "quant/iq3_s.h"
#include "quant/iq3_xxs.h"
#include "quant/iq4_nl.h"
#include "quant/iq4_xs.h"
#include "quant/mxfp4.h"
#include "quant/nvfp4.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"
#include "quant/tq1_0.h"
#include "quant/tq2_0.h"

namespace packmule::quant {
namespace {

template <class Block>
constexpr Format row(Type type, std::string_view name, DecodeFn decode, EncodeFn encode, bool kv_cache) {
  return {type, name, Block::kElems, static_cast<int32_t>(sizeof(Block)), decode, encode, kv_cache};
}

template <class Block>
constexpr Format weights_only(Type type, std::string_view name, DecodeFn decode, EncodeFn encode = nullptr) {
  return row<Block>(type, name, decode, encode, false);
}

template <class Block>
constexpr Format cacheable(Type type, std::string_view name, DecodeFn decode, EncodeFn encode) {
  return row<Block>(type, name, decode, encode, true);
}

// By ascending type id.
constexpr Format kFormats[] = {
    {Type::kF32, "F32", 1, 4, decode_f32, encode_f32, true},
    {Type::kF16, "F16", 1, 2, decode_f16, encode_f16, true},
    cacheable<BlockQ4_0>(Type::kQ4_0, "Q4_0", decode_q4_0, encode_q4_0),
    cacheable<BlockQ4_1>(Type::kQ4_1, "Q4_1", decode_q4_1, encode_q4_1),
    cacheable<BlockQ5_0>(Type::kQ5_0, "Q5_0", decode_q5_0, encode_q5_0),
    cacheable<BlockQ5_1>(Type::kQ5_1, "Q5_1", decode_q5_1, encode_q5_1),
    cacheable<BlockQ8_0>(Type::kQ8_0, "Q8_0", decode_q8_0, encode_q8_0),
    weights_only<BlockQ2_K>(Type::kQ2_K, "Q2_K", decode_q2_k),
    weights_only<BlockQ3_K>(Type::kQ3_K, "Q3_K", decode_q3_k),
    weights_only<BlockQ4_K>(Type::kQ4_K, "Q4_K", decode_q4_k, encode_q4_k),
    weights_only<BlockQ5_K>(Type::kQ5_K, "Q5_K", decode_q5_k, encode_q5_k),
    weights_only<BlockQ6_K>(Type::kQ6_K, "Q6_K", decode_q6_k, encode_q6_k),
    weights_only<BlockIQ2_XXS>(Type::kIQ2_XXS, "IQ2_XXS", decode_iq2_xxs),
    weights_only<BlockIQ2_XS>(Type::kIQ2_XS, "IQ2_XS", decode_iq2_xs),
    weights_only<BlockIQ3_XXS>(Type::kIQ3_XXS, "IQ3_XXS", decode_iq3_xxs),
    weights_only<BlockIQ1_S>(Type::kIQ1_S, "IQ1_S", decode_iq1_s),
    cacheable<BlockIQ4_NL>(Type::kIQ4_NL, "IQ4_NL", decode_iq4_nl, encode_iq4_nl),
    weights_only<BlockIQ3_S>(Type::kIQ3_S, "IQ3_S", decode_iq3_s),
    weights_only<BlockIQ2_S>(Type::kIQ2_S, "IQ2_S", decode_iq2_s),
    weights_only<BlockIQ4_XS>(Type::kIQ4_XS, "IQ4_XS", decode_iq4_xs),
    weights_only<BlockIQ1_M>(Type::kIQ1_M, "IQ1_M", decode_iq1_m),
    {Type::kBF16, "BF16", 1, 2, decode_bf16, encode_bf16, true},
    weights_only<BlockTQ1_0>(Type::kTQ1_0, "TQ1_0", decode_tq1_0),
    weights_only<BlockTQ2_0>(Type::kTQ2_0, "TQ2_0", decode_tq2_0),
    weights_only<BlockMXFP4>(Type::kMXFP4, "MXFP4", decode_mxfp4),
    weights_only<BlockNVFP4>(Type::kNVFP4, "NVFP4", decode_nvfp4),
};
static_assert(std::ranges::is_sorted(kFormats, {}, &Format::type));
static_assert(static_cast<size_t>(kFormats[std::size(kFormats) - 1].type) + 1 == kTypeIdLimit);

constexpr std::array<const Format*, kTypeIdLimit> index_by_id() {
  std::array<const Format*, kTypeIdLimit> index{};
  for (const Format& format : kFormats) index[static_cast<size_t>(format.type)] = &format;
  return index;
}
constexpr std::array<const Format*, kTypeIdLimit> kById = index_by_id();

// Names are ASCII; std::tolower would ask the locale.
constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

std::span<const Format> formats() {
  return kFormats;
}

const Format* find_format(uint32_t type_id) {
  return type_id < kTypeIdLimit ? kById[type_id] : nullptr;
}

const Format& format_of(Type type) {
  return *kById[static_cast<size_t>(type)];
}

const Format* find_format(std::string_view name) {
  const auto same_name = [name](const Format& format) {
    return std::ranges::equal(format.name, name, {}, lower, lower);
  };
  const Format* found = std::ranges::find_if(kFormats, same_name);
  return found == std::end(kFormats) ? nullptr : found;
}

}  // namespace packmule::quant
