// Products with trit planes: no multiplication but one a group, by its scale. A lane is a row, as in every other kernel
// here, so that nothing is summed across lanes and groups may be of any size. Of each column, x is added where the digit
// is 1 and subtracted where it is -1; the words that say where are read once for T tokens and used on V vectors of rows.
// One token has eight vectors, or it would wait for each sum's two additions a column; the arithmetic is the same.
#pragma once
#include "vectors.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int kTritVectors = 8;  // of one token

// sum[t][v] += the digits of n columns times T tokens; `bits` points at vector v's bits of the first column.
template <int T, int V>
INTAGLIO_INLINE void add_trits(const uint8_t* const (&bits)[V], int32_t n, const float* x, int64_t ldx, VF (&sum)[T][V]) {
  for (int32_t k = 0; k < n; ++k) {
    VF column[T];
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) column[t] = setf(x[t * ldx + k]);
    INTAGLIO_UNROLL
    for (int v = 0; v < V; ++v) {
      const uint8_t* at = bits[v] + k * kTritColumn;
      const Where plus = where(at, v % 2), minus = where(at + 4, v % 2);
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t) sum[t][v] = sub_where(add_where(sum[t][v], plus, column[t]), minus, column[t]);
    }
  }
}

// Rows [row, row + V * L) times T tokens, into `y`.
template <int T, int V>
void multiply_trits(const Trits& m, int32_t row, const float* x, int64_t ldx, VF (&y)[T][V]) {
  INTAGLIO_UNROLL
  for (int i = 0; i < T * V; ++i) y[i / V][i % V] = setf(0);
  for (int32_t g = 0; g < m.groups; ++g)
    for (int32_t p = 0; p < m.planes; ++p) {
      const uint8_t *scales[V], *bits[V];
      VF sum[T][V];
      INTAGLIO_UNROLL
      for (int v = 0; v < V; ++v) {
        const int32_t r = row + v * L, inside = r % kTritRows;
        scales[v] = m.plane(r, g, p) + inside * 2;
        bits[v] = m.plane(r, g, p) + kTritScales + inside / 8;
        for (int t = 0; t < T; ++t) sum[t][v] = setf(0);
      }
      add_trits<T, V>(bits, m.columns(g), x + int64_t(g) * m.group, ldx, sum);
      INTAGLIO_UNROLL
      for (int i = 0; i < T * V; ++i) {
        const VF scale = load_half(reinterpret_cast<const uint16_t*>(scales[i % V]));
        y[i / V][i % V] = fma(scale, sum[i / V][i % V], y[i / V][i % V]);
      }
    }
}

template <int T, int V>
void trit_block(const Trits& m, const Activations* x, int32_t token, int32_t row, int32_t row1, const Output* out) {
  VF y[T][V];
  multiply_trits<T, V>(m, row, x->f + token * x->ldf, x->ldf, y);
  for (int i = 0; i < T * V; ++i) emit(out, token + i / V, row + i % V * L, row1, y[i / V][i % V]);
}

inline void trits_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                       const Output* out) {
  const Trits m = trits_of(w);
  if (token1 - token0 == 1)
    for (; row0 + (kTritVectors - 1) * L < row1; row0 += kTritVectors * L)
      trit_block<1, kTritVectors>(m, x, token0, row0, row1, out);
  for (int32_t row = row0; row < row1; row += 2 * L) {  // whose columns stay in the first cache for all tokens
    int32_t t = token0;
    for (; t + kTokens <= token1; t += kTokens) trit_block<kTokens, 2>(m, x, t, row, row1, out);
    for (; t + 2 <= token1; t += 2) trit_block<2, 2>(m, x, t, row, row1, out);
    if (t < token1) trit_block<1, 2>(m, x, t, row, row1, out);
  }
}

}  // namespace
}  // namespace intaglio
