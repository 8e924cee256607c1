// Lookup tables: each element is an entry of its row's table. From pieces: codes (a dense bit stream a row), tables float16
// (2^bits a row); `group` is their bits. Packed, each array from a multiple of 64 bytes on:
//
//   codes   of each row. A strip is 32 columns, one code in each of 32 lanes, which it shares with as many strips as their
//           8 bits hold, 2 of 4 bits or 4 of 2, the first in the lower bits. Of 3 bits 8 strips are in three times 32 lanes:
//           two in the lower 6 bits of each, and of the last two the lower bits in the upper 2 of the first and of the
//           second 32, bit 2 in those of the third. Strips that a row does not have leave out the lanes that they would have
//           to themselves. Sets that pick from words have lanes of 16 bits: they hold 4 strips of 4 bits or 8 of 2, and
//           three times 32 of them 16 strips of 3, five in the lower 15 bits of each and of the last one bit in bit 15. What is
//           left of a row, if 16 of these lanes hold it, is there: 16 columns after the other
//   entries [rows][2^bits] int16, what products take: each row's, times a number that makes the largest kTopEntry
//   scales  [rows] float32, what takes that back: not a number where an entry is none
//   tables  [rows][2^bits] float16
//
// Of lanes that are bytes the third eight are columns 8..15 of a strip, and the second eight 16..23: what unpacks bytes
// inside halves of 16 then gives columns in their order.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int32_t kStrip = 32;  // columns
constexpr int32_t kTopEntry = 9740;
#ifdef INTAGLIO_WORD_TABLES
constexpr int32_t kCodeLane = 16, kTogether = 2;  // bits; strips that are multiplied together, and thus always there
#else
constexpr int32_t kCodeLane = 8, kTogether = 1;
#endif
constexpr int64_t kStripBytes = kStrip * kCodeLane / 8;  // of 32 lanes

// Strips whose codes share lanes, those of 3 bits in three times 32 lanes, and what these are.
constexpr int32_t strips_of_block(int32_t bits) { return bits == 3 ? kCodeLane : kCodeLane / bits; }
constexpr int64_t bytes_of_block(int32_t bits) { return (bits == 3 ? 3 : 1) * kStripBytes; }
constexpr int32_t kThrees = kCodeLane / 3;  // whole codes of 3 bits in a lane

// Whether so many strips that are left of a row are in half of the lanes.
constexpr bool is_halved(int32_t left, int32_t bits) { return kCodeLane == 16 && left <= kCodeLane / bits / 2; }

struct Lookup {
  const uint8_t* codes;
  const int16_t* entries;
  const float* scales;
  const uint16_t* tables;
  int32_t bits, strips;
  int64_t stride;  // bytes of a row
};

inline int32_t lookup_strips(int32_t cols) { return int32_t(div_up(cols, kStrip * kTogether)) * kTogether; }

// Bytes of so many strips.
inline int64_t lookup_bytes(int32_t strips, int32_t bits) {
  const int32_t all = strips_of_block(bits), left = strips % all;
  const int64_t whole = strips / all * bytes_of_block(bits);
  if (left == 0) return whole;
  if (is_halved(left, bits)) return whole + kStripBytes / 2;
  return whole + (bits != 3 ? 1 : left > 2 * kThrees ? 3 : div_up(left, kThrees)) * kStripBytes;
}

struct LookupBytes {
  int64_t entries, scales, tables, all;  // offsets in the data, and its size
  LookupBytes(int64_t rows, int32_t cols, int32_t bits)
      : entries(round_up(rows * lookup_bytes(lookup_strips(cols), bits), 64)),
        scales(entries + round_up((rows << bits) * 2, 64)),
        tables(scales + round_up(rows * 4, 64)),
        all(tables + round_up((rows << bits) * 2, 64)) {}
};

inline Lookup lookup_of(const Matrix* w) {
  const auto* at = static_cast<const uint8_t*>(w->data);
  const LookupBytes bytes(w->rows, w->cols, w->group);
  return {at,
          reinterpret_cast<const int16_t*>(at + bytes.entries),
          reinterpret_cast<const float*>(at + bytes.scales),
          reinterpret_cast<const uint16_t*>(at + bytes.tables),
          w->group,
          lookup_strips(w->cols),
          lookup_bytes(lookup_strips(w->cols), w->group)};
}

