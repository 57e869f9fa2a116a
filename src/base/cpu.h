// What the processor can do *and* the system lets us use, and how many cores we may run on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace packmule {

/// Kernel variants, weakest first. A variant is usable when every instruction set its files are compiled with
/// is present and its registers are saved by the system.
enum class Isa { kRef, kAvx2, kAvx512 };

[[nodiscard]] std::string_view isa_name(Isa isa);
[[nodiscard]] std::optional<Isa> isa_from_name(std::string_view name);

/// kAvx2: AVX2, FMA, F16C. kAvx512: those and AVX512 F, BW, DQ, VL.
[[nodiscard]] bool isa_usable(Isa isa);

/// The strongest usable variant, or the one the environment variable PACKMULE_CPU names (ref, avx2, avx512).
/// An unknown or unusable name is an error that says which ones are usable.
[[nodiscard]] Result<Isa> choose_isa();

/// Cores this process may run on (affinity mask and cgroup quota respected), at least 1.
[[nodiscard]] int usable_cores();

/// "AMD EPYC 7B13", as the system names it; for logs and benchmark tables.
[[nodiscard]] std::string cpu_model_name();

}  // namespace packmule
