// Reading the neutral layout of `Source` (kernels.h), one element at a time: what packing and tests share.
#pragma once
#include "half.h"
#include "../kernels.h"

namespace intaglio {
namespace {

inline int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return div_up(a, b) * b; }

inline int64_t group_count(int32_t cols, int32_t group) { return div_up(cols, group); }

// How many scales a row has: the integer kinds with one float a row keep a single one.
inline int64_t scale_count(int32_t kind, int32_t cols, int32_t group) {
  const bool per_row = kind == kW8A8 || kind == kW4A8 || kind == kW4A8Two;
  return per_row ? 1 : group_count(cols, group);
}

// Whether scales are float16 numbers, and kept as such.
inline bool has_half_scales(int32_t kind, int32_t cols, int32_t group) { return has_half_zeros(kind) && group < cols; }

inline int64_t row_bytes(const Source& s) {
  switch (s.kind) {
    case kF32: return int64_t(s.cols) * 4;
    case kF16:
    case kBF16: return int64_t(s.cols) * 2;
    default: return div_up(int64_t(s.cols) * s.bits, 8);
  }
}

inline const uint8_t* row_codes(const Source& s, int32_t row) {
  return static_cast<const uint8_t*>(s.codes) + row * row_bytes(s);
}

// Element i of a dense little-endian bit stream; never reads a byte the element does not touch.
inline uint32_t code_at(const uint8_t* row, int64_t i, int32_t bits) {
  const int64_t bit = i * bits;
  const uint8_t* at = row + (bit >> 3);
  const int32_t shift = int32_t(bit & 7);
  uint32_t v = uint32_t(at[0]) >> shift;
  if (shift + bits > 8) v |= uint32_t(at[1]) << (8 - shift);
  return v & ((1u << bits) - 1);
}

inline float plain_at(int32_t kind, const uint8_t* row, int64_t i) {
  uint16_t h;
  float f;
  if (kind == kF32) return memcpy(&f, row + 4 * i, 4), f;
  memcpy(&h, row + 2 * i, 2);
  return kind == kF16 ? half_to_float(h) : bfloat_to_float(h);
}

// The middle code where none is given. All but float16 ones are small integers.
inline float zero_at(const Source& s, int32_t row, int64_t g) {
  const int64_t i = row * group_count(s.cols, s.group) + g;
  if (s.half_zero) return half_to_float(s.half_zero[i]);
  return float(s.zero ? s.zero[i] : 1 << (s.bits - 1));
}

// The part a stacked row belongs to; `row` becomes its row there.
inline const Source& part_of(const Source* parts, int32_t* row) {
  while (*row >= parts->rows) *row -= parts++->rows;
  return *parts;
}

}  // namespace
}  // namespace intaglio