inline const uint16_t* lookup_table(const Lookup& m, int64_t row) { return m.tables + (row << m.bits); }

// f(offset of a byte, shift in it, first bit of the code there, how many) for the parts of the code of column i of a row.
template <class F>
inline void each_part(int32_t strips, int32_t i, int32_t bits, const F& f) {
  const int32_t strip = i / kStrip, s = strip % strips_of_block(bits), column = i % kStrip, eight = column / 8;
  const int32_t lane = kCodeLane == 8 && (eight == 1 || eight == 2) ? (3 - eight) * 8 + column % 8 : column;
  const int64_t block = strip / strips_of_block(bits) * bytes_of_block(bits);
  const bool halved = is_halved(strips - strip + s, bits);
  const auto put = [&](int32_t lanes, int32_t shift, int32_t first, int32_t n) {  // may lie in two bytes
    const int64_t at = block + lanes * kStripBytes + (halved ? lane % 16 : lane) * kCodeLane / 8 + shift / 8;
    const int32_t here = n < 8 - shift % 8 ? n : 8 - shift % 8;
    f(at, shift % 8, first, here);
    if (here < n) f(at + 1, 0, first + here, n - here);
  };
  if (halved) return put(0, (2 * s + column / 16) * bits, 0, bits);
  if (bits != 3) return put(0, s * bits, 0, bits);
  if (s < 3 * kThrees) return put(s / kThrees, s % kThrees * 3, 0, 3);
  if (kCodeLane == 16) return put(0, 15, 0, 1), put(1, 15, 1, 1), put(2, 15, 2, 1);
  put(s - 6, 6, 0, 2), put(2, s, 2, 1);
}

// n entries of a row as integers -> what they are times.
inline float shorten_entries(const uint16_t* half, int32_t n, int16_t* to) {
  float most = 0;
  for (int32_t i = 0; i < n; ++i) {
    const float size = __builtin_fabsf(half_to_float(half[i]));
    if (!(size <= most)) most = size;
    if (!(most < INFINITY)) return NAN;
  }
  for (int32_t i = 0; i < n && most > 0; ++i) to[i] = int16_t(__builtin_rintf(half_to_float(half[i]) * (kTopEntry / most)));
  return most / kTopEntry;
}

inline size_t lay_lookup(const Pieces* from, void* to) {
  const LookupBytes bytes(from->rows, from->cols, from->group);
  if (to) {
    const int32_t strips = lookup_strips(from->cols);
    const int64_t width = div_up(int64_t(from->cols) * from->group, 8), stride = lookup_bytes(strips, from->group);
    for (int64_t r = 0; r < from->rows; ++r) {
      const auto* row = static_cast<const uint8_t*>(from->array[0]) + r * width;
      auto* out = static_cast<uint8_t*>(to) + r * stride;
      for (int32_t i = 0; i < from->cols; ++i)
        each_part(strips, i, from->group, [&](int64_t at, int32_t shift, int32_t first, int32_t bits) {
          out[at] |= uint8_t((code_at(row, i, from->group) >> first & ((1u << bits) - 1)) << shift);
        });
    }
    auto* at = static_cast<uint8_t*>(to);
    const auto* half = static_cast<const uint16_t*>(from->array[1]);
    for (int64_t r = 0; r < from->rows; ++r) {
      auto* entries = reinterpret_cast<int16_t*>(at + bytes.entries) + (r << from->group);
      reinterpret_cast<float*>(at + bytes.scales)[r] = shorten_entries(half + (r << from->group), 1 << from->group, entries);
    }
    from->copy(1, 2, at + bytes.tables);
  }
  return size_t(bytes.all);
}

// One element, by its column: the definition.
inline float lookup_at(const Lookup& m, int64_t row, int32_t i) {
  uint32_t code = 0;
  each_part(m.strips, i, m.bits, [&](int64_t at, int32_t shift, int32_t first, int32_t bits) {
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
