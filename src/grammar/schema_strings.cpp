#include "grammar/schema_strings.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "grammar/grammar.h"

namespace packmule::grammar {
namespace {

// RFC 3339, with the lengths of months and the leap years of the calendar; no leap seconds.
#define MONTHS                                                                                               \
  "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-" \
  "9]|2[0-8]))"
#define LEAP_YEAR "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
#define DATE "(?:[0-9]{4}-" MONTHS "|" LEAP_YEAR "-02-29)"
#define TIME \
  "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4 OCTET "(?:\\." OCTET "){3}"
#define H16 "[0-9A-Fa-f]{1,4}"
#define LS32 "(?:" H16 ":" H16 "|" IPV4 ")"
// RFC 4291 as the grammar of RFC 3986 writes it.
#define IPV6                                                                                              \
  "(?:(?:" H16 ":){6}" LS32 "|::(?:" H16 ":){5}" LS32 "|(?:" H16 ")?::(?:" H16 ":){4}" LS32 "|(?:(?:" H16 \
  ":){0,1}" H16 ")?::(?:" H16 ":){3}" LS32 "|(?:(?:" H16 ":){0,2}" H16 ")?::(?:" H16 ":){2}" LS32         \
  "|(?:(?:" H16 ":){0,3}" H16 ")?::" H16 ":" LS32 "|(?:(?:" H16 ":){0,4}" H16 ")?::" LS32 "|(?:(?:" H16   \
  ":){0,5}" H16 ")?::" H16 "|(?:(?:" H16 ":){0,6}" H16 ")?::)"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST LABEL "(?:\\." LABEL ")*"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
// RFC 3986: characters by the part they may stand in.
#define PCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
#define USERHOST                                                      \
  "(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?(?:\\[" IPV6 \
  "\\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
#define QUERY "(?:\\?(?:" PCHAR "|[/?])*)?(?:#(?:" PCHAR "|[/?])*)?"
#define PATH "(?://" USERHOST "(?:/" PCHAR "*)*|/(?:" PCHAR "+(?:/" PCHAR "*)*)?|" PCHAR "+(?:/" PCHAR "*)*|)"

constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kFormats = {{
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "[Tt]" TIME "$"},
    {"duration",
     "^P(?:[0-9]+W|(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)(?:T(?:[0-9]+H(?:[0-9]+M(?:"
     "[0-9]+S)?)?"
     "|[0-9]+M(?:[0-9]+S)?|[0-9]+S))?|T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))$"},
    {"email", "^" ATOM "(?:\\." ATOM ")*@" HOST "$"},
    {"hostname", "^" HOST "$"},
    {"ipv4", "^" IPV4 "$"},
    {"ipv6", "^" IPV6 "$"},
    {"uuid", "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"},
    {"uri", "^[A-Za-z][A-Za-z0-9+.-]*:" PATH QUERY "$"},
    {"uri-reference",
     "^(?:[A-Za-z][A-Za-z0-9+.-]*:" PATH "|//" USERHOST "(?:/" PCHAR "*)*|/(?:" PCHAR "+(?:/" PCHAR
     "*)*)?|(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+(?:/" PCHAR "*)*|)" QUERY "$"},
    {"json-pointer", "^(?:/(?:[^~/]|~[01])*)*$"},
    {"relative-json-pointer", "^(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*)$"},
}};

constexpr std::array<std::string_view, 6> kUnsupported = {"iri",          "iri-reference", "idn-email",
                                                          "idn-hostname", "uri-template",  "regex"};

// A product with the length of the strings has that many states for each of the other automaton.
constexpr int64_t kMaxProductLength = 2000;

WriteChars writer(JsonRules& rules, StringForm form) {
  if (form == StringForm::kRaw) return [](Source& source, const CharSet& set) { return source.chars(set); };
  return [&rules](Source&, const CharSet& set) { return rules.written(set); };
}

}  // namespace

Result<std::string_view> format_pattern(std::string_view format) {
  if (std::find(kUnsupported.begin(), kUnsupported.end(), format) != kUnsupported.end())
    return fail(ErrorKind::kUnsupported, "the format \"{}\" is not supported", format);
  for (const auto& [name, pattern] : kFormats)
    if (name == format) return pattern;
  return std::string_view();
}

bool limits_strings(const Json& schema) {
  if (schema.contains("pattern")) return true;
  if (schema.contains("maxLength")) return true;
  if (const auto min = schema.find("minLength"); min != schema.end() && *min != 0) return true;
  const auto format = schema.find("format");
  if (format == schema.end() || !format->is_string()) return false;
  const auto pattern = format_pattern(format->get_ref<const std::string&>());
  return !pattern || !pattern->empty();
}

Result<Expr> string_content(JsonRules& rules, const Json& schema, StringForm form, Effort& effort) {
  Source& source = rules.source();
  const WriteChars write = writer(rules, form);
  std::vector<Expr> parts;
  if (const auto patterns = schema.find("pattern"); patterns != schema.end()) {
    // Several where schemas were merged.
    const Json list = patterns->is_array() ? *patterns : Json::array({*patterns});
    for (const Json& pattern : list) {
      if (!pattern.is_string()) return fail(ErrorKind::kInvalidArgument, "'pattern' must be a string");
      PACKMULE_TRY(const Expr part, read_regex(pattern.get_ref<const std::string&>(), source, write));
      parts.push_back(part);
    }
  }
  if (const auto format = schema.find("format"); format != schema.end() && format->is_string()) {
    PACKMULE_TRY(const std::string_view pattern, format_pattern(format->get_ref<const std::string&>()));
    if (!pattern.empty()) {
      PACKMULE_TRY(const Expr part, read_regex(pattern, source, write));
      parts.push_back(part);
    }
  }
  const int64_t min = schema.value("minLength", int64_t{0});
  const int64_t max = schema.contains("maxLength") ? schema["maxLength"].get<int64_t>() : kUnlimited;
  if (min > 0 || max != kUnlimited) {
    if (!parts.empty() && std::max(min, max) > kMaxProductLength)
      return fail(
          ErrorKind::kUnsupported,
          "lengths of more than {} together with 'pattern' or 'format' are not supported; say the length in "
          "the pattern, as {{0,{}}}",
          kMaxProductLength, std::max(min, max));
    const Expr one =
        form == StringForm::kJson && parts.empty() ? rules.character() : write(source, {{0, kLastChar}});
    parts.push_back(source.repeat(one, min, max));
  }
  if (parts.size() == 1) return parts[0];
  PACKMULE_TRY(Dfa all, automaton_of(source, parts[0], effort));
  for (size_t i = 1; i < parts.size(); ++i) {
    PACKMULE_TRY(const Dfa one, automaton_of(source, parts[i], effort));
    PACKMULE_TRY(all, intersect(all, one, effort));
  }
  return source.automaton(std::move(all));
}

}  // namespace packmule::grammar
