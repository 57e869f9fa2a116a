#include "base/cpu.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace packmule {
namespace {

TEST(Cpu, NamesAndVariantsAgree) {
  for (const char* name : {"ref", "avx2", "avxvnni", "avx512", "amx"}) {
    const auto isa = isa_from_name(name);
    ASSERT_TRUE(isa.has_value());
    EXPECT_EQ(isa_name(*isa), name);
  }
  EXPECT_FALSE(isa_from_name("sse9").has_value());
  EXPECT_TRUE(isa_usable(Isa::kRef));
  EXPECT_GE(usable_cores(), 1);
}

TEST(Cpu, TheEnvironmentForcesAVariantAndNonsenseIsRefused) {
  const char* saved = std::getenv("PACKMULE_CPU");
  const std::string before = saved == nullptr ? "" : saved;
  setenv("PACKMULE_CPU", "ref", 1);
  EXPECT_EQ(choose_isa().value(), Isa::kRef);
  setenv("PACKMULE_CPU", "pentium", 1);
  const auto wrong = choose_isa();
  ASSERT_FALSE(wrong.has_value());
  EXPECT_NE(wrong.error().message.find("PACKMULE_CPU=pentium"), std::string::npos);
  EXPECT_NE(wrong.error().message.find("ref"), std::string::npos);
  setenv("PACKMULE_CPU", before.c_str(), 1);
}

}  // namespace
}  // namespace packmule
