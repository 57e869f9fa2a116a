#include "cli/flags.h"

#include <array>
#include <string_view>
#include <utility>

namespace packmule::cli {
namespace {

using Spelling = std::pair<std::string_view, std::string_view>;
constexpr auto kLongNames = std::to_array<Spelling>({
    {"-cmoe", "--cpu-moe"},       {"-ctk", "--cache-type-k"},
    {"-ctv", "--cache-type-v"},   {"-dev", "--device"},
    {"-fa", "--flash-attn"},      {"-ncmoe", "--n-cpu-moe"},
    {"-ngl", "--n-gpu-layers"},   {"-nkvo", "--no-kv-offload"},
    {"-no-cnv", "--no-chat"},     {"-nopo", "--no-op-offload"},
    {"-np", "--parallel"},        {"-cram", "--cache-ram"},
    {"-cb", "--cont-batching"},   {"-nocb", "--no-cont-batching"},
    {"-kvu", "--kv-unified"},     {"-no-kvu", "--no-kv-unified"},
    {"-ot", "--override-tensor"}, {"-sys", "--system-prompt"},
    {"-tb", "--threads-batch"},   {"-to", "--timeout"},
    {"-ub", "--ubatch-size"},
});

}  // namespace

std::vector<std::string> with_long_names(std::vector<std::string> args) {
  for (std::string& arg : args) {
    if (arg == "--") break;
    for (const auto& [short_name, long_name] : kLongNames)
      if (arg == short_name) arg = long_name;
  }
  return args;
}

}  // namespace packmule::cli
