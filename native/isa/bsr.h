// Blocks of a row, 1 x group, of which some are kept. Packed as stored, but for scales, each array from a multiple of
// 64 bytes on: offset uint32 (rows + 1) | index uint16, which block | scale float32 | zero uint8 | codes of 4 bits
// (kBsr4), or value float16 (kBsr16). A block may reach past the last column, where activations are 0.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

struct Bsr {
  int32_t group;
  const uint32_t* offset;
  const uint16_t* index;
  const float* scale;
  const uint8_t *zero, *codes;
  const uint16_t* value;
};

struct BsrBytes {
  int64_t index, scale, zero, codes, all;  // offsets in the data, and its size
  BsrBytes(int32_t kind, int64_t rows, int64_t blocks, int64_t group) {
    const bool coded = kind == kBsr4;
    index = round_up((rows + 1) * 4, 64);
    scale = index + round_up(blocks * 2, 64);
    zero = scale + (coded ? round_up(blocks * 4, 64) : 0);
    codes = zero + (coded ? round_up(blocks, 64) : 0);
    all = codes + round_up(blocks * group * (coded ? 1 : 4) / 2, 64);
  }
};

inline Bsr bsr_of(const Matrix* w) {
  const auto* at = static_cast<const uint8_t*>(w->data);
  const auto* offset = reinterpret_cast<const uint32_t*>(at);
  const BsrBytes b(w->kind, w->rows, offset[w->rows], w->group);
  return {w->group, offset, reinterpret_cast<const uint16_t*>(at + b.index), reinterpret_cast<const float*>(at + b.scale),
          at + b.zero, at + b.codes, reinterpret_cast<const uint16_t*>(at + b.codes)};
}

// From offset | index | codes | scale float16 | zero, or offset | index | value.
inline size_t lay_bsr(const Pieces* from, void* to) {
  const int64_t blocks = from->length[1];
  const BsrBytes b(from->kind, from->rows, blocks, from->group);
  if (!to) return size_t(b.all);
  auto* at = static_cast<uint8_t*>(to);
  memcpy(at, from->array[0], size_t(from->length[0]) * 4);
  memcpy(at + b.index, from->array[1], size_t(blocks) * 2);
  memcpy(at + b.codes, from->array[2], size_t(from->length[2]) * (from->kind == kBsr4 ? 1 : 2));
  if (from->kind != kBsr4) return size_t(b.all);
  auto* scale = reinterpret_cast<float*>(at + b.scale);
  for (int64_t j = 0; j < blocks; ++j) scale[j] = half_to_float(static_cast<const uint16_t*>(from->array[3])[j]);
  memcpy(at + b.zero, from->array[4], size_t(blocks));
  return size_t(b.all);
}

// Weight i of kept block j.
inline float bsr_weight(int32_t kind, const Bsr& m, int64_t j, int32_t i) {
  const int64_t at = j * m.group + i;
  if (kind == kBsr16) return half_to_float(m.value[at]);
  return m.scale[j] * float(int32_t(code_at(m.codes, at, 4)) - m.zero[j]);
}

// f(column, weight) for all that is kept of a row, but what lies past its end.
template <class F>
inline void bsr_each(const Matrix* w, int32_t r, const F& f) {
  const Bsr m = bsr_of(w);
  for (uint32_t j = m.offset[r]; j < m.offset[r + 1]; ++j) {
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
