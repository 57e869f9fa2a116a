// A whole file, mapped read-only. The system pages it in when it is touched.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"

namespace packmule {

class FileMap {
 public:
  FileMap() = default;
  FileMap(FileMap&& other) noexcept;
  FileMap& operator=(FileMap&& other) noexcept;
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;
  ~FileMap();

  /// Maps a regular file. An empty file gives an empty span.
  static Result<FileMap> open(const std::string& path);

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  // Advice on a part of some map's bytes; only speed and memory depend on it.
  /// All of it is read next.
  static void will_read(std::span<const std::byte> part);
  /// It is not needed for now: it counts no longer as this process's memory. Read again, it is paged in
  /// again.
  static void was_read(std::span<const std::byte> part);
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::span<const std::byte> bytes_;
  std::string path_;
};

}  // namespace packmule
