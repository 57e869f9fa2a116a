#include "placement/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "base/utf8.h"
#include "placement/words.h"

namespace packmule::placement {
namespace {

constexpr uint32_t kMaxDepth = 2000;      // of backtracking inside of backtracking
constexpr uint32_t kMaxHeapKib = 1024;    // of one search
constexpr uint32_t kMaxParentheses = 50;  // inside of each other
constexpr size_t kShownBytes = 120;

template <class T, void (*free_function)(T*)>
struct Freer {
  void operator()(T* pointer) const { free_function(pointer); }
};
using CompileContext =
    std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context, pcre2_compile_context_free>>;
using MatchContext =
    std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context, pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data, pcre2_match_data_free>>;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

Result<Pattern> Pattern::compile(std::string_view text) {
  if (text.empty())
    return fail(ErrorKind::kInvalidArgument,
                "an empty pattern would match every tensor; write '.' if that is meant");
  if (text.size() > kMaxBytes)
    return fail(ErrorKind::kInvalidArgument, "pattern of {} bytes: expected at most {}", text.size(),
                kMaxBytes);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (context == nullptr) return fail(ErrorKind::kOutOfMemory, "no memory for a regular expression");
  pcre2_set_parens_nest_limit(context.get(), kMaxParentheses);
  constexpr uint32_t kOptions = PCRE2_DOLLAR_ENDONLY | PCRE2_ALLOW_EMPTY_CLASS | PCRE2_ALT_BSUX |
                                PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP |
                                PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), kOptions, &error,
                                   &offset, context.get());
  if (code == nullptr)
    return fail(ErrorKind::kInvalidArgument, "pattern '{}': at byte {}: {}", pattern_words(text), offset,
                message_of(error));
  return Pattern(std::string(text), std::shared_ptr<const void>(code, [](const void* held) {
                   pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(held)));
                 }));
}

Result<bool> Pattern::found_in(std::string_view name) const {
  const MatchContext context(pcre2_match_context_create(nullptr));
  const MatchData data(pcre2_match_data_create(1, nullptr));
  if (context == nullptr || data == nullptr)
    return fail(ErrorKind::kOutOfMemory, "no memory for a regular expression");
  pcre2_set_match_limit(context.get(), kMaxSteps);
  pcre2_set_depth_limit(context.get(), kMaxDepth);
  pcre2_set_heap_limit(context.get(), kMaxHeapKib);
  // The interpreter: names are short, and the limits bound it exactly, which they do not with compiled code.
  const int found =
      pcre2_match(static_cast<const pcre2_code*>(code_.get()), reinterpret_cast<PCRE2_SPTR>(name.data()),
                  name.size(), 0, 0, data.get(), context.get());
  if (found >= 0) return true;
  if (found == PCRE2_ERROR_NOMATCH) return false;
  return fail(ErrorKind::kInvalidArgument,
              "pattern '{}' on tensor {}: {}; repetitions inside of repetitions like (a*)* do this, write it "
              "without",
              pattern_words(text_), printable(name, kShownBytes), message_of(found));
}

}  // namespace packmule::placement
