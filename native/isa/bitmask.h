// Bitmask: elements that are not zero, anywhere in a matrix, and a bit for each element. From pieces: mask u8
// (rows x ceil(cols / 8)), the lowest bit first | value float16, row after row. Packed in tiles of L rows, lanes are rows:
//
//   where each tile begins, int64 (tiles + 1), in bytes | tiles: masks [cols] of L bits | value float16, column after column
//
// each from a multiple of 64 bytes on, rows padded to whole pairs of tiles. Vectors of values are read past the last.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int kMaskBytes = L > 8 ? 2 : 1;  // of a column

struct MaskTile {
  const uint8_t* mask;
  const uint16_t* value;
};

inline int64_t mask_tiles(int64_t rows) { return round_up(rows, 2 * L) / L; }
inline int64_t masks_bytes(int32_t cols) { return round_up(int64_t(cols) * kMaskBytes, 64); }

inline MaskTile mask_tile(const Matrix* w, int64_t tile) {
  const auto* data = static_cast<const uint8_t*>(w->data);
  const uint8_t* at = data + static_cast<const int64_t*>(w->data)[tile];
  return {at, reinterpret_cast<const uint16_t*>(at + masks_bytes(w->cols))};
}

inline uint32_t mask_at(const uint8_t* mask, int64_t k) {
  if constexpr (kMaskBytes == 1) return mask[k];
  uint16_t bits;
  return memcpy(&bits, mask + 2 * k, 2), bits;
}

// A row's bytes of the neutral mask, and how many elements they stand for.
struct MaskRows {
  const uint8_t* mask;
  int64_t bytes;

  explicit MaskRows(const Pieces* from) : mask(static_cast<const uint8_t*>(from->array[0])), bytes(div_up(from->cols, 8)) {}
  bool has(int64_t row, int64_t k) const { return mask[row * bytes + k / 8] >> k % 8 & 1; }
  int64_t count(int64_t row) const {
    int64_t n = 0;
    for (int64_t i = 0; i < bytes; ++i) n += __builtin_popcount(mask[row * bytes + i]);
    return n;
  }
};

// L rows from `row` on; `next` says where in `value` each of them goes on.
inline void lay_mask_tile(const Pieces* from, const MaskRows& rows, int32_t row, int64_t (&next)[L], uint8_t* to) {
  const auto* value = static_cast<const uint16_t*>(from->array[1]);
  auto* values = reinterpret_cast<uint16_t*>(to + masks_bytes(from->cols));
  const int32_t n = from->rows - row < L ? from->rows - row : L;
  for (int64_t k = 0; k < from->cols; ++k)
    for (int32_t i = 0; i < n; ++i) {
      if (!rows.has(row + i, k)) continue;
      to[k * kMaskBytes + i / 8] |= uint8_t(1 << i % 8);
      *values++ = value[next[i]++];
    }
}

inline size_t lay_bitmask(const Pieces* from, void* to) {
  const MaskRows rows(from);
  const int64_t tiles = mask_tiles(from->rows);
  auto* begins = static_cast<int64_t*>(to);
  int64_t at = round_up((tiles + 1) * 8, 64), done = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    int64_t next[L] = {}, n = 0;
    for (int64_t row = tile * L; row < (tile + 1) * L && row < from->rows; ++row) next[row % L] = done + n, n += rows.count(row);
    if (to) begins[tile] = at;
    if (to && tile * L < from->rows) lay_mask_tile(from, rows, int32_t(tile * L), next, static_cast<uint8_t*>(to) + at);
    done += n, at += masks_bytes(from->cols) + round_up((n + L) * 2, 64);
  }
  if (to) begins[tiles] = at;
  return size_t(at);
}

// f(column, value) of a row's elements.
template <class F>
inline void bitmask_each(const Matrix* w, int32_t row, const F& f) {
  MaskTile tile = mask_tile(w, row / L);
  const uint32_t lane = 1u << row % L;
  for (int32_t k = 0; k < w->cols; ++k) {
    const uint32_t mask = mask_at(tile.mask, k);
    if (mask & lane) f(k, half_to_float(tile.value[__builtin_popcount(mask & (lane - 1))]));
    tile.value += __builtin_popcount(mask);
  }
}

inline float bitmask_dot(const Matrix* w, int32_t row, const float* x) {
  float sum = 0;
  bitmask_each(w, row, [&](int32_t k, float v) { sum += v * x[k]; });
  return sum;
}

inline void bitmask_row(const Matrix* w, int32_t row, float* out) {
  memset(out, 0, size_t(w->cols) * 4);
  bitmask_each(w, row, [&](int32_t k, float v) { out[k] = v; });
}

}  // namespace
}  // namespace intaglio
