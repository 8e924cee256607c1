// Products with compressed rows: a gather and a multiply-add for L elements at a time.
#pragma once
#include "vectors.h"
#include "../structures.h"

namespace intaglio {
namespace {

inline float csr_dot(const Csr& m, int32_t row, const float* x) {
  const uint32_t end = m.offset[row + 1];
  uint32_t j = m.offset[row];
  VF lanes = setf(0);
  for (; j + L <= end; j += L) lanes = fma(load_half(m.value + j), gather(x, load_u16(m.index + j)), lanes);
  return sum(lanes) + csr_part(m, j, end, x);
}

inline void csr_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                     const Output* out) {
  const Csr m = csr_of(w);
  for (int32_t r = row0; r < row1; ++r)
    for (int32_t t = token0; t < token1; ++t) emit_one(out, t, r, csr_dot(m, r, x->f + t * x->ldf));
}

}  // namespace
}  // namespace intaglio
