// Products with compressed rows. A slice's rows are summed side by side, so that where one ends nothing has to be guessed:
// with a handful of elements a row, a wrong guess costs as much as all of them. Values are made float together; inputs are
// taken one by one, for a gather costs as much as the loads it stands for, but where INTAGLIO_GATHERS says that it does not.
#pragma once
#include "output.h"
#include "../structures.h"

namespace intaglio {
namespace {

INTAGLIO_INLINE void add_slice(const uint16_t* index, const uint16_t* value, const float* x, float (&sum)[kSlice]) {
#ifdef INTAGLIO_GATHERS
  for (int32_t i = 0; i < kSlice; i += L)
    storef(sum + i, fma(load_half(value + i), gather(x, load_u16(index + i)), loadf(sum + i)));
#else
  alignas(64) float v[kSlice];
  for (int32_t i = 0; i < kSlice; i += L) storef(v + i, load_half(value + i));
  INTAGLIO_UNROLL
  for (int32_t i = 0; i < kSlice; ++i) sum[i] = __builtin_fmaf(v[i], x[index[i]], sum[i]);
#endif
}

inline void csr_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                     const Output* out) {
  const Csr m = csr_of(w);
  for (int32_t r = row0; r < row1; r += kSlice)
    for (int32_t t = token0; t < token1; ++t) {
      alignas(64) float sum[kSlice] = {};
      const uint32_t end = m.offset[r / kSlice + 1];
      for (uint32_t j = m.offset[r / kSlice]; j < end; ++j)
        add_slice(m.index + int64_t(j) * kSlice, m.value + int64_t(j) * kSlice, x->f + t * x->ldf, sum);
      for (int32_t i = 0; i < kSlice; i += L) emit(out, t, r + i, row1, loadf(sum + i));
    }
}

}  // namespace
}  // namespace intaglio
