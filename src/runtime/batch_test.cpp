// Shapes of batches on paper: what commands that were recorded for one are good for.
#include "runtime/batch.h"

#include <gtest/gtest.h>

#include <set>

namespace packmule::runtime {
namespace {

DeviceBatch one_slice(const DeviceCaches::DeviceState& state, int64_t n_rows, int64_t n_entries = 1) {
  DeviceBatch batch;
  batch.n_rows = n_rows;
  batch.n_logits = 1;
  batch.slices.push_back(
      {.n_rows = n_rows, .state = &state, .stretches = {{0, n_rows}}, .n_entries = n_entries});
  return batch;
}

struct Found {
  size_t shape;
  uint64_t generation;
  auto operator<=>(const Found&) const = default;
};

Found find(ShapeKeys& keys, DeviceBatch batch) {
  keys.find(batch);
  return {batch.shape, batch.generation};
}

TEST(ShapeKeys, TellApartWhatCommandsDependOn) {
  DeviceCaches::DeviceState first, second;
  first.id = 1;
  second.id = 2;
  ShapeKeys keys;
  const Found decode = find(keys, one_slice(first, 1));
  DeviceBatch later = one_slice(first, 1);
  later.slices[0].position = 17;  // read from a table
  EXPECT_EQ(find(keys, later), decode);

  std::vector<DeviceBatch> others{one_slice(second, 1), one_slice(first, 2), one_slice(first, 1, 2)};
  others.push_back(one_slice(first, 1));
  others.back().n_logits = 0;
  others.push_back(one_slice(first, 40));
  others.back().slices[0].stretches = {{0, 20, &second}, {20, 40}};  // a state is kept
  others.push_back(others.back());
  others.back().slices[0].stretches[0].keep = nullptr;  // the same cut, and none is
  others.push_back(one_slice(first, 40));
  std::set<Found> all{decode};
  for (const DeviceBatch& other : others) all.insert(find(keys, other));
  EXPECT_EQ(all.size(), others.size() + 1);
  EXPECT_EQ(find(keys, one_slice(first, 1)), decode) << "kept beside the others";
}

TEST(ShapeKeys, TheOneUsedLongestAgoMakesRoom) {
  DeviceCaches::DeviceState state;
  ShapeKeys keys;
  const Found decode = find(keys, one_slice(state, 1)), prompt = find(keys, one_slice(state, 2));
  for (size_t i = 0; i < ShapeKeys::kMost; ++i) {
    find(keys, one_slice(state, 100 + static_cast<int64_t>(i)));
    EXPECT_EQ(find(keys, one_slice(state, 1)), decode) << "in use all the time";
  }
  const Found again = find(keys, one_slice(state, 2));
  EXPECT_LT(again.shape, ShapeKeys::kMost);
  EXPECT_NE(again.generation, prompt.generation);
  keys.forget_all();
  EXPECT_NE(find(keys, one_slice(state, 1)).generation, decode.generation);
}

}  // namespace
}  // namespace packmule::runtime
