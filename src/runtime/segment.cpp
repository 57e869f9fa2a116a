#include "runtime/segment.h"

#include <utility>

namespace packmule::runtime {
namespace {

/// Where a move's packed rows lie in its value's staging: moves of other columns lie elsewhere.
int64_t packed_at(const Move& move) {
  return move.column * move.value->n_rows;  // floats
}

/// Copies between packed staging rows and some columns of a value.
void record_move(vulkan::Recorder& recorder, const Move& move, int64_t n_rows, const vulkan::Span& staging,
                 const vulkan::Span& device, bool to_device) {
  const int64_t bytes = 4 * move.n_cols, stride = move.value->row_bytes();
  const auto copy = [&](int64_t at_staging, int64_t at_device, int64_t n) {
    const vulkan::Span outside = staging.part(4 * packed_at(move) + at_staging, n),
                       inside = device.part(at_device, n);
    recorder.copy(to_device ? outside : inside, to_device ? inside : outside);
  };
  if (bytes == stride) return copy(0, 0, n_rows * bytes);
  for (int64_t row = 0; row < n_rows; ++row) copy(row * bytes, row * stride + 4 * move.column, bytes);
}

}  // namespace

void Segment::add_upload(Move move) {
  state_.values.use_upload(*move.value);
  uploads_.push_back(std::move(move));
}

void Segment::add_download(Move move) {
  state_.values.use_download(*move.value);
  parts_[n_parts_ - 1].downloads.push_back(std::move(move));
}

Status Segment::record(size_t number, vulkan::CommandList& list) {
  const Values& values = state_.values;
  PACKMULE_TRY(auto recorder, vulkan::Recorder::begin(state_.gpu->device()));
  recorder.barrier();
  if (number == 0) {
    if (copies_tables_) state_.tables.record_copy(recorder, state_.batch);
    for (const Move& move : uploads_)
      record_move(recorder, move, state_.rows_of(*move.value), values.upload_span(*move.value),
                  values.span(*move.value), true);
    recorder.barrier();
  }
  const Part& part = parts_[number];
  for (const Op& op : part.ops) PACKMULE_TRY_STATUS(op(recorder, state_.batch));
  for (const Move& move : part.downloads)
    record_move(recorder, move, state_.rows_of(*move.value), values.download_span(*move.value),
                values.span(*move.value), false);
  recorder.barrier();
  PACKMULE_TRY(list, recorder.finish());
  return {};
}

Status Segment::run() {
  const std::shared_ptr<vulkan::Device>& device = state_.gpu->device();
  if (!uploads_.empty()) {
    PACKMULE_TRY_STATUS(device->wait(state_.last_first));
    for (const Move& move : uploads_) {
      auto* staging = reinterpret_cast<float*>(state_.values.upload_memory(*move.value)) + packed_at(move);
      const int64_t n_rows = state_.rows_of(*move.value);
      for (int64_t row = 0; row < n_rows; ++row) move.host(row, staging + row * move.n_cols);
    }
  }
  std::array<vulkan::CommandList*, 2> lists{};
  for (size_t i = 0; i < n_parts_; ++i) {
    Recorded& recorded = parts_[i].recorded[state_.batch.shape];
    if (recorded.generation != state_.batch.generation || !recorded.list.is_recorded()) {
      PACKMULE_TRY_STATUS(record(i, recorded.list));
      recorded.generation = state_.batch.generation;
    }
    lists[i] = &recorded.list;
  }
  if (n_parts_ == 2) {
    PACKMULE_TRY_STATUS(lists[0]->submit_with(*lists[1]));
  } else {
    PACKMULE_TRY([[maybe_unused]] const vulkan::Ticket ticket, lists[0]->submit());
  }
  state_.last_first = lists[0]->ticket();
  state_.last = lists[n_parts_ - 1]->ticket();
  if (parts_[0].downloads.empty()) return {};
  PACKMULE_TRY_STATUS(device->wait(state_.last_first));
  deliver(parts_[0]);
  return {};
}

Status Segment::join() {
  PACKMULE_TRY_STATUS(state_.gpu->device()->wait(state_.last));
  deliver(parts_[1]);
  return {};
}

void Segment::deliver(const Part& part) const {
  for (const Move& move : part.downloads) {
    // The callback only reads; one type serves both ways.
    auto* staging =
        const_cast<float*>(reinterpret_cast<const float*>(state_.values.download_memory(*move.value))) +
        packed_at(move);
    const int64_t n_rows = state_.rows_of(*move.value);
    for (int64_t row = 0; row < n_rows; ++row) move.host(row, staging + row * move.n_cols);
  }
}

}  // namespace packmule::runtime
