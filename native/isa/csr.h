// Compressed rows: the few elements of a row that are not zero. Packed as stored, each array from a multiple of 64 bytes
// on: offset uint32 (rows + 1) | index uint16 | value float16.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

struct Csr {
  const uint32_t* offset;
  const uint16_t *index, *value;
};

constexpr int64_t kPastCsr = 32;  // bytes that vector loads may run into

struct CsrBytes {
  int64_t index, value, all;  // offsets in the data, and its size
  CsrBytes(int64_t rows, int64_t nonzeros)
      : index(round_up((rows + 1) * 4, 64)), value(index + round_up(nonzeros * 2, 64)), all(value + round_up(nonzeros * 2 + kPastCsr, 64)) {}
};

inline Csr csr_of(const Matrix* w) {
  const auto* at = static_cast<const uint8_t*>(w->data);
  const auto* offset = reinterpret_cast<const uint32_t*>(at);
  const CsrBytes bytes(w->rows, offset[w->rows]);
  return {offset, reinterpret_cast<const uint16_t*>(at + bytes.index), reinterpret_cast<const uint16_t*>(at + bytes.value)};
}

inline size_t lay_csr(const Pieces* from, void* to) {
  const CsrBytes bytes(from->rows, from->length[1]);
  if (to) {
    auto* at = static_cast<uint8_t*>(to);
    from->copy(0, 4, at);
    from->copy(1, 2, at + bytes.index);
    from->copy(2, 2, at + bytes.value);
  }
  return size_t(bytes.all);
}

// Elements [from, end) of a row, one by one.
inline float csr_part(const Csr& m, uint32_t from, uint32_t end, const float* x) {
  float sum = 0;
  for (uint32_t j = from; j < end; ++j) sum += half_to_float(m.value[j]) * x[m.index[j]];
  return sum;
}

inline void csr_row(const Matrix* w, int32_t r, float* out) {
  const Csr m = csr_of(w);
  memset(out, 0, size_t(w->cols) * 4);
  for (uint32_t j = m.offset[r]; j < m.offset[r + 1]; ++j) out[m.index[j]] = half_to_float(m.value[j]);
}

}  // namespace
}  // namespace intaglio
