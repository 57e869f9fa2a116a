#include "gguf/split.h"

#include <fmt/format.h>

namespace packmule::gguf {
namespace {

constexpr std::string_view kExtension = ".gguf";
constexpr std::string_view kOf = "-of-";
constexpr size_t kDigits = 5;

/// Takes exactly five digits off the end of `text`.
std::optional<int> take_number(std::string_view& text) {
  if (text.size() < kDigits) return std::nullopt;
  const std::string_view digits = text.substr(text.size() - kDigits);
  int number = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + (c - '0');
  }
  text.remove_suffix(kDigits);
  return number;
}

bool take_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

}  // namespace

std::optional<SplitName> parse_split_name(std::string_view path) {
  if (!take_suffix(path, kExtension)) return std::nullopt;
  const auto count = take_number(path);
  if (!count || !take_suffix(path, kOf)) return std::nullopt;
  const auto number = take_number(path);
  if (!number || !take_suffix(path, "-")) return std::nullopt;
  if (*number < 1 || *number > *count) return std::nullopt;
  return SplitName{std::string(path), *number, *count};
}

std::string split_path(std::string_view prefix, int number, int count) {
  return fmt::format("{}-{:05}{}{:05}{}", prefix, number, kOf, count, kExtension);
}

}  // namespace packmule::gguf
