// Compressed rows: the few elements of a row that are not zero. From pieces: offset uint32 (rows + 1) | index uint16 | value
// float16. Packed in slices of kSlice rows, each array from a multiple of 64 bytes on:
//
//   offset uint32 (slices + 1) | index uint16 [steps][kSlice] | value float16 [steps][kSlice]
//
// A slice takes the steps from its offset to the next: of each row an element, or past its last a zero, so that where a row
// ends nothing has to be decided.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int32_t kSlice = L == 1 ? 1 : L < 8 ? 8 : L;

struct Csr {
  const uint32_t* offset;
  const uint16_t *index, *value;
};

struct CsrBytes {
  int64_t index, value, all;  // offsets in the data, and its size
  CsrBytes(int64_t rows, int64_t steps)
      : index(round_up((div_up(rows, kSlice) + 1) * 4, 64)), value(index + round_up(steps * kSlice * 2, 64)),
        all(value + round_up(steps * kSlice * 2, 64)) {}
};

inline Csr csr_of(const Matrix* w) {
  const auto* at = static_cast<const uint8_t*>(w->data);
  const auto* offset = reinterpret_cast<const uint32_t*>(at);
  const CsrBytes bytes(w->rows, offset[div_up(w->rows, kSlice)]);
  return {offset, reinterpret_cast<const uint16_t*>(at + bytes.index), reinterpret_cast<const uint16_t*>(at + bytes.value)};
}

// f(slice, its steps) one after another.
template <class F>
inline void each_slice(const Pieces* from, const F& f) {
  const auto* offset = static_cast<const uint32_t*>(from->array[0]);
  for (int32_t r = 0; r < from->rows; r += kSlice) {
    uint32_t most = 0;
    for (int32_t i = r; i < r + kSlice && i < from->rows; ++i) most = offset[i + 1] - offset[i] > most ? offset[i + 1] - offset[i] : most;
    f(r / kSlice, most);
  }
}

inline size_t lay_csr(const Pieces* from, void* to) {
  int64_t steps = 0;
  each_slice(from, [&](int32_t, uint32_t n) { steps += n; });
  const CsrBytes bytes(from->rows, steps);
  if (!to) return size_t(bytes.all);
  const auto* first = static_cast<const uint32_t*>(from->array[0]);
  const auto *columns = static_cast<const uint16_t*>(from->array[1]), *values = static_cast<const uint16_t*>(from->array[2]);
  auto* offset = static_cast<uint32_t*>(to);
  auto* index = reinterpret_cast<uint16_t*>(static_cast<uint8_t*>(to) + bytes.index);
  auto* value = reinterpret_cast<uint16_t*>(static_cast<uint8_t*>(to) + bytes.value);
  each_slice(from, [&](int32_t slice, uint32_t n) {
    offset[slice + 1] = offset[slice] + n;
    for (int32_t r = slice * kSlice; r < (slice + 1) * kSlice && r < from->rows; ++r)
      for (uint32_t j = first[r]; j < first[r + 1]; ++j) {
        const int64_t at = int64_t(offset[slice] + j - first[r]) * kSlice + r % kSlice;
        index[at] = columns[j], value[at] = values[j];
      }
  });
  return size_t(bytes.all);
}

// f(column, value) of a row's elements, and of the zeros behind them.
template <class F>
inline void csr_each(const Matrix* w, int32_t r, const F& f) {
  const Csr m = csr_of(w);
  for (uint32_t j = m.offset[r / kSlice]; j < m.offset[r / kSlice + 1]; ++j) {
    const int64_t at = int64_t(j) * kSlice + r % kSlice;
    f(m.index[at], half_to_float(m.value[at]));
  }
}

inline float csr_dot(const Matrix* w, int32_t r, const float* x) {
  float sum = 0;
  csr_each(w, r, [&](int32_t k, float v) { sum += v * x[k]; });
  return sum;
}

inline void csr_row(const Matrix* w, int32_t r, float* out) {
  memset(out, 0, size_t(w->cols) * 4);
  csr_each(w, r, [&](int32_t k, float v) { out[k] += v; });
}

}  // namespace
}  // namespace intaglio
