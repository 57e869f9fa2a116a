#include "placement/machine.h"

#include <fmt/format.h>

#include <algorithm>

namespace packmule::placement {
namespace {

using quant::Type;

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
bool same(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

void set_factor(Processor& processor, std::initializer_list<Type> types, float factor) {
  for (const Type type : types) processor.format_factor[static_cast<size_t>(type)] = factor;
}

constexpr std::initializer_list<Type> kCodebooks = {
    Type::kIQ1_S, Type::kIQ1_M, Type::kIQ2_XXS, Type::kIQ2_XS, Type::kIQ2_S, Type::kIQ3_XXS, Type::kIQ3_S};

}  // namespace

Where Machine::find(std::string_view name) const {
  for (size_t i = 0; i < processors.size(); ++i)
    if (same(processors[i].name, name) ||
        (!processors[i].other_name.empty() && same(processors[i].other_name, name)))
      return static_cast<Where>(i);
  return -1;
}

std::string Machine::names() const {
  std::string text;
  for (const Processor& p : processors)
    text += fmt::format("{}{}{}", text.empty() ? "" : ", ", p.name,
                        p.other_name.empty() ? "" : fmt::format(" ({})", p.other_name));
  return text;
}

Processor default_host(int n_threads, bool wide_vectors) {
  Processor host;
  host.name = "CPU";
  // Two channels of DDR4-3200 are 51 GB/s, of DDR5-5600 90; packmule decodes at 0.88 of what a streaming read
  // gets (docs/performance.md), and that is some 0.8 of the former.
  host.read_bytes_s = 40e9;
  // docs/performance.md: two cores do 366 tokens/s of the 8-layer file with AVX-512, 181 with AVX2, at 0.55 G
  // multiplications and additions a token.
  host.multiply_add_s = (wide_vectors ? 100e9 : 50e9) * n_threads;
  host.phase_s = 5e-6;
  // docs/performance.md, "A long context": 7 of 34 GB/s with f16, 4 to 5.5 with q8_0 and q4_1.
  host.cache_factor_16 = 0.20;
  host.cache_factor_blocks = 0.13;
  // There too: two threads read codebook formats at 3 to 6 of 34 GB/s.
  set_factor(host, kCodebooks, 0.13f);
  return host;
}

Processor default_device(int number, int64_t memory_bytes) {
  Processor device;
  device.name = fmt::format("GPU{}", number);
  device.other_name = fmt::format("Vulkan{}", number);
  device.words = "imagined device";
  device.total_bytes = device.free_bytes = memory_bytes;
  // What Vulkan drivers commonly report (RADV, ANV: 4 GiB less a little).
  device.max_tensor_bytes = (int64_t{4} << 30) - 4;
  // A card of the middle: 400 to 450 GB/s by its data sheet, of which matrix-vector products reach 0.7.
  device.read_bytes_s = 300e9;
  device.multiply_add_s = 8e12;  // of 16 by its data sheet, in half precision without matrix units
  device.link_bytes_s = 12e9;    // PCIe 3.0 x16 or 4.0 x8, less the protocol
  device.hop_s = 25e-6;          // a submission or a fence on a desktop driver
  device.phase_s = 5e-6;         // a dispatch and the barrier before it
  device.cache_factor_16 = 0.7;
  device.cache_factor_blocks = 0.5;
  set_factor(device, kCodebooks, 0.6f);
  return device;
}

}  // namespace packmule::placement
