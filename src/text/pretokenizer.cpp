#include "text/pretokenizer.h"

#include <fmt/format.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include <array>
#include <limits>

namespace packmule::text {
namespace {

// The official tokenizer has these alternatives, with \s, \p{L} and \p{N} of Unicode 16:
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)
//   [^\r\n\p{L}\p{N}]?\p{L}+
//   \p{N}
//   [ ]?[^\s\p{L}\p{N}]+[\r\n]*
//   \s*[\r\n]+
//   \s+(?!\S)
//   \s+
// PCRE2's \s has a character more (U+180E); its White_Space property has exactly the right ones. PCRE2 10.42
// knows Unicode 14: letters and numbers that came later are named here, and change nothing in a newer PCRE2.
constexpr std::string_view kLetters =
    R"(\p{L}\x{1C89}\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3}\x{10D4A}-\x{10D65})"
    R"(\x{10D6F}-\x{10D85}\x{10EC2}-\x{10EC4}\x{1123F}\x{11240}\x{11380}-\x{11389}\x{1138B}\x{1138E})"
    R"(\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3}\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10})"
    R"(\x{11F12}-\x{11F33}\x{1342F}\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D})"
    R"(\x{16D40}-\x{16D6C}\x{18CFF}\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D})"
    R"(\x{1E4D0}-\x{1E4EB}\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";
constexpr std::string_view kNumbers =
    R"(\p{N}\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11F50}-\x{11F59}\x{16130}-\x{16139})"
    R"(\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";

std::string split_pattern() {
  return fmt::format(R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
                     R"(|[^\r\n{letters}{numbers}]?[{letters}]+)"
                     R"(|[{numbers}])"
                     R"(| ?[^\p{{wspace}}{letters}{numbers}]+[\r\n]*)"
                     R"(|\p{{wspace}}*[\r\n]+)"
                     R"(|\p{{wspace}}+(?!\P{{wspace}}))"
                     R"(|\p{{wspace}}+)",
                     fmt::arg("letters", kLetters), fmt::arg("numbers", kNumbers));
}

// A stack for the compiled pattern, from the heap and grown on demand: the text may be megabytes of one
// character, the thread's own stack need not know.
constexpr size_t kJitStackFirstBytes = size_t{32} << 10;
constexpr size_t kJitStackMostBytes = size_t{16} << 20;

template <class T, void (*free_function)(T*)>
struct Freer {
  void operator()(T* pointer) const { free_function(pointer); }
};
using Code = std::unique_ptr<pcre2_code, Freer<pcre2_code, pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data, pcre2_match_data_free>>;
using MatchContext =
    std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context, pcre2_match_context_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Freer<pcre2_jit_stack, pcre2_jit_stack_free>>;

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct Pretokenizer::Impl {
  Code code;
  const icu::Normalizer2* nfc;         // of ICU's own Unicode version
  icu::UnicodeSet known;               // characters of Unicode 9
  icu::FilteredNormalizer2 nfc_known;  // of those alone
  Impl(Code compiled, const icu::Normalizer2& normalizer, icu::UnicodeSet characters)
      : code(std::move(compiled)),
        nfc(&normalizer),
        known(std::move(characters)),
        nfc_known(normalizer, *static_cast<const icu::UnicodeSet*>(known.freeze())) {}
};

Pretokenizer::Pretokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pretokenizer::~Pretokenizer() = default;

Result<std::unique_ptr<Pretokenizer>> Pretokenizer::create() {
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  const std::string pattern = split_pattern();
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &error_offset, nullptr));
  if (code == nullptr)
    return fail(ErrorKind::kInternal, "split pattern, offset {}: {}", error_offset, pcre2_message(error));
  // Where the system forbids executable memory this fails, and the interpreter matches the same.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);

  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  icu::UnicodeSet known(icu::UnicodeString::fromUTF8("[:age=9.0:]"), status);
  if (U_FAILURE(status))
    return fail(ErrorKind::kInternal,
                "Unicode data of ICU cannot be used: {}; is its data package installed?",
                u_errorName(status));
  return std::unique_ptr<Pretokenizer>(
      new Pretokenizer(std::make_unique<Impl>(std::move(code), *nfc, std::move(known))));
}

Result<std::string_view> Pretokenizer::normalize(std::string_view text, std::string& storage) const {
  constexpr auto kMost = static_cast<size_t>(std::numeric_limits<int32_t>::max());
  if (text.size() > kMost)
    return fail(ErrorKind::kInvalidArgument, "text of {} bytes: at most {} can be tokenized at once",
                text.size(), kMost);
  const icu::StringPiece source(text.data(), static_cast<int32_t>(text.size()));
  UErrorCode status = U_ZERO_ERROR;
  // What is normal in a newer version is so in an older one, and this check is the faster by far.
  if (impl_->nfc->isNormalizedUTF8(source, status) && U_SUCCESS(status)) return text;
  storage.clear();
  icu::StringByteSink<std::string> sink(&storage, static_cast<int32_t>(text.size()));
  if (U_SUCCESS(status)) impl_->nfc_known.normalizeUTF8(0, source, sink, nullptr, status);
  if (U_FAILURE(status))
    return fail(ErrorKind::kInternal, "Unicode normalization failed: {}", u_errorName(status));
  return std::string_view(storage);
}

struct Pretokenizer::Workspace::Impl {
  MatchData match{pcre2_match_data_create(1, nullptr)};
  MatchContext context{pcre2_match_context_create(nullptr)};
  JitStack stack{pcre2_jit_stack_create(kJitStackFirstBytes, kJitStackMostBytes, nullptr)};
};

Pretokenizer::Workspace::Workspace(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pretokenizer::Workspace::Workspace(Workspace&&) noexcept = default;
Pretokenizer::Workspace::~Workspace() = default;

Result<Pretokenizer::Workspace> Pretokenizer::Workspace::create() {
  auto impl = std::make_unique<Impl>();
  if (impl->match == nullptr || impl->context == nullptr || impl->stack == nullptr)
    return fail(ErrorKind::kOutOfMemory, "no memory for the regular expressions of the tokenizer");
  pcre2_jit_stack_assign(impl->context.get(), nullptr, impl->stack.get());
  // The limit guards against exponential patterns; this one is linear, and a piece may be megabytes long.
  pcre2_set_match_limit(impl->context.get(), std::numeric_limits<uint32_t>::max());
  return Workspace(std::move(impl));
}

Status Pretokenizer::split(std::string_view text, Workspace& workspace, std::vector<size_t>& ends) const {
  ends.clear();
  const Workspace::Impl& work = *workspace.impl_;
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(work.match.get());
  for (size_t at = 0; at < text.size(); at = bounds[1]) {
    const int found = pcre2_match(impl_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  at, PCRE2_NO_UTF_CHECK, work.match.get(), work.context.get());
    // Every character matches one of the alternatives, so "no match" is a failure too.
    if (found < 0 || bounds[1] <= at)
      return fail(ErrorKind::kInternal, "split pattern at byte {} of {}: {}", at, text.size(),
                  pcre2_message(found));
    ends.push_back(bounds[1]);
  }
  return {};
}

}  // namespace packmule::text
