// What happens to a text before its bytes are merged: Unicode normalization, and the cut into pieces that no
// merge crosses.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace packmule::text {

/// As the Qwen 2 and 3 tokenizers do it. Immutable, usable by several threads.
class Pretokenizer {
 public:
  static Result<std::unique_ptr<Pretokenizer>> create();
  ~Pretokenizer();

  /// Working memory of split(), for one thread at a time; costs more than splitting a short text.
  class Workspace {
   public:
    static Result<Workspace> create();
    Workspace(Workspace&&) noexcept;
    ~Workspace();

   private:
    friend class Pretokenizer;
    struct Impl;
    explicit Workspace(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
  };

  /// NFC of valid UTF-8: `text` itself if it is that already, or a view of `storage`, which is overwritten.
  /// It is the NFC of Unicode 9, the version the official tokenizer normalizes by: newer characters stay as
  /// they are, and nothing is composed or reordered across them.
  [[nodiscard]] Result<std::string_view> normalize(std::string_view text, std::string& storage) const;

  /// Replaces `ends` by the end offset of each piece of `text`, ascending; the last one is text.size().
  /// `text` must be valid UTF-8. Time is linear in the text.
  [[nodiscard]] Status split(std::string_view text, Workspace& workspace, std::vector<size_t>& ends) const;

 private:
  struct Impl;
  explicit Pretokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packmule::text
