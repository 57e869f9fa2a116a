// Reads little-endian values from the bytes of a file, one after another, and never past the end.
#pragma once

#include <fmt/format.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/utf8.h"

namespace packmule::gguf {

static_assert(std::endian::native == std::endian::little, "GGUF values are copied as they lie in the file");

/// What is being read, for errors. Put into words only when something is wrong: a vocabulary has 450,000
/// strings.
struct Place {
  std::string_view what = "header";  // "key", "tensor"
  std::string_view name;             // once it is known
  uint64_t number = 0;               // from 1, as long as the name is not known
  uint64_t element = 0;              // of an array, from 1; 0: not in an array

  [[nodiscard]] std::string text() const {
    std::string words(what);
    if (!name.empty())
      words += fmt::format(" '{}'", printable(name, 80));
    else if (number != 0)
      words += fmt::format(" number {}", number);
    if (element != 0) words += fmt::format(", element {}", element);
    return words;
  }
};

class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string_view path) : bytes_(bytes), path_(path) {}

  Place place;

  [[nodiscard]] uint64_t position() const { return position_; }
  [[nodiscard]] uint64_t bytes_left() const { return bytes_.size() - position_; }

  /// A number of fixed size. `what` says what it is ("length of the key").
  template <class T>
  [[nodiscard]] Result<T> read(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    if (bytes_left() < sizeof(T)) return truncated(what, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  /// A string; the view points into the bytes.
  [[nodiscard]] Result<std::string_view> read_string(std::string_view what) {
    const uint64_t start = position_;
    auto length = read<uint64_t>(what);
    if (!length) return tl::unexpected<Error>(std::move(length).error());
    if (*length > bytes_left())
      return error(start, "{} has a length of {} bytes, but only {} bytes follow in the file; {}", what,
                   *length, bytes_left(), kDamaged);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + position_, *length);
    position_ += *length;
    return text;
  }

  /// An error at `offset`: path, place and offset are put before the words.
  template <class... Args>
  [[nodiscard]] tl::unexpected<Error> error(uint64_t offset, fmt::format_string<Args...> format,
                                            Args&&... args) const {
    return error_of(ErrorKind::kInvalidFile, offset, fmt::format(format, std::forward<Args>(args)...));
  }
  [[nodiscard]] tl::unexpected<Error> error_of(ErrorKind kind, uint64_t offset,
                                               std::string_view words) const {
    return fail(kind, "{}: {}, byte {}: {}", path_, place.text(), offset, words);
  }

  static constexpr std::string_view kDamaged = "the file is truncated or damaged, download it again";

 private:
  [[nodiscard]] tl::unexpected<Error> truncated(std::string_view what, size_t n_bytes) const {
    return error(position_, "expected {} ({} bytes), found the end of the file after {} bytes; {}", what,
                 n_bytes, bytes_left(), kDamaged);
  }

  std::span<const std::byte> bytes_;
  std::string_view path_;
  uint64_t position_ = 0;
};

}  // namespace packmule::gguf
