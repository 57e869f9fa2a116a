// AMX for processors that have none: the functions of kernels/amx/tiles.h as loops.
//
// The `emulated` preset puts this header before every file of src/kernels/amx. A tile that is used without
// its configuration, or with shapes that do not fit, stops the program, as the processor would.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/amx/tile_config.h"

#define PACKMULE_EMULATED_TILES

namespace packmule::kernels {
namespace {

struct TileState {
  bool configured = false;
  TileConfig config;
  int8_t bytes[8][16][64];
};
thread_local TileState tile_state;

inline void expect_tiles(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "emulated AMX: %s\n", what);
  std::abort();
}

inline void tile_configure(const TileConfig& config) {
  for (int tile = 0; tile < 16; ++tile)
    expect_tiles(tile < 8 ? config.n_rows[tile] <= 16 && config.row_bytes[tile] <= 64
                          : config.n_rows[tile] == 0 && config.row_bytes[tile] == 0,
                 "a configuration that the processor refuses");
  tile_state.configured = config.palette == 1;
  tile_state.config = config;
  std::memset(tile_state.bytes, 0, sizeof tile_state.bytes);
}
inline void tile_release() {
  tile_state.configured = false;
}
template <int kTile>
void expect_tile() {
  static_assert(kTile >= 0 && kTile < 8);
  expect_tiles(tile_state.configured, "a tile without a configuration");
  expect_tiles(tile_state.config.n_rows[kTile] > 0 && tile_state.config.row_bytes[kTile] > 0,
               "an empty tile");
}
template <int kTile>
void tile_zero() {
  expect_tile<kTile>();
  std::memset(tile_state.bytes[kTile], 0, sizeof tile_state.bytes[kTile]);
}
template <int kTile>
void tile_load(const void* from, int64_t stride_bytes) {
  tile_zero<kTile>();
  for (int64_t row = 0; row < tile_state.config.n_rows[kTile]; ++row)
    std::memcpy(tile_state.bytes[kTile][row], static_cast<const char*>(from) + row * stride_bytes,
                tile_state.config.row_bytes[kTile]);
}
template <int kTile>
void tile_store(void* to, int64_t stride_bytes) {
  expect_tile<kTile>();
  for (int64_t row = 0; row < tile_state.config.n_rows[kTile]; ++row)
    std::memcpy(static_cast<char*>(to) + row * stride_bytes, tile_state.bytes[kTile][row],
                tile_state.config.row_bytes[kTile]);
}
template <int kSum, int kA, int kB>
void tile_multiply() {
  expect_tile<kSum>(), expect_tile<kA>(), expect_tile<kB>();
  const TileConfig& config = tile_state.config;
  expect_tiles(config.n_rows[kA] == config.n_rows[kSum] && config.row_bytes[kB] == config.row_bytes[kSum] &&
                   config.row_bytes[kA] == 4 * config.n_rows[kB],
               "shapes of a product that do not fit");
  for (int m = 0; m < config.n_rows[kSum]; ++m)
    for (int n = 0; n < config.row_bytes[kSum] / 4; ++n) {
      int32_t sum;
      std::memcpy(&sum, &tile_state.bytes[kSum][m][4 * n], sizeof sum);
      for (int k = 0; k < config.n_rows[kB]; ++k)
        for (int j = 0; j < 4; ++j)
          sum += tile_state.bytes[kA][m][4 * k + j] * tile_state.bytes[kB][k][4 * n + j];
      std::memcpy(&tile_state.bytes[kSum][m][4 * n], &sum, sizeof sum);
    }
}

}  // namespace
}  // namespace packmule::kernels
