// Lookup tables: each element is an entry of its row's table. From pieces: codes (a dense bit stream a row), tables float16
// (2^bits a row); `group` is their bits. Packed, each array from a multiple of 64 bytes on:
//
//   codes   of each row, a strip of 32 columns in 32 bytes that they share with other strips, 2 of 4 bits or 4 of 2, the
//           first in the lower bits. Of 3 bits 8 strips are in 96 bytes: two in the lower 6 bits of every 32, and of the last
//           two the lower bits in the upper 2 of the first and of the second 32, bit 2 in those of the third. Strips that a
//           row does not have leave out the bytes that they would have to themselves
//   tables  [rows][2^bits] float16, and 64 bytes that vector loads may run into
//
// Of the bytes of a strip the third eight are its columns 8..15, and the second eight 16..23: what unpacks bytes inside
// halves of 16 then gives columns in their order.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int32_t kStrip = 32;  // columns

struct Lookup {
  const uint8_t* codes;
  const uint16_t* tables;
  int32_t bits, strips;
  int64_t stride;  // bytes of a row
};

inline int32_t lookup_strips(int32_t cols) { return int32_t(div_up(cols, kStrip)); }

// Bytes of so many strips.
inline int64_t lookup_bytes(int32_t strips, int32_t bits) {
  if (bits != 3) return div_up(strips, 8 / bits) * kStrip;
  const int32_t left = strips % 8 < 5 ? int32_t(div_up(strips % 8, 2)) : 3;
  return (strips / 8 * 3 + left) * kStrip;
}

inline int64_t lookup_code_bytes(int32_t rows, int32_t cols, int32_t bits) {
  return round_up(rows * lookup_bytes(lookup_strips(cols), bits), 64);
}

inline Lookup lookup_of(const Matrix* w) {
  const auto* at = static_cast<const uint8_t*>(w->data);
  const auto* tables = reinterpret_cast<const uint16_t*>(at + lookup_code_bytes(w->rows, w->cols, w->group));
  return {at, tables, w->group, lookup_strips(w->cols), lookup_bytes(lookup_strips(w->cols), w->group)};
}

inline const uint16_t* lookup_table(const Lookup& m, int64_t row) { return m.tables + (row << m.bits); }

// f(offset of a byte, shift in it, the code's bits there) for the parts of the code of column i.
template <class F>
inline void each_part(int32_t i, int32_t bits, const F& f) {
  const int32_t strip = i / kStrip, eight = i % kStrip / 8;
  const int64_t at = (eight == 1 || eight == 2 ? 3 - eight : eight) * 8 + i % 8;
  if (bits != 3) return f(strip / (8 / bits) * kStrip + at, strip % (8 / bits) * bits, 0, bits);
  const int64_t block = strip / 8 * 3 * kStrip + at;
  const int32_t s = strip % 8;
  if (s < 6) return f(block + s / 2 * kStrip, s % 2 * 3, 0, 3);
  f(block + (s - 6) * kStrip, 6, 0, 2);
  f(block + 2 * kStrip, s, 2, 1);
}

inline size_t lay_lookup(const Pieces* from, void* to) {
  const int64_t codes = lookup_code_bytes(from->rows, from->cols, from->group), tables = 2 * from->length[1];
  if (to) {
    const int64_t width = div_up(int64_t(from->cols) * from->group, 8), stride = lookup_bytes(lookup_strips(from->cols), from->group);
    for (int64_t r = 0; r < from->rows; ++r) {
      const auto* row = static_cast<const uint8_t*>(from->array[0]) + r * width;
      auto* out = static_cast<uint8_t*>(to) + r * stride;
      for (int32_t i = 0; i < from->cols; ++i)
        each_part(i, from->group, [&](int64_t at, int32_t shift, int32_t first, int32_t bits) {
          out[at] |= uint8_t((code_at(row, i, from->group) >> first & ((1u << bits) - 1)) << shift);
        });
    }
    from->copy(1, 2, static_cast<uint8_t*>(to) + codes);
  }
  return size_t(codes + tables + 64);
}

// One element, by its column: the definition.
inline float lookup_at(const Lookup& m, int64_t row, int32_t i) {
  uint32_t code = 0;
  each_part(i, m.bits, [&](int64_t at, int32_t shift, int32_t first, int32_t bits) {
    code |= (uint32_t(m.codes[row * m.stride + at]) >> shift & ((1u << bits) - 1)) << first;
  });
  return half_to_float(lookup_table(m, row)[code]);
}

inline void lookup_row(const Matrix* w, int32_t r, float* out) {
  const Lookup m = lookup_of(w);
  for (int32_t i = 0; i < w->cols; ++i) out[i] = lookup_at(m, r, i);
}

inline float lookup_dot(const Matrix* w, int32_t r, const float* x) {
  const Lookup m = lookup_of(w);
  float sum = 0;
  for (int32_t i = 0; i < w->cols; ++i) sum += lookup_at(m, r, i) * x[i];
  return sum;
}

}  // namespace
}  // namespace intaglio
