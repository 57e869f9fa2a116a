// Consecutive work of a forward pass on a device: recorded once for a shape of batch, handed over in one
// call.
//
// A segment has up to two parts, one after the other on the device. The host waits for the first as soon as
// it needs what that brings back, and works on while the second runs: so while experts on the host are
// computed, the device has the shared expert to itself, and there is one submission and one wait a layer.
//
//   run():   the host's values -> staging | submit: [staging -> device, ops of part 0, device -> staging]
//                                                   [ops of part 1, device -> staging]
//            wait for part 0, if it brings something back; staging -> the host's values
//   join():  wait for part 1; staging -> the host's values
//
// Barriers: a list begins and ends with one, which orders it with everything before and after (the scope of a
// pipeline barrier is all commands handed over earlier and later, of other lists too). Within, copies to the
// device, ops, and copies to the host are separated by barriers; ops put their own between their dispatches
// and at their end. Staging is written by the host only after part 0 of the segment before is done, which is
// the part that reads it.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "base/result.h"
#include "runtime/batch.h"
#include "runtime/values.h"
#include "vulkan/commands.h"

namespace packmule::runtime {

/// What the segments of a schedule share.
struct DeviceState {
  std::shared_ptr<Gpu> gpu;
  Values values;
  BatchTables tables;
  DeviceBatch batch;              // at hand
  vulkan::Ticket last_first = 0;  // part 0 of the segment that was handed over last
  vulkan::Ticket last = 0;        // everything that was
  int64_t n_experts_used = 0;

  [[nodiscard]] int64_t rows_of(const Value& value) const {
    switch (value.rows_of) {
      case RowsOf::kPairs:
        return batch.n_rows * n_experts_used;
      case RowsOf::kLogits:
        return batch.n_logits;
      case RowsOf::kTokens:
        break;
    }
    return batch.n_rows;
  }
  /// Waits for everything that was handed over.
  [[nodiscard]] Status finish() { return gpu->device()->wait(last); }
};

/// Appends dispatches, with barriers between them and one at the end.
using Op = std::function<Status(vulkan::Recorder&, const DeviceBatch&)>;

/// Columns [column, column + n_cols) of a value, and how the host writes or reads row `row` of them.
struct Move {
  Value* value = nullptr;
  int64_t column = 0, n_cols = 0;
  /// Upload: puts the columns of a row to the pointer. Download: takes them from it.
  std::function<void(int64_t row, float* staging)> host;
};

class Segment {
 public:
  explicit Segment(DeviceState& state) : state_(state) {}

  // Put together when the schedule is compiled:
  void copies_tables() { copies_tables_ = true; }  // the first segment of a pass
  void add_upload(Move move);
  void add_op(Op op) { parts_[n_parts_ - 1].ops.push_back(std::move(op)); }
  void add_download(Move move);
  /// What is added now belongs to the second part.
  void split() { n_parts_ = 2; }
  [[nodiscard]] bool is_split() const { return n_parts_ == 2; }
  /// Whether uploads may be added: none of its ops would lose a value it needs.
  [[nodiscard]] bool has_ops() const { return !parts_[0].ops.empty() || !parts_[1].ops.empty(); }
  [[nodiscard]] bool must_join() const { return !parts_[1].downloads.empty(); }

  [[nodiscard]] Status run();
  [[nodiscard]] Status join();

 private:
  struct Recorded {
    uint64_t generation = 0;
    vulkan::CommandList list;
  };
  struct Part {
    std::vector<Op> ops;
    std::vector<Move> downloads;
    std::array<Recorded, ShapeKeys::kMost> recorded;
  };
  Status record(size_t number, vulkan::CommandList& list);
  void deliver(const Part& part) const;

  DeviceState& state_;
  bool copies_tables_ = false;
  size_t n_parts_ = 1;
  std::vector<Move> uploads_;
  std::array<Part, 2> parts_;
};

}  // namespace packmule::runtime
