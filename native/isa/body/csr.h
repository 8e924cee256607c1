// Products with compressed rows. Values are made float many at a time, and then taken one by one: a row has few, and a gather
// costs as much as the loads it stands for. Four chains, or each product would wait for the one before it.
#pragma once
#include "vectors.h"
#include "../structures.h"

namespace intaglio {
namespace {

inline float csr_dot(const Csr& m, int32_t row, const float* x) {
  constexpr uint32_t kMany = 16, kChains = 4;
  alignas(64) float value[kMany];
  float sum[kChains] = {};
  for (uint32_t j = m.offset[row], end = m.offset[row + 1]; j < end; j += kMany) {
    for (uint32_t i = 0; i < kMany; i += L) storef(value + i, load_half(m.value + j + i));
    const uint32_t n = end - j < kMany ? end - j : kMany;
    uint32_t i = 0;
    for (; i + kChains <= n; i += kChains)
      for (uint32_t c = 0; c < kChains; ++c) sum[c] += value[i + c] * x[m.index[j + i + c]];
    for (; i < n; ++i) sum[i % kChains] += value[i] * x[m.index[j + i]];
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

inline void csr_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                     const Output* out) {
  const Csr m = csr_of(w);
  for (int32_t r = row0; r < row1; ++r)
    for (int32_t t = token0; t < token1; ++t) emit_one(out, t, r, csr_dot(m, r, x->f + t * x->ldf));
}

}  // namespace
}  // namespace intaglio
