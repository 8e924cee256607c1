// Lookup tables: each element is an entry of its row's table. From pieces: codes (a dense bit stream a row), tables float16
// (2^bits a row); `group` is their bits. Packed, each array from a multiple of 64 bytes on:
//
//   codes   [rows][blocks][16] of 32 bits: field j of word n is column (block * fields + j) * 16 + n
//   tables  [rows][2^bits] float16, and 64 bytes that vector loads may run into
//
// A word has 32 / bits fields: 8 of 4 bits, 10 of 3 (3.2 bits a code), 16 of 2. 16 words are one vector, two or four, so that
// all sets have one layout: one shift brings the codes of L neighbouring columns to the bottom of their lanes.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int kWords = 16;  // of a block

struct Lookup {
  const uint32_t* codes;  // [rows][blocks][kWords]
  const uint16_t* tables;
  int32_t bits, blocks;
};

inline int32_t lookup_blocks(int32_t cols, int32_t bits) { return int32_t(div_up(cols, 32 / bits * kWords)); }

inline int64_t lookup_code_bytes(int32_t rows, int32_t cols, int32_t bits) {
  return int64_t(rows) * lookup_blocks(cols, bits) * kWords * 4;
}

inline Lookup lookup_of(const Matrix* w) {
  const auto* at = static_cast<const uint8_t*>(w->data);
  const auto* tables = reinterpret_cast<const uint16_t*>(at + lookup_code_bytes(w->rows, w->cols, w->group));
  return {reinterpret_cast<const uint32_t*>(at), tables, w->group, lookup_blocks(w->cols, w->group)};
}

inline const uint32_t* lookup_codes(const Lookup& m, int64_t row) { return m.codes + row * m.blocks * kWords; }
inline const uint16_t* lookup_table(const Lookup& m, int64_t row) { return m.tables + (row << m.bits); }

inline void lay_lookup_row(const uint8_t* from, int32_t cols, int32_t bits, uint32_t* to) {
  const int32_t fields = 32 / bits;
  for (int32_t i = 0; i < cols; ++i) {
    const int32_t field = i / kWords % fields, block = i / kWords / fields;
    to[block * kWords + i % kWords] |= code_at(from, i, bits) << (field * bits);
  }
}

inline size_t lay_lookup(const Pieces* from, void* to) {
  const int64_t codes = lookup_code_bytes(from->rows, from->cols, from->group), tables = 2 * from->length[1];
  if (to) {
    const int64_t width = div_up(int64_t(from->cols) * from->group, 8);
    const int64_t words = int64_t(lookup_blocks(from->cols, from->group)) * kWords;
    for (int64_t r = 0; r < from->rows; ++r)
      lay_lookup_row(static_cast<const uint8_t*>(from->array[0]) + r * width, from->cols, from->group,
                     static_cast<uint32_t*>(to) + r * words);
    from->copy(1, 2, static_cast<uint8_t*>(to) + codes);
  }
  return size_t(codes + tables + 64);
}

// One element, by its column: the definition.
inline float lookup_at(const Lookup& m, int64_t row, int32_t i) {
  const int32_t fields = 32 / m.bits, field = i / kWords % fields, block = i / kWords / fields;
  const uint32_t code = lookup_codes(m, row)[block * kWords + i % kWords] >> (field * m.bits) & ((1u << m.bits) - 1);
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
