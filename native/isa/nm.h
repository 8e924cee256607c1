// N:M: of every m columns n are kept. Lanes are rows, so that nothing is added across them: an input of a few columns is
// one register (or two), from which each row's index selects. In all sets a matrix lies so, in tiles of 16 rows:
//   scale float32 [16] | index uint32 [words][16] | value [slots][16]        float16, or int8 codes times the row's scale
// Slot after slot of a row goes along its windows of 16 columns, as many in each; slot j's column within its window is
// nibble j % 8 of word j / 8. Rows and columns that fill up the last tile and window have zero values.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int32_t kNmRows = 16, kNmWindow = 16, kNmWord = 8;

struct Nm {
  int64_t windows, slots;  // of a row; each window has slots / windows of them
  int64_t index, value, bytes;
  int32_t width;  // bytes of a value
  Nm(int32_t kind, int64_t cols, int32_t pattern)
      : windows(div_up(cols, kNmWindow)), slots(windows * (pattern >> 8) * (kNmWindow / (pattern & 255))), index(kNmRows * 4),
        value(index + div_up(slots, kNmWord) * kNmRows * 4), bytes(0), width(kind == kNm8 ? 1 : 2) {
    bytes = round_up(value + slots * kNmRows * width, 64);
  }
  explicit Nm(const Matrix* w) : Nm(w->kind, w->cols, w->group) {}
};

// Lanes [row % 16, ...) of a tile.
struct NmTile {
  const float* scale;
  const uint32_t* index;
  const uint8_t* value;
};

inline NmTile nm_tile(const Matrix* w, const Nm& l, int32_t row) {
  const uint8_t* at = static_cast<const uint8_t*>(w->data) + row / kNmRows * l.bytes;
  const int32_t lane = row % kNmRows;
  return {reinterpret_cast<const float*>(at) + lane, reinterpret_cast<const uint32_t*>(at + l.index) + lane,
          at + l.value + lane * l.width};
}

// From places in blocks of m, n each, and their values, row by row.
inline void lay_nm_row(const Pieces* from, const Nm& l, int32_t row, uint8_t* tile) {
  const int32_t n = from->group >> 8, m = from->group & 255, lane = row % kNmRows;
  const int64_t kept = from->length[0] / from->rows;
  const auto* place = static_cast<const uint8_t*>(from->array[0]) + row * kept;
  const auto* value = static_cast<const uint8_t*>(from->array[1]) + row * kept * l.width;
  float scale = 1;
  if (from->kind == kNm8) memcpy(&scale, static_cast<const float*>(from->array[2]) + row, 4);
  memcpy(tile + lane * 4, &scale, 4);
  auto* word = reinterpret_cast<uint32_t*>(tile + l.index) + lane;
  for (int64_t j = 0; j < kept; ++j) {
    const uint32_t column = uint32_t(j / n * m % kNmWindow + place[j]);
    word[j / kNmWord * kNmRows] |= column << (4 * (j % kNmWord));
    memcpy(tile + l.value + (j * kNmRows + lane) * l.width, value + j * l.width, size_t(l.width));
  }
}

inline size_t lay_nm(const Pieces* from, void* to) {
  const Nm l(from->kind, from->cols, from->group);
  for (int32_t r = 0; to && r < from->rows; ++r) lay_nm_row(from, l, r, static_cast<uint8_t*>(to) + r / kNmRows * l.bytes);
  return size_t(div_up(from->rows, kNmRows) * l.bytes);
}

// Calls f(column, value) of each slot of a row, in their order.
template <class F>
void nm_each(const Matrix* w, int32_t row, const F& f) {
  const Nm l(w);
  const NmTile t = nm_tile(w, l, row);
  for (int64_t j = 0; j < l.slots; ++j) {
    const int64_t column = j / (l.slots / l.windows) * kNmWindow + (t.index[j / kNmWord * kNmRows] >> (4 * (j % kNmWord)) & 15);
    const uint8_t* at = t.value + j * kNmRows * l.width;
    uint16_t half;
    memcpy(&half, at, size_t(l.width));
    f(column, l.width == 1 ? float(int8_t(*at)) : half_to_float(half));
  }
}

inline float nm_dot(const Matrix* w, int32_t row, const float* x) {
  float sum = 0;
  nm_each(w, row, [&](int64_t column, float v) { sum += v * x[column]; });
  return sum * *nm_tile(w, Nm(w), row).scale;
}

inline void nm_row(const Matrix* w, int32_t row, float* out) {
  const float scale = *nm_tile(w, Nm(w), row).scale;
  memset(out, 0, size_t(w->cols) * 4);
  nm_each(w, row, [&](int64_t column, float v) {
    if (v != 0 && column < w->cols) out[column] = v * scale;  // slots that fill up name any column
  });
}

}  // namespace
}  // namespace intaglio
