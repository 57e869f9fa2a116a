#include "calibration/device_measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "calibration/trial.h"
#include "kernels/strip_rows.h"
#include "placement/placement.h"
#include "vulkan/stream_ring.h"

namespace packmule::calibration {
namespace {

using Clock = std::chrono::steady_clock;
using vulkan::Buffer;

constexpr int64_t kRows = 512, kColumns = 2048;  // gate and up of an expert
constexpr int64_t kExpertsAtOnce = 16;           // of a phase: about what one token has
constexpr int64_t kPromptTokens = 40;            // that an expert gets of a ubatch of 2,048
constexpr int64_t kPairs = kPromptTokens * kExpertsAtOnce;
constexpr int64_t kScaleBytes = kColumns / 32 * 4;  // of a rounded row
constexpr int64_t kPageTokens = 64;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kSplits = 32;
/// Lists run at least so long, that the time until a list begins does not count.
constexpr double kLeastSeconds = 0.01;
constexpr int64_t kMostRepeats = 64;
constexpr int64_t kPhases = 256;
constexpr int64_t kUploads = 3;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

Result<DeviceMeasure> DeviceMeasure::create(std::shared_ptr<vulkan::Device> device, vulkan::Ops& ops,
                                            const DeviceEffort& effort) {
  DeviceMeasure measure(std::move(device), ops, effort);
  PACKMULE_TRY_STATUS(measure.allocate());
  return measure;
}

Status DeviceMeasure::allocate() {
  const auto make = [&](Buffer& to, int64_t n_bytes) -> Status {
    PACKMULE_TRY(to, Buffer::create(device_, Buffer::Kind::kDevice, n_bytes, "measuring speed"));
    return {};
  };
  const int64_t n_experts = vulkan::kMaxExperts;
  PACKMULE_TRY_STATUS(make(memory_, effort_.memory_bytes));
  PACKMULE_TRY_STATUS(make(rows_, kPairs * 4 * (kColumns + kRows)));
  PACKMULE_TRY_STATUS(make(rounded_, kPairs * (kColumns + kScaleBytes)));
  PACKMULE_TRY_STATUS(make(ids_, 4 * (n_experts + kPairs)));
  PACKMULE_TRY_STATUS(make(
      sorted_, vulkan::ExpertOrder::begins_bytes(n_experts) + vulkan::ExpertOrder::pairs_bytes(kPairs) +
                   vulkan::ExpertOrder::tiles_bytes(kPairs, n_experts) + vulkan::ExpertOrder::kGroupsBytes));
  PACKMULE_TRY(uploader_, vulkan::Uploader::create(device_));

  const int64_t piece = effort_.memory_bytes / kUploads / 8 * 8;
  PACKMULE_TRY(AlignedBuffer host, AlignedBuffer::allocate(piece, "measuring speed"));
  fill_with_numbers(host.as<uint64_t>());
  const auto bytes = std::as_bytes(host.as<uint64_t>());
  std::vector<double> times;
  for (int64_t i = 0; i < kUploads; ++i) {
    const auto begin = Clock::now();
    PACKMULE_TRY_STATUS(uploader_->upload(bytes, memory_.span().part(i * piece, piece)));
    PACKMULE_TRY_STATUS(uploader_->finish());
    times.push_back(seconds_since(begin));
  }
  link_bytes_s_ = static_cast<double>(piece) / median(std::move(times));
  PACKMULE_TRY_STATUS(
      uploader_->upload(bytes.first(static_cast<size_t>(rows_.span().size_bytes)), rows_.span()));
  // Each expert once, then the pairs of a prompt.
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n_experts; ++i) ids.push_back(static_cast<int32_t>(i));
  for (int64_t i = 0; i < kPairs; ++i) ids.push_back(static_cast<int32_t>(i % kExpertsAtOnce));
  PACKMULE_TRY_STATUS(uploader_->upload(std::as_bytes(std::span(ids)), ids_.span()));
  return uploader_->finish();
}

Result<double> DeviceMeasure::seconds_of(const Record& record) const {
  const auto list_of = [&](int64_t n) -> Result<vulkan::CommandList> {
    PACKMULE_TRY(vulkan::Recorder recorder, vulkan::Recorder::begin(device_));
    for (int64_t i = 0; i < n; ++i) PACKMULE_TRY_STATUS(record(recorder));
    return recorder.finish();
  };
  const auto run = [](vulkan::CommandList& list) -> Result<double> {
    const auto begin = Clock::now();
    PACKMULE_TRY_STATUS(list.run());
    return seconds_since(begin);
  };
  PACKMULE_TRY(vulkan::CommandList once, list_of(1));
  PACKMULE_TRY_STATUS(once.run());
  PACKMULE_TRY(const double first, run(once));
  const int64_t n = std::clamp(static_cast<int64_t>(std::ceil(kLeastSeconds / std::max(first, 1e-6))),
                               int64_t{1}, kMostRepeats);
  PACKMULE_TRY(vulkan::CommandList list, list_of(n));
  std::vector<double> times;
  const auto begin = Clock::now();
  do {
    PACKMULE_TRY(const double seconds, run(list));
    times.push_back(seconds / static_cast<double>(n));
  } while (seconds_since(begin) < effort_.seconds);
  return median(std::move(times));
}

vulkan::Weights DeviceMeasure::weights(quant::Type type) const {
  vulkan::Weights weights{.type = type, .span = memory_.span(), .n_rows = kRows, .n_cols = kColumns};
  weights.n_experts = std::min(effort_.memory_bytes / weights.expert_bytes(), vulkan::kMaxExperts);
  return weights;
}

Result<double> DeviceMeasure::decode_bytes_s(quant::Type type) const {
  const vulkan::Weights w = weights(type);
  const int64_t n_phases = w.n_experts / kExpertsAtOnce;
  if (n_phases == 0)
    return fail(ErrorKind::kInternal, "{} bytes are too few to measure {}", w.span.size_bytes,
                quant::format_of(type).name);
  PACKMULE_TRY(
      const double seconds, seconds_of([&](vulkan::Recorder& recorder) -> Status {
        for (int64_t phase = 0; phase < n_phases; ++phase) {
          PACKMULE_TRY_STATUS(ops_->expert_matvec(
              recorder, {.weights = w,
                         .ids = ids_.span().part(4 * phase * kExpertsAtOnce, 4 * kExpertsAtOnce),
                         .x = {rows_.span(), kColumns},
                         .y = {rows_.span().part(kPairs * 4 * kColumns, kExpertsAtOnce * 4 * kRows), kRows},
                         .n_pairs = kExpertsAtOnce,
                         .x_divisor = kExpertsAtOnce}));
          recorder.barrier();
        }
        return {};
      }));
  PACKMULE_TRY(const double phase, phase_s());
  const double bytes = static_cast<double>(n_phases * kExpertsAtOnce * w.expert_bytes());
  return bytes / std::max(seconds - static_cast<double>(n_phases) * phase, seconds / 2);
}

Result<double> DeviceMeasure::multiply_adds_s(quant::Type type, bool rounded) const {
  vulkan::Weights w = weights(type);
  w.n_experts = kExpertsAtOnce;
  const vulkan::Span ids = ids_.span().part(4 * vulkan::kMaxExperts, 4 * kPairs);
  vulkan::ExpertOrder order{.n_pairs = kPairs, .n_experts = w.n_experts};
  int64_t at = 0;
  const auto take = [&](vulkan::Span& to, int64_t n_bytes) {
    to = sorted_.span().part(at, n_bytes);
    at += n_bytes;
  };
  take(order.begins, vulkan::ExpertOrder::begins_bytes(w.n_experts));
  take(order.pairs, vulkan::ExpertOrder::pairs_bytes(kPairs));
  take(order.tiles, vulkan::ExpertOrder::tiles_bytes(kPairs, w.n_experts));
  take(order.groups, vulkan::ExpertOrder::kGroupsBytes);
  vulkan::QuantizedRows bytes;
  if (rounded)
    bytes = {rounded_.span().part(0, kPairs * kColumns),
             rounded_.span().part(kPairs * kColumns, kPairs * kScaleBytes)};
  PACKMULE_TRY(
      const double seconds, seconds_of([&](vulkan::Recorder& recorder) -> Status {
        PACKMULE_TRY_STATUS(ops_->expert_sort(recorder, ids, order, kRows));
        if (rounded)
          PACKMULE_TRY_STATUS(ops_->quantize(recorder, {rows_.span(), kColumns}, bytes, kColumns, kPairs));
        recorder.barrier();
        PACKMULE_TRY_STATUS(
            ops_->expert_matmul(recorder,
                                {.weights = w,
                                 .ids = ids,
                                 .x = {rows_.span(), kColumns},
                                 .y = {rows_.span().part(kPairs * 4 * kColumns, kPairs * 4 * kRows), kRows},
                                 .n_pairs = kPairs,
                                 .rounded = bytes},
                                order));
        recorder.barrier();
        return {};
      }));
  return static_cast<double>(kPairs * kRows * kColumns) / seconds;
}

Result<double> DeviceMeasure::attention_bytes_s(const AttentionShape& shape) {
  const int64_t k_bytes =
      kPageTokens * kKvHeads * quant::row_bytes(quant::format_of(shape.k_type), shape.head_dim);
  const int64_t v_bytes =
      kPageTokens * kKvHeads * quant::row_bytes(quant::format_of(shape.v_type), shape.head_dim);
  const int64_t n_pages = effort_.memory_bytes / (k_bytes + v_bytes), n_heads = kKvHeads * shape.group;
  const int64_t parts_bytes = vulkan::attention_parts_bytes(1, n_heads, shape.head_dim, kSplits);
  if (2 * 4 * n_heads * shape.head_dim + parts_bytes + 4 > rows_.span().size_bytes)
    return fail(ErrorKind::kInternal, "no room to measure attention of {} heads", n_heads);

  std::vector<uint64_t> pages;
  for (int64_t page = 0; page < n_pages; ++page)
    pages.push_back(memory_.span().address + static_cast<uint64_t>(page * (k_bytes + v_bytes)));
  PACKMULE_TRY(addresses_,
               Buffer::create(device_, Buffer::Kind::kDevice, 8 * n_pages + 4, "measuring speed"));
  PACKMULE_TRY_STATUS(
      uploader_->upload(std::as_bytes(std::span(pages)), addresses_.span().part(0, 8 * n_pages)));
  const auto visible = static_cast<int32_t>(n_pages * kPageTokens);
  PACKMULE_TRY_STATUS(
      uploader_->upload(std::as_bytes(std::span(&visible, 1)), addresses_.span().part(8 * n_pages, 4)));
  PACKMULE_TRY_STATUS(uploader_->finish());

  const int64_t row_bytes = 4 * n_heads * shape.head_dim;
  PACKMULE_TRY(const double seconds, seconds_of([&](vulkan::Recorder& recorder) -> Status {
                 PACKMULE_TRY_STATUS(ops_->attention(
                     recorder, {.q = {rows_.span().part(0, row_bytes), n_heads * shape.head_dim},
                                .y = {rows_.span().part(row_bytes, row_bytes), n_heads * shape.head_dim},
                                .visible = addresses_.span().part(8 * n_pages, 4),
                                .pages = addresses_.span().part(0, 8 * n_pages),
                                .v_offset = k_bytes,
                                .k_type = shape.k_type,
                                .v_type = shape.v_type,
                                .n_heads = n_heads,
                                .n_kv_heads = kKvHeads,
                                .head_dim = shape.head_dim,
                                .n_tokens = 1,
                                .scale = 1,
                                .parts = rows_.span().part(2 * row_bytes, parts_bytes),
                                .n_splits = kSplits}));
                 recorder.barrier();
                 return {};
               }));
  return static_cast<double>(n_pages * (k_bytes + v_bytes)) / seconds;
}

Result<double> DeviceMeasure::stream_bytes_s(quant::Type type, bool in_strips, ThreadPool& pool) const {
  const kernels::RowCopier copier(type, kRows, kColumns, in_strips, pool.n_threads());
  const int64_t bytes = copier.matrix_bytes(), per_piece = placement::kStreamSlotBytes / bytes;
  const int64_t n_pieces = std::max<int64_t>(2, effort_.memory_bytes / (per_piece * bytes));
  PACKMULE_TRY(AlignedBuffer host,
               AlignedBuffer::allocate(static_cast<size_t>(n_pieces * per_piece * bytes), "measuring speed"));
  fill_with_numbers(host.as<uint64_t>());
  PACKMULE_TRY(auto ring,
               vulkan::StreamRing::create(device_, placement::kStreamSlots, placement::kStreamSlotBytes));
  std::vector<double> times;
  const auto begin = Clock::now();
  do {
    const auto begin_turn = Clock::now();
    for (int64_t piece = 0; piece < n_pieces; ++piece) {
      const std::byte* from = host.data() + piece * per_piece * bytes;
      PACKMULE_TRY([[maybe_unused]] const vulkan::Ticket ticket,
                   ring.run(
                       per_piece * bytes,
                       [&](std::span<std::byte> staging) {
                         copier.copy(pool, from, bytes, per_piece, staging.data(), bytes);
                       },
                       [](vulkan::Recorder&, const vulkan::Span&) -> Status { return {}; }));
    }
    PACKMULE_TRY_STATUS(ring.finish());
    times.push_back(seconds_since(begin_turn));
  } while (seconds_since(begin) < effort_.seconds || times.size() < 2);
  return static_cast<double>(n_pieces * per_piece * bytes) / median(std::move(times));
}

Result<double> DeviceMeasure::hop_s() const {
  // A word is the least that a list can do.
  PACKMULE_TRY(vulkan::Recorder recorder, vulkan::Recorder::begin(device_));
  recorder.fill(sorted_.span().part(0, 4), 0);
  PACKMULE_TRY(vulkan::CommandList list, recorder.finish());
  std::vector<double> times;
  for (int i = 0; i < 40; ++i) {
    const auto begin = Clock::now();
    PACKMULE_TRY_STATUS(list.run());
    times.push_back(seconds_since(begin));
  }
  return median(std::move(times));
}

Result<double> DeviceMeasure::phase_s() const {
  const vulkan::HeadRows row{rows_.span(), kRows};
  PACKMULE_TRY(const double seconds, seconds_of([&](vulkan::Recorder& recorder) -> Status {
                 for (int64_t i = 0; i < kPhases; ++i) {
                   PACKMULE_TRY_STATUS(ops_->elementwise(recorder, {.op = vulkan::Elementwise::kSigmoidGate,
                                                                    .a = row,
                                                                    .b = row,
                                                                    .y = row,
                                                                    .n = kRows,
                                                                    .n_rows = 1}));
                   recorder.barrier();
                 }
                 return {};
               }));
  return seconds / kPhases;
}

}  // namespace packmule::calibration
