// Blocks of a row, 1 x group, of which some are kept. Packed, each array from a multiple of 64 bytes on:
//
//   offset uint32 (rows + 1) | index uint16, which block | value float16                                       of kBsr16
//   offset | index | scale float16 | zero uint8 | codes of 4 bits, a byte for each column of two blocks        of kBsr4
//
// where the blocks of a row are taken in pairs, the first's codes in the lower halves of the bytes. If they are an odd number
// an empty one follows, all zeros, and the lowest bit of the row's offset says so. A block may reach past the
// last column, where activations are 0.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

struct Bsr {
  int32_t group;
  const uint32_t* offset;
  const uint16_t *index, *scale;
  const uint8_t *zero, *codes;
  const uint16_t* value;
};

// Of a row.
struct KeptBlocks {
  uint32_t begin, end;
};

inline KeptBlocks kept_blocks(int32_t kind, const Bsr& m, int64_t row) {
  const uint32_t a = m.offset[row], b = m.offset[row + 1];
  if (kind == kBsr16) return {a, b};
  return {a & ~1u, (b & ~1u) - (a & 1)};
}

constexpr int64_t kPastBsr = 64;  // bytes that vector loads may run into

struct BsrBytes {
  int64_t index, scale, zero, codes, all;  // offsets in the data, and its size
  BsrBytes(int32_t kind, int64_t rows, int64_t blocks, int64_t group) {
    const bool coded = kind == kBsr4;
    index = round_up((rows + 1) * 4, 64);
    scale = index + round_up(blocks * 2, 64);
    zero = scale + (coded ? round_up(blocks * 2 + kPastBsr, 64) : 0);
    codes = zero + (coded ? round_up(blocks + kPastBsr, 64) : 0);
    all = codes + round_up(blocks * group * (coded ? 1 : 4) / 2, 64);
  }
};

inline Bsr bsr_of(const Matrix* w) {
  const auto* at = static_cast<const uint8_t*>(w->data);
  const auto* offset = reinterpret_cast<const uint32_t*>(at);
  const BsrBytes b(w->kind, w->rows, w->kind == kBsr4 ? offset[w->rows] & ~1u : offset[w->rows], w->group);
  const auto half = [&](int64_t from) { return reinterpret_cast<const uint16_t*>(at + from); };
  return {w->group, offset, half(b.index), half(b.scale), at + b.zero, at + b.codes, half(b.codes)};
}

// From offset | index | value.
inline size_t lay_bsr16(const Pieces* from, void* to) {
  const BsrBytes b(from->kind, from->rows, from->length[1], from->group);
  if (!to) return size_t(b.all);
  auto* at = static_cast<uint8_t*>(to);
  from->copy(0, 4, at);
  from->copy(1, 2, at + b.index);
  from->copy(2, 2, at + b.codes);
  return size_t(b.all);
}

// From offset | index | codes | scale float16 | zero.
inline size_t lay_bsr4(const Pieces* from, void* to) {
  const auto* offset = static_cast<const uint32_t*>(from->array[0]);
  int64_t blocks = 0;
  for (int32_t r = 0; r < from->rows; ++r) blocks += round_up(offset[r + 1] - offset[r], 2);
  const BsrBytes b(from->kind, from->rows, blocks, from->group);
  if (!to) return size_t(b.all);
  auto* at = static_cast<uint8_t*>(to);
  auto *begin = reinterpret_cast<uint32_t*>(at), *index = begin;
  const auto half = [&](int64_t place) { return reinterpret_cast<uint16_t*>(at + place); };
  const auto *which = static_cast<const uint16_t*>(from->array[1]), *scale = static_cast<const uint16_t*>(from->array[3]);
  const auto *codes = static_cast<const uint8_t*>(from->array[2]), *zero = static_cast<const uint8_t*>(from->array[4]);
  uint32_t next = 0;
  for (int32_t r = 0; r < from->rows; ++r) {
    const uint32_t kept = offset[r + 1] - offset[r];
    *index++ = next | (kept & 1);
    for (uint32_t i = 0; i < kept; ++i, ++which, ++scale, ++zero, codes += from->group / 2) {
      const uint32_t j = next + i;
      half(b.index)[j] = *which, half(b.scale)[j] = *scale, at[b.zero + j] = *zero;
      uint8_t* pair = at + b.codes + int64_t(j / 2) * from->group;
      for (int32_t k = 0; k < from->group; ++k) pair[k] |= uint8_t((codes[k / 2] >> k % 2 * 4 & 15) << j % 2 * 4);
    }
    next += kept + (kept & 1);
  }
  *index = next;
  return size_t(b.all);
}

inline size_t lay_bsr(const Pieces* from, void* to) { return from->kind == kBsr4 ? lay_bsr4(from, to) : lay_bsr16(from, to); }

// Weight i of kept block j.
inline float bsr_weight(int32_t kind, const Bsr& m, int64_t j, int32_t i) {
  if (kind == kBsr16) return half_to_float(m.value[j * m.group + i]);
  const int32_t code = m.codes[j / 2 * m.group + i] >> j % 2 * 4 & 15;
  return half_to_float(m.scale[j]) * float(code - m.zero[j]);
}

// f(column, weight) for all that is kept of a row, but what lies past its end.
template <class F>
inline void bsr_each(const Matrix* w, int32_t r, const F& f) {
  const Bsr m = bsr_of(w);
  const KeptBlocks kept = kept_blocks(w->kind, m, r);
  for (uint32_t j = kept.begin; j < kept.end; ++j) {
    const int32_t first = m.index[j] * m.group, end = first + m.group < w->cols ? first + m.group : w->cols;
    for (int32_t k = first; k < end; ++k) f(k, bsr_weight(w->kind, m, j, k - first));
  }
}

inline void bsr_row(const Matrix* w, int32_t r, float* out) {
  memset(out, 0, size_t(w->cols) * 4);
  bsr_each(w, r, [&](int32_t k, float v) { out[k] = v; });
}

inline float bsr_dot(const Matrix* w, int32_t r, const float* x) {
  float sum = 0;
  bsr_each(w, r, [&](int32_t k, float v) { sum += v * x[k]; });
  return sum;
}

}  // namespace
}  // namespace intaglio
