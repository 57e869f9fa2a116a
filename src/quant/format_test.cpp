#include "quant/format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>

#include "quant/reference_data_for_test.h"

namespace packmule::quant {
namespace {

TEST(Format, EveryFormatHasDataAndAllDataHasAFormat) {
  std::set<std::string> in_table;
  for (const Format& format : formats())
    if (format.type != Type::kF32) in_table.emplace(format.name);  // F32 decodes to itself: no data
  EXPECT_EQ(in_table, reference_names());
}

TEST(Format, SizesAreThoseOfTheManifest) {
  const Json manifest = reference_manifest();
  for (const std::string& name : reference_names()) {
    const Format* format = find_format(name);
    ASSERT_NE(format, nullptr) << name;
    EXPECT_EQ(static_cast<uint32_t>(format->type), manifest.at(name).at("gguf_type").get<uint32_t>()) << name;
    EXPECT_EQ(format->block_elems, manifest.at(name).at("block_elements").get<int>()) << name;
    EXPECT_EQ(format->block_bytes, manifest.at(name).at("block_bytes").get<int>()) << name;
  }
}

TEST(Format, TableIsComplete) {
  for (const Format& format : formats()) {
    EXPECT_NE(format.decode, nullptr) << format.name;
    EXPECT_TRUE(format.encode != nullptr || !format.kv_cache) << format.name << " is written every token";
    EXPECT_LT(static_cast<size_t>(format.type), kTypeIdLimit) << format.name;
    EXPECT_EQ(row_bytes(format, 3 * format.block_elems), 3 * format.block_bytes) << format.name;
  }
}

TEST(Format, IsFoundByIdAndByNameInAnyCase) {
  for (const Format& format : formats()) {
    EXPECT_EQ(find_format(static_cast<uint32_t>(format.type)), &format);
    EXPECT_EQ(&format_of(format.type), &format);
    std::string name(format.name);
    EXPECT_EQ(find_format(name), &format);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    EXPECT_EQ(find_format(name), &format);
  }
}

TEST(Format, WhatIsUnknownIsNotFound) {
  std::set<uint32_t> ids;
  for (const Format& format : formats()) ids.insert(static_cast<uint32_t>(format.type));
  for (uint32_t id = 0; id < 2 * kTypeIdLimit; ++id)
    EXPECT_EQ(find_format(id) != nullptr, ids.contains(id)) << id;
  EXPECT_EQ(find_format(UINT32_MAX), nullptr);
  for (const char* name : {"", "Q4", "Q4_KK", "Q4_K ", "q4_k_m", "Q4_2", "F3", "\xc4\xb0Q4_0"})
    EXPECT_EQ(find_format(std::string_view(name)), nullptr) << name;
}

}  // namespace
}  // namespace packmule::quant
