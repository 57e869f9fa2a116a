// What the processor can do *and* the system lets us use, and how many cores we may run on.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace packmule {

/// Kernel variants, weakest first. A variant is usable when every instruction set its files are compiled with
/// is present and its registers are saved by the system.
enum class Isa { kRef, kAvx2, kAvxVnni, kAvx512, kAmx };
inline constexpr std::array kIsas = {Isa::kRef, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512, Isa::kAmx};

[[nodiscard]] std::string_view isa_name(Isa isa);
[[nodiscard]] std::optional<Isa> isa_from_name(std::string_view name);

/// kAvx2: AVX2, FMA, F16C. kAvxVnni: those and AVX-VNNI. kAvx512: kAvx2's and AVX512 F, BW, DQ, VL, VNNI.
/// kAmx: kAvx512's and AMX TILE and INT8, which the first call asks the system for on behalf of the process.
[[nodiscard]] bool isa_usable(Isa isa);

/// The strongest usable variant, or the one the environment variable PACKMULE_CPU names (ref, avx2,
/// avxvnni, avx512, amx).
/// An unknown or unusable name is an error that says which ones are usable.
[[nodiscard]] Result<Isa> choose_isa();

/// Cores this process may run on (affinity mask and cgroup quota respected), at least 1.
[[nodiscard]] int usable_cores();

/// "AMD EPYC 7B13", as the system names it; for logs and benchmark tables.
[[nodiscard]] std::string cpu_model_name();

}  // namespace packmule
