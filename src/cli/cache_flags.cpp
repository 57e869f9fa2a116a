#include "cli/cache_flags.h"

#include <fmt/format.h>

#include <string>

#include "base/utf8.h"

namespace packmule::cli {
namespace {

std::string cache_formats() {
  std::string names;
  for (const quant::Format& format : quant::formats())
    if (format.kv_cache)
      names +=
          fmt::format("{}{}", names.empty() ? "" : ", ", CLI::detail::to_lower(std::string(format.name)));
  return names;
}

void add_flag(CLI::App& verb, const std::string& flag, const char* what, quant::Type& type) {
  const auto parse = [flag, &type](const std::string& name) {
    const quant::Format* format = quant::find_format(std::string_view(name));
    if (format == nullptr || !format->kv_cache)
      throw CLI::ValidationError(
          flag, fmt::format("expected one of {}, found '{}'", cache_formats(), printable(name, 40)));
    type = format->type;
  };
  verb.add_option_function<std::string>(
          flag, parse, fmt::format("Format of the {} cache: {} (default f16)", what, cache_formats()))
      ->type_name("TYPE");
}

}  // namespace

void add_cache_flags(CLI::App& verb, quant::Type& k_type, quant::Type& v_type) {
  add_flag(verb, "--cache-type-k", "K", k_type);
  add_flag(verb, "--cache-type-v", "V", v_type);
}

}  // namespace packmule::cli
