// Products with blocks along the diagonal: a column's values of L rows times that column's x, for a few tokens at once.
#pragma once
#include "even.h"
#include "../block_diagonal.h"

namespace intaglio {
namespace {

template <int Tokens>
INTAGLIO_INLINE void block_tile(const Matrix* w, const Activations* x, int32_t t, int32_t block, int32_t r, int32_t first,
                                int32_t end, const Output* out) {
  const BlockDiagonal m = block_diagonal_of(w);
  const int32_t width = block_width(w, block);
  const uint16_t* at = block_at(m, block, r);
  const float* from = x->f + t * x->ldf + int64_t(block) * w->group;
  VF sums[Tokens];
  for (int k = 0; k < Tokens; ++k) sums[k] = setf(0);
  for (int32_t c = 0; c < width; ++c) {
    const VF values = load_half(at + c * kEven);
    for (int k = 0; k < Tokens; ++k) sums[k] = fma(values, setf(from[k * x->ldf + c]), sums[k]);
  }
  for (int k = 0; k < Tokens; ++k) {
    float y[L];
    storef(y, sums[k]);
    for (int32_t i = first; i < end; ++i) emit_one(out, t + k, block * m.rows + r + i, y[i]);
  }
}

// Rows [row0, row1) may begin and end within a block, and within L rows that lie side by side there.
inline void block_diagonal_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0,
                                int32_t row1, const Output* out) {
  const BlockDiagonal m = block_diagonal_of(w);
  for (int32_t row = row0; row < row1;) {
    const int32_t block = row / m.rows, within = row % m.rows, r = within / L * L, first = within - r;
    int32_t end = m.rows - r < L ? m.rows - r : L;
    if (end - first > row1 - row) end = first + row1 - row;
    int32_t t = token0;
    for (; t + kEvenTokens <= token1; t += kEvenTokens) block_tile<kEvenTokens>(w, x, t, block, r, first, end, out);
    for (; t < token1; ++t) block_tile<1>(w, x, t, block, r, first, end, out);
    row += end - first;
  }
}

}  // namespace
}  // namespace intaglio
