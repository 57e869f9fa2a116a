#include "engine/slicing.h"

#include <gtest/gtest.h>

#include <random>

#include "engine/boundaries.h"

namespace packmule::engine {
namespace {

using Positions = std::vector<int64_t>;

constexpr Cutting kCutting{.grid = 64, .look_back = 3, .short_slice = 15};

/// Where chunks begin when a prompt is read in slices of the room that `room` gives.
template <class Room>
Positions chunk_begins(Reading reading, Room&& room) {
  Positions begins;
  while (reading.position < reading.n_prompt) {
    const int64_t end = slice_end(reading, kCutting, room());
    if (end == reading.position) continue;
    const auto next =
        std::upper_bound(reading.boundaries.begin(), reading.boundaries.end(), reading.position);
    if (next != reading.boundaries.end() && *next < end) {
      EXPECT_GE(*next - reading.position, kCutting.look_back);
    }
    // As the model does it.
    for (int64_t at = reading.position; at < end;) {
      begins.push_back(at);
      const auto mark = std::upper_bound(reading.boundaries.begin(), reading.boundaries.end(), at);
      at = std::min({at + kCutting.grid, end, mark == reading.boundaries.end() ? end : *mark});
    }
    reading.origin = origin_at(reading, end);
    reading.position = end;
  }
  return begins;
}

TEST(Slicing, TheRoomDoesNotShow) {
  std::mt19937 random(1);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (int round = 0; round < 500; ++round) {
    Positions boundaries;
    for (int64_t at = 0; boundaries.size() < static_cast<size_t>(below(8));)
      boundaries.push_back(at += 1 + below(round % 2 == 0 ? 5 : 200));
    const int64_t n = (boundaries.empty() ? 0 : boundaries.back()) + 1 + below(300);
    const Reading reading{.n_prompt = n, .n_tokens = n, .boundaries = boundaries};
    const Positions whole = chunk_begins(reading, [&] { return n; });
    const Positions cut = chunk_begins(reading, [&] { return 64 + below(200); });
    ASSERT_EQ(cut, whole) << round;
    // From a boundary on, as if the prompt had been read from its begin.
    if (boundaries.empty()) continue;
    Reading rest = reading;
    rest.position = rest.origin = boundaries[static_cast<size_t>(below(std::ssize(boundaries)))];
    const Positions later = chunk_begins(rest, [&] { return 64 + below(200); });
    ASSERT_EQ(later, Positions(std::find(whole.begin(), whole.end(), rest.position), whole.end()));
  }
}

TEST(Slicing, TakesAllThatFits) {
  const Positions boundaries{100, 300};
  Reading reading{.n_prompt = 500, .n_tokens = 500, .boundaries = boundaries};
  EXPECT_EQ(slice_end(reading, kCutting, 1000), 500);
  EXPECT_EQ(slice_end(reading, kCutting, 499), 300 + 192);
  EXPECT_EQ(slice_end(reading, kCutting, 300), 300);
  EXPECT_EQ(slice_end(reading, kCutting, 299), 100 + 192 - 0);
  EXPECT_EQ(slice_end(reading, kCutting, 99), 64);
  EXPECT_EQ(slice_end(reading, kCutting, 63), 0) << "not a whole chunk";
  reading.position = 64;
  EXPECT_EQ(slice_end(reading, kCutting, 64), 100);
  reading.position = 98;
  EXPECT_EQ(slice_end(reading, kCutting, 400), 100) << "the mark would be too close";
  // What was drawn before is read in slices that are computed token by token.
  reading = {.position = 500, .n_prompt = 500, .n_tokens = 540};
  EXPECT_EQ(slice_end(reading, kCutting, 400), 515);
  EXPECT_EQ(slice_end(reading, kCutting, 7), 507);
  reading.position = 539;
  EXPECT_EQ(slice_end(reading, kCutting, 400), 540);
}

TEST(Slicing, PromptsShareAStep) {
  std::vector<Reading> prompts(4);
  const auto shared = [&](const Positions& lengths, const Positions& served, int64_t room) {
    std::vector<Claim> claims;
    for (size_t i = 0; i < lengths.size(); ++i) {
      prompts[i] = {.n_prompt = lengths[i], .n_tokens = lengths[i]};
      claims.push_back({&prompts[i], served[i]});
    }
    return share(claims, kCutting, room);
  };
  EXPECT_EQ(shared({1000}, {0}, 512), (Positions{512}));
  EXPECT_EQ(shared({1000, 1000}, {0, 0}, 512), (Positions{256, 256}));
  EXPECT_EQ(shared({1000, 10}, {0, 0}, 512), (Positions{448, 10})) << "a short one leaves its rest";
  EXPECT_EQ(shared({1000, 900, 1000, 5}, {0, 0, 0, 0}, 256), (Positions{64, 64, 64, 5}));
  EXPECT_EQ(shared({1000, 1000, 1000}, {5, 4, 5}, 128), (Positions{64, 64, 0}))
      << "who has waited longest is first";
  EXPECT_EQ(shared({}, {}, 128), Positions());
}

TEST(Slicing, NobodyWaitsForEver) {
  std::vector<Reading> prompts(7);
  Positions served(prompts.size());
  for (Reading& prompt : prompts) prompt = {.n_prompt = 640, .n_tokens = 640};
  for (int64_t step = 1; step <= 35; ++step) {
    std::vector<Claim> claims;
    for (size_t i = 0; i < prompts.size(); ++i) claims.push_back({&prompts[i], served[i]});
    const Positions ends = share(claims, kCutting, 128);
    for (size_t i = 0; i < prompts.size(); ++i) {
      if (ends[i] > prompts[i].position) served[i] = step;
      prompts[i].position = ends[i];
    }
  }
  for (const Reading& prompt : prompts) EXPECT_EQ(prompt.position, 640);
}

TEST(Boundaries, ThoseThatCrowdAreLeftOut) {
  EXPECT_EQ(apart(Positions{}), Positions());
  EXPECT_EQ(apart(Positions{1, 2, 3, 4, 5, 6, 9, 20, 23}), (Positions{1, 5, 9, 20}));
}

TEST(Boundaries, ThinnedOutTheyKeepTheFirstAndTheLast) {
  Positions many;
  for (int64_t i = 1; i <= 100; ++i) many.push_back(i * 10);
  EXPECT_EQ(thin_out(many, 100), many);
  EXPECT_EQ(thin_out(many, 0), Positions());
  EXPECT_EQ(thin_out(many, 1), Positions{1000});
  for (size_t most = 2; most < 100; ++most) {
    const Positions few = thin_out(many, most);
    EXPECT_LE(few.size(), most);
    EXPECT_GT(few.size(), most / 2);
    EXPECT_EQ(few.back(), 1000);
    if (most > 2) {
      EXPECT_EQ(few.front(), 10) << most;
    }
    EXPECT_TRUE(std::is_sorted(few.begin(), few.end()));
  }
}

}  // namespace
}  // namespace packmule::engine
