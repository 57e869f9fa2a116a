// Bytes as the file of a snapshot. If the first byte is odd, the sums of header and head are put right first,
// so that what they guard is reached. What is read fits the caches it was made for.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/checksum.h"
#include "cache/snapshot.h"
#include "cache/snapshot_file.h"

namespace {

using namespace packmule;
using namespace packmule::cache;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "snapshot_fuzzer: %s\n", what);
  std::abort();
}

Layout tiny_layout() {
  Layout layout;
  layout.recurrent = {true, false};
  layout.n_kv_heads = 1;
  layout.head_dim = 2;
  layout.conv_channels = 1;
  layout.conv_taps = 2;
  layout.n_v_heads = 1;
  layout.dk = 1;
  layout.dv = 1;
  return layout;
}

template <class T>
T number_at(const std::vector<std::byte>& bytes, size_t at) {
  T value{};
  if (at + sizeof value <= bytes.size()) std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// With the offsets that snapshot_file.h tells.
void put_sums_right(std::vector<std::byte>& bytes, const SnapshotFormat& format) {
  constexpr size_t kHeader = 64, kSum = 56, kModel = 16, kLayout = 24, kTokens = 32, kCheckpoints = 48;
  if (bytes.size() < kHeader) return;
  std::memcpy(bytes.data(), "PMKVSNAP\1\0\0\0\100\0\0\0", 16);
  std::memcpy(bytes.data() + kModel, &format.model, 8);
  std::memcpy(bytes.data() + kLayout, &format.layout, 8);
  const uint64_t sum = checksum(std::span(bytes).first(kSum));
  std::memcpy(bytes.data() + kSum, &sum, 8);
  const auto n_tokens = number_at<uint64_t>(bytes, kTokens),
             n_checkpoints = number_at<uint64_t>(bytes, kCheckpoints);
  if (n_tokens > bytes.size() || n_checkpoints > bytes.size()) return;
  const size_t marks = kHeader + n_tokens * 4, end = marks + n_checkpoints * 16;
  if (end + 8 > bytes.size()) return;
  uint64_t head = checksum(std::span(bytes).first(kHeader));
  head = checksum(std::span(bytes).subspan(kHeader, n_tokens * 4), head);
  head = checksum(std::span(bytes).subspan(marks, n_checkpoints * 16), head);
  std::memcpy(bytes.data() + end, &head, 8);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto all = std::as_bytes(std::span(data, size));
  std::vector<std::byte> bytes(all.begin() + 1, all.end());
  const auto pool = PagePool::create(tiny_layout(), 8 * kPageTokens).value();
  PrefixTree tree(pool, 1 << 16);
  const SnapshotFormat format = SnapshotFormat::of(*pool, 1, 4, 8 * kPageTokens);
  if ((data[0] & 1) != 0) put_sums_right(bytes, format);
  ByteSource source{.name = "input",
                    .size_bytes = bytes.size(),
                    .read = [&](uint64_t offset, std::span<std::byte> to) -> Status {
                      require(offset <= bytes.size() && to.size() <= bytes.size() - offset,
                              "read past the end");
                      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
                      return {};
                    }};
  const auto reader = SnapshotReader::open(std::move(source), format);
  if (!reader) {
    require(!reader.error().message.empty() && reader.error().message.find('\n') == std::string::npos,
            "an error is one line");
    return 0;
  }
  for (const int32_t token : reader->head().tokens) require(token >= 0 && token < 4, "a token that is none");
  const auto snapshot = reader->read_all();
  if (!snapshot) return 0;
  for (const Snapshot::Checkpoint& checkpoint : snapshot->checkpoints)
    require(checkpoint.n_tokens <= static_cast<int64_t>(snapshot->tokens.size()),
            "a checkpoint behind the end");
  if (snapshot->first_page > 0) return 0;
  auto giver = SnapshotGiver::begin(pool, tree, *snapshot, {});
  require(giver.has_value(), "no room in an empty tree");
  for (bool complete = false; !complete;) {
    const auto given = giver->give(tree, *snapshot, 1);
    require(given.has_value(), "the host's memory does not fail");
    complete = *given;
  }
  const auto sequence = pool->new_sequence().value();
  const auto found = tree.resume(snapshot->tokens, *sequence);
  require(found.n_tokens <= static_cast<int64_t>(snapshot->tokens.size()), "more than there is");
  return 0;
}
