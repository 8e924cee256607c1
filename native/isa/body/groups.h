// Products of groups of codes with activations that have a scale a group: integers inside a group, one multiply-add of
// floats after each. Blocks of R tiles by T tokens, which with their two sums each fill the registers.
#pragma once
#include "integer.h"

namespace intaglio {
namespace {

// The integers of group g, which is columns [begin, end).
template <int T, int R>
INTAGLIO_INLINE void dot_group(const Groups& m, const Activations* x, const uint8_t* tile, int64_t token, int32_t g,
                               int32_t begin, int32_t end, VI (&part)[R][T]) {
  fill(part, seti(0));
  const bool few = begin < m.few;
  const int8_t* q = x->q + token * x->ldq;
  if (few) {
    dot_run<false>({tile, m.bytes, q, x->ldq}, begin / 8, div_up(end, 8), part,
                   [](VI a, Dots d, int) __attribute__((always_inline)) { return flush(a, d); });
  } else {
    dot_vectors8({tile + m.wide + (begin - m.few) / 4 * kVector, m.bytes, q + begin, x->ldq}, div_up(end - begin, 4), part);
  }
  if (!few && kOffset8 == 128) return;
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) {
    const int32_t sum = x->sums[(token + i % T) * x->lds + g];
    part[i / T][i % T] = subi(part[i / T][i % T], seti((few ? 8 : 128 - kOffset8) * sum));
  }
}

template <int T, int R>
void groups_block(const Matrix* w, const Groups& m, const Activations* x, int64_t token, int32_t row, int32_t row1,
                  const Output* out) {
  VF sum[R][T];
  fill(sum, setf(0));
  const uint8_t* tile = m.tiles + row / L * m.bytes;
  for (int32_t g = 0, k = 0; k < w->cols; ++g, k += m.group) {
    VI part[R][T];
    dot_group(m, x, tile, token, g, k, k + m.group < w->cols ? k + m.group : w->cols, part);
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      const VF scale = load_half(group_scales(m, row + r * L) + g * L);
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t)
        sum[r][t] = fma(mulf(scale, setf(x->scale[(token + t) * x->lds + g])), to_float(part[r][t]), sum[r][t]);
    }
  }
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) emit(out, token + i % T, row + i / T * L, row1, sum[i / T][i % T]);
}

template <int T>
void groups_tokens(const Matrix* w, const Groups& m, const Activations* x, int64_t token, int32_t row, int32_t row1,
                   const Output* out) {
  constexpr int R = T <= 2 || (T <= 4 && kTiles == 2) ? 2 : 1;
  for (int r = 0; r < 2; r += R) groups_block<T, R>(w, m, x, token, row + r * L, row1, out);
}

inline void groups_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0,
                        int32_t row1, const Output* out) {
  const Groups m = groups_of(w);
  for (int32_t row = row0; row < row1; row += 2 * L) {
    int32_t t = token0;
    for (; t + 4 <= token1; t += 4) groups_tokens<4>(w, m, x, t, row, row1, out);
    if (token1 - t == 3) groups_tokens<3>(w, m, x, t, row, row1, out);
    if (token1 - t == 2) groups_tokens<2>(w, m, x, t, row, row1, out);
    if (token1 - t == 1) groups_tokens<1>(w, m, x, t, row, row1, out);
  }
}

}  // namespace
}  // namespace intaglio
