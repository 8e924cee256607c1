// Planes of digits -1, 0, 1. Packed 32 rows together, whatever the instruction set: a tile holds, group after group and of
// each in turn every plane,
//
//   32 scales (float16) | of every 16 columns a word of 32 bits for each row: its byte j has columns j, j + 4, j + 8, j + 12
//
// A digit plus one is two bits, so that a shift and a mask give those of four neighbouring columns as bytes. Groups are padded
// to 16 columns and rows to a tile with zeros, which stand for digits of -1 that nothing is multiplied by. As stored: digits
// plus one uint8 (planes, rows, ceil(cols/5)), base 3 | scale float16 (planes, rows, groups).
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int32_t kTritRows = 32, kTritsPerByte = 5;
constexpr int32_t kTritColumns = 16;                                              // of a word
constexpr int64_t kTritScales = 2 * kTritRows, kTritBlock = 4 * kTritRows;  // bytes: of a group's scales, of a word of every row

struct Trits {
  int32_t cols, group, groups, planes;
  int64_t tile;  // bytes
  uint8_t* data;

  Trits(int32_t cols, int32_t group, int64_t planes, void* data)
      : cols(cols), group(group), groups(int32_t(group_count(cols, group))), planes(int32_t(planes)), tile(0),
        data(static_cast<uint8_t*>(data)) {
    tile = planes * ((groups - 1) * bytes(0) + bytes(groups - 1));
  }

  int32_t columns(int32_t g) const { return cols - g * group < group ? cols - g * group : group; }
  // Of a group in a plane.
  int64_t bytes(int32_t g) const { return kTritScales + div_up(columns(g), kTritColumns) * kTritBlock; }

  // A group's scales in a plane, behind which its words lie.
  uint8_t* plane(int64_t row, int32_t g, int32_t p) const {
    return data + row / kTritRows * tile + planes * (g * bytes(0)) + p * bytes(g);
  }
};

inline Trits trits_of(const Matrix* w) {
  const Trits one(w->cols, w->group, 1, nullptr);
  return {w->cols, w->group, int64_t(w->bytes) / (div_up(w->rows, kTritRows) * one.tile), w->data};
}

// Digit i of a group of row r, from its words.
inline int32_t digit_at(const uint8_t* words, int32_t r, int32_t i) {
  const int32_t in = i % kTritColumns;
  return (words[i / kTritColumns * kTritBlock + r % kTritRows * 4 + in % 4] >> in / 4 * 2 & 3) - 1;
}

// Group g of row r in plane p, from the row's digits in base 3.
inline void lay_trit_group(const Trits& t, const uint8_t* digits, int32_t r, int32_t g, int32_t p) {
  constexpr int32_t kPowers[] = {1, 3, 9, 27, 81};
  uint8_t* words = t.plane(r, g, p) + kTritScales + r % kTritRows * 4;
  for (int32_t i = 0; i < t.columns(g); ++i) {
    const int32_t k = g * t.group + i, digit = digits[k / kTritsPerByte] / kPowers[k % kTritsPerByte] % 3, in = i % kTritColumns;
    words[i / kTritColumns * kTritBlock + in % 4] |= uint8_t(digit << in / 4 * 2);
  }
}

inline size_t lay_trits(const Pieces* from, void* to) {
  const int64_t groups = group_count(from->cols, from->group), width = div_up(from->cols, kTritsPerByte);
  const Trits t(from->cols, from->group, from->length[1] / (from->rows * groups), to);
  const auto* digits = static_cast<const uint8_t*>(from->array[0]);
  const auto* scale = static_cast<const uint16_t*>(from->array[1]);
  for (int32_t p = 0; p < t.planes && to; ++p)
    for (int32_t r = 0; r < from->rows; ++r, digits += width)
      for (int32_t g = 0; g < t.groups; ++g, ++scale) {
        memcpy(t.plane(r, g, p) + r % kTritRows * 2, scale, 2);
        lay_trit_group(t, digits, r, g, p);
      }
  return size_t(div_up(from->rows, kTritRows) * t.tile);
}

// f(column, scale, its digit of row r) over every plane, group by group.
template <class F>
void each_trit(const Trits& t, int32_t r, const F& f) {
  for (int32_t g = 0; g < t.groups; ++g)
    for (int32_t p = 0; p < t.planes; ++p) {
      const uint8_t* at = t.plane(r, g, p);
      uint16_t scale;
      memcpy(&scale, at + r % kTritRows * 2, 2);
      for (int32_t i = 0; i < t.columns(g); ++i)
        f(g * t.group + i, half_to_float(scale), digit_at(at + kTritScales, r, i));
    }
}

inline void trits_row(const Matrix* w, int32_t r, float* out) {
  memset(out, 0, size_t(w->cols) * 4);
  each_trit(trits_of(w), r, [&](int32_t k, float scale, int32_t digit) { out[k] += scale * float(digit); });
}

inline float trits_dot(const Matrix* w, int32_t r, const float* x) {
  float sum = 0;
  each_trit(trits_of(w), r, [&](int32_t k, float scale, int32_t digit) { sum += digit ? scale * float(digit) * x[k] : 0; });
  return sum;
}

}  // namespace
}  // namespace intaglio
