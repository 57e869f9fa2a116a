// A device whose memory is the host's, and which fails when it is told to.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "cache/device_memory.h"
#include "cache/layout.h"
#include "cache/recurrent_state.h"

namespace packmule::cache {

class FakeDevice final : public DeviceMemory {
 public:
  explicit FakeDevice(const Layout& layout)
      : page_bytes_(static_cast<size_t>(layout.kv_bytes_per_token(true) * kPageTokens)),
        state_bytes_(static_cast<size_t>(StateShape::of(layout, true)->total_floats()) * sizeof(float)) {}

  struct FakeState final : State {
    std::vector<std::byte> bytes;
  };
  Result<std::unique_ptr<State>> new_state(Use) override {
    if (states_left-- <= 0) return fail(ErrorKind::kOutOfMemory, "no room");
    auto state = std::make_unique<FakeState>();
    state->bytes.resize(state_bytes_);
    return state;
  }
  void clear(State& state) override { bytes_of(state).assign(state_bytes_, {}); }
  void copy(const State& from, State& to) override {
    bytes_of(to) = static_cast<const FakeState&>(from).bytes;
  }
  Status allocate_pages(int64_t n_pages) override {
    pages.assign(static_cast<size_t>(n_pages), std::vector<std::byte>(page_bytes_));
    return {};
  }
  void copy_page(int64_t from, int64_t to) override {
    pages[static_cast<size_t>(to)] = pages[static_cast<size_t>(from)];
  }
  Status read_pages(std::span<const Piece<std::byte>> pieces) override {
    PACKMULE_TRY_STATUS(check());
    for (const auto& [page, offset, host] : pieces) std::memcpy(host.data(), at(page, offset), host.size());
    return {};
  }
  Status write_pages(std::span<const Piece<const std::byte>> pieces) override {
    PACKMULE_TRY_STATUS(check());
    for (const auto& [page, offset, host] : pieces) std::memcpy(at(page, offset), host.data(), host.size());
    return {};
  }
  Result<std::span<std::byte>> view(State& kept) override {
    PACKMULE_TRY_STATUS(check());
    return std::span(bytes_of(kept));
  }

  static std::vector<std::byte>& bytes_of(State& state) { return static_cast<FakeState&>(state).bytes; }

  std::vector<std::vector<std::byte>> pages;
  int64_t n_calls = 0;              // of what may fail
  int64_t calls_left = INT64_MAX;   // until it fails
  int64_t states_left = INT64_MAX;  // that there is room for

 private:
  Status check() {
    ++n_calls;
    if (calls_left-- > 0) return {};
    return fail(ErrorKind::kInternal, "the device is lost");
  }
  [[nodiscard]] std::byte* at(int64_t page, int64_t offset) {
    return pages[static_cast<size_t>(page)].data() + offset;
  }
  size_t page_bytes_, state_bytes_;
};

}  // namespace packmule::cache
