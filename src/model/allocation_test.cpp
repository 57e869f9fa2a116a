// The decode loop takes no memory from the heap: operator new, replaced in this program, counts.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "model/model_for_test.h"
#include "tests/support/golden.h"

namespace {
std::atomic<int64_t> n_allocations = 0;

void* count_and_allocate(std::size_t size) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) {
  return count_and_allocate(size);
}
void* operator new[](std::size_t size) {
  return count_and_allocate(size);
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  std::free(p);
}

namespace packmule::model {
namespace {

TEST(Allocation, NoneInForward) {
  const std::string name = testing_support::golden_names().front();
  const testing_support::GoldenCase golden = testing_support::read_golden(name);
  const auto path = testing_support::golden_model(golden);
  ASSERT_TRUE(path.has_value()) << path.error().message;
  for (const Isa isa : all_isas()) {
    if (!isa_usable(isa)) continue;
    const auto loaded = LoadedModel::load(*path, exact_options(isa, 64));
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    const auto sequence = loaded->sequence();
    const std::span<const int32_t> tokens(golden.tokens);
    const auto forward = [&](size_t begin, size_t n) {
      const Slice slice{sequence.get(), tokens.subspan(begin, n), WantLogits::kLast};
      return loaded->model->forward({&slice, 1}).has_value();
    };
    const int64_t before = n_allocations;
    bool all_well = forward(0, 60);
    for (size_t i = 60; i < 140; ++i) all_well &= forward(i, 1);  // over the edge of a page of the cache
    const int64_t taken = n_allocations - before;
    EXPECT_TRUE(all_well);
    EXPECT_EQ(taken, 0) << isa_name(isa);
    const int64_t counted = n_allocations;
    delete new int;
    EXPECT_EQ(n_allocations, counted + 1) << "the counter counts";
  }
}

}  // namespace
}  // namespace packmule::model
