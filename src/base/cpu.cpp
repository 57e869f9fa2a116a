#include "base/cpu.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

namespace packmule {
namespace {
#ifdef PACKMULE_EMULATE_ISAS
constexpr bool kEmulated = true;  // by AVX2
#else
constexpr bool kEmulated = false;
#endif

// Features that not every compiler's run-time check knows: bits of CPUID leaf 7.
bool cpuid_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
bool cpuid_amx_int8() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 24 & 1) != 0 && (d >> 25 & 1) != 0;
}

// Linux gives a process the 8 KiB of tile registers only when it asks (Documentation/arch/x86/xstate.rst).
bool may_use_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}

// cgroup v2 states the quota as "MAX PERIOD" in microseconds, or "max PERIOD" when there is none.
int cgroup_cores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 1 << 20;
  return std::max(1, static_cast<int>(std::lround(std::strtod(quota.c_str(), nullptr) / period)));
}
}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kRef:
      return "ref";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvxVnni:
      return "avxvnni";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "?";
}

std::optional<Isa> isa_from_name(std::string_view name) {
  for (Isa isa : kIsas)
    if (isa_name(isa) == name) return isa;
  return std::nullopt;
}

bool isa_usable(Isa isa) {
  // The compiler's run-time check reads CPUID and XGETBV: a feature whose registers the system does not save
  // counts as absent.
  switch (isa) {
    case Isa::kRef:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    case Isa::kAvxVnni:
      return isa_usable(Isa::kAvx2) && (kEmulated || cpuid_avx_vnni());
    case Isa::kAvx512:
      return isa_usable(Isa::kAvx2) &&
             (kEmulated || (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512vnni")));
    case Isa::kAmx:
      return isa_usable(Isa::kAvx512) && (kEmulated || (cpuid_amx_int8() && may_use_tiles()));
  }
  return false;
}

Result<Isa> choose_isa() {
  std::string usable;
  Isa best = Isa::kRef;
  for (Isa isa : kIsas) {
    if (!isa_usable(isa)) continue;
    best = isa;
    usable += (usable.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  const char* forced = std::getenv("PACKMULE_CPU");
  if (forced == nullptr || *forced == '\0') return best;
  const auto isa = isa_from_name(forced);
  if (!isa) return fail(ErrorKind::kInvalidArgument, "PACKMULE_CPU={}: expected one of {}", forced, usable);
  if (!isa_usable(*isa))
    return fail(ErrorKind::kUnsupported,
                "PACKMULE_CPU={}: this processor or system cannot run it; usable here: {}", forced, usable);
  return *isa;
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, std::min(allowed, cgroup_cores()));
}

std::string cpu_model_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

}  // namespace packmule
