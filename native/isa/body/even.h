// Products with rows of equally many elements: a gather and a multiply-add for the j-th elements of L rows at a time.
// Columns and values are read once for up to kEvenTokens tokens.
#pragma once
#include "vectors.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int kEvenTokens = 4;

template <int Tokens>
INTAGLIO_INLINE void even_tile(const Matrix* w, const Activations* x, int32_t t, int32_t r, int32_t rows, const Output* out) {
  const Even m = even_of(w);
  VF sums[Tokens];
  for (int k = 0; k < Tokens; ++k) sums[k] = setf(0);
  const uint16_t* at = even_at(m, r, 0);
  for (int32_t j = 0; j < w->group; ++j, at += 2 * kEven) {
    const VI columns = load_u16(at);
    const VF values = load_half(at + kEven);
    for (int k = 0; k < Tokens; ++k) sums[k] = fma(values, gather(x->f + (t + k) * x->ldf, columns), sums[k]);
  }
  for (int k = 0; k < Tokens; ++k) {
    float y[L];
    storef(y, sums[k]);
    for (int32_t i = 0; i < rows; ++i) emit_one(out, t + k, r + i, y[i]);
  }
}

inline void even_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                      const Output* out) {
  for (int32_t r = row0; r < row1; r += L) {
    const int32_t rows = r + L < row1 ? L : row1 - r;
    int32_t t = token0;
    for (; t + kEvenTokens <= token1; t += kEvenTokens) even_tile<kEvenTokens>(w, x, t, r, rows, out);
    for (; t < token1; ++t) even_tile<1>(w, x, t, r, rows, out);
  }
}

}  // namespace
}  // namespace intaglio
