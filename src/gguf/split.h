// Names of split files: PREFIX-00001-of-00003.gguf, counted from 1.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace packmule::gguf {

/// The keys every shard carries. `split.no` counts from 0.
inline constexpr std::string_view kSplitNo = "split.no";
inline constexpr std::string_view kSplitCount = "split.count";
inline constexpr std::string_view kSplitTensorsCount = "split.tensors.count";

inline constexpr int kMaxShards = 65535;  // split.count is a u16 in the files of other tools

struct SplitName {
  std::string prefix;  // folder included
  int number = 1;      // from 1
  int count = 1;
};

/// Null when `path` is not named as a shard, or its numbers make no sense (0, or more than the count).
[[nodiscard]] std::optional<SplitName> parse_split_name(std::string_view path);
[[nodiscard]] std::string split_path(std::string_view prefix, int number, int count);

}  // namespace packmule::gguf
