// W x for int8 activations. Lanes are outputs, so nothing is ever summed across a vector. A block of R tiles of
// rows by T tokens stays in registers while the columns stream by: each vector of codes is unpacked once for T tokens.
// The inner loop is integer only; zero points are one correction per group made from the activations' sums, taken
// before the loop as the start of the accumulators. Loops: tiles, tokens, groups, columns.
#pragma once
#include "dots.h"
#include "output.h"

namespace intaglio {
namespace {

inline int32_t group_sum(const Activations* x, int64_t token, int64_t g, int32_t group, int32_t cols) {
  const int32_t* sums = x->sums + token * x->lds;
  if (x->sum_group >= group) return sums[g];
  const int64_t n = group / x->sum_group, all = div_up(cols, x->sum_group);
  int32_t total = 0;
  for (int64_t i = g * n; i < (g + 1) * n && i < all; ++i) total += sums[i];
  return total;
}

inline int32_t total_sum(const Activations* x, int64_t token, int32_t cols) {
  return group_sum(x, token, 0, cols > x->sum_group ? int32_t(round_up(cols, x->sum_group)) : x->sum_group, cols);
}

// Two groups' sums as the two 16-bit halves of a lane; groups of at most 256 columns fit (256 * 127 < 2^15).
constexpr int32_t kMostPaired = 256;

template <int T, int R>
INTAGLIO_INLINE void subtract_zeros(const Matrix* w, const Activations* x, const Tile& tile, int64_t stride, int64_t token,
                               VI (&acc)[R][T]) {
  const int64_t groups = group_count(w->cols, w->group);
  for (int64_t g = 0; g < groups; g += 2) {
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const int32_t a = group_sum(x, token + t, g, w->group, w->cols);
      const int32_t b = g + 1 < groups ? group_sum(x, token + t, g + 1, w->group, w->cols) : 0;
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) {
        const VI zeros = load_u8_pairs(tile.zeros + r * stride + g * L);
        if (w->group <= kMostPaired) {
          acc[r][t] = subi(acc[r][t], madd16(zeros, seti(int32_t(uint32_t(b) << 16 | uint32_t(uint16_t(a))))));
        } else {
          const VI even = muli(andi(zeros, seti(0xffff)), seti(a)), odd = muli(shr<16>(zeros), seti(b));
          acc[r][t] = subi(acc[r][t], addi(even, odd));
        }
      }
    }
  }
}

template <int T, int R>
INTAGLIO_INLINE void subtract_zero(const Matrix* w, const Activations* x, const Tile& tile, int64_t stride, int64_t token,
                              VI (&acc)[R][T]) {
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    const VI a = seti(total_sum(x, token + t, w->cols));
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) acc[r][t] = subi(acc[r][t], muli(load_u8(tile.zeros + r * stride), a));
  }
}

template <int T, int R>
INTAGLIO_INLINE void dot_two_level(const Matrix* w, const Activations* x, const Tile& tile, int64_t stride, int64_t token,
                              VI (&acc)[R][T]) {
  subtract_zeros(w, x, tile, stride, token, acc);
  const Streams s{tile.codes, stride, x->q + token * x->ldq, x->ldq};
  const int64_t all = code_vectors(w->kind, w->cols), run = div_up(w->group, 8);
  for (int64_t g = 0, v = 0; v < all; ++g, v += run) {
    VI scale[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) scale[r] = load_scale(tile.group_scales + r * stride + g * L);
    dot_run<false>(s, v, v + run < all ? v + run : all, acc,
            [&](VI a, Dots d, int r) __attribute__((always_inline)) { return flush_scaled(a, d, scale[r]); });
  }
}

// For several tokens: codes times group scale fit a byte, so a vector is scaled once and its groups vanish.
template <int T, int R>
INTAGLIO_INLINE void dot_expanded(const Matrix* w, const Activations* x, const Tile& tile, int64_t stride, int64_t token,
                                  VI (&acc)[R][T]) {
  subtract_zeros(w, x, tile, stride, token, acc);
  const int8_t* q = x->q + token * x->ldq;
  const int64_t all = code_vectors(w->kind, w->cols), run = div_up(w->group, 8);
  Chains<R * T> high;
  for (int64_t g = 0, v = 0; v < all; ++g) {
    VI scale[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) scale[r] = twice16(load_u8(tile.group_scales + r * stride + g * L));
    for (const int64_t end = v + run < all ? v + run : all; v < end; ++v) {
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) {
        const VI codes = loadi(tile.codes + r * stride + v * kVector);
        const VI a = mul16(low_nibbles(codes), scale[r]), b = mul16(high_nibbles(codes), scale[r]);
        INTAGLIO_UNROLL
        for (int t = 0; t < T; ++t) {
          acc[r][t] = dot(acc[r][t], a, spread4(q + t * x->ldq + 8 * v));
          VI& other = high.of(r * T + t, acc[r][t]);
          other = dot(other, b, spread4(q + t * x->ldq + 8 * v + 4));
        }
      }
    }
  }
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) high.join(i, acc[i / T][i % T]);
}

template <int T, int R>
INTAGLIO_INLINE void dot_one_level(const Matrix* w, const Activations* x, const Tile& tile, int64_t stride, int64_t token,
                              VI (&acc)[R][T]) {
  subtract_zero(w, x, tile, stride, token, acc);
  const Streams s{tile.codes, stride, x->q + token * x->ldq, x->ldq};
  dot_run<true>(s, 0, code_vectors(w->kind, w->cols), acc, [](VI a, Dots d, int) __attribute__((always_inline)) { return flush(a, d); });
}

template <int T, int R>
INTAGLIO_INLINE void dot_eight_bit(const Matrix* w, const Activations* x, const Tile& tile, int64_t stride, int64_t token,
                              VI (&acc)[R][T]) {
  INTAGLIO_UNROLL
  for (int t = 0; t < T && kOffset8 != 128; ++t) {
    const VI middle = seti(total_sum(x, token + t, w->cols) * (128 - kOffset8));
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) acc[r][t] = subi(acc[r][t], middle);
  }
  dot_vectors8({tile.codes, stride, x->q + token * x->ldq, x->ldq}, code_vectors(w->kind, w->cols), acc);
}

// The exact integers of R tiles and T tokens.
template <int T, int R>
INTAGLIO_INLINE void integers(const Matrix* w, const Activations* x, const Tile& tile, int64_t stride, int64_t token,
                         VI (&acc)[R][T]) {
  fill(acc, seti(0));
  if (w->kind == kW4A8Two) {
    if constexpr (kExpands && T >= 4) dot_expanded(w, x, tile, stride, token, acc);
    else dot_two_level(w, x, tile, stride, token, acc);
  } else if (w->kind == kW4A8) dot_one_level(w, x, tile, stride, token, acc);
  else dot_eight_bit(w, x, tile, stride, token, acc);
}

inline const float* tile_scales(const Tile& tile, int64_t stride, int r) {
  return reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(tile.scales) + r * stride);
}

// Float scales per group: integers inside a group, one multiply-add of floats after each.
template <int T, int R>
INTAGLIO_INLINE void dot_grouped(const Matrix* w, const Activations* x, const Tile& tile, int64_t stride, int64_t token,
                            VF (&sum)[R][T]) {
  const Streams s{tile.codes, stride, x->q + token * x->ldq, x->ldq};
  const int64_t all = code_vectors(w->kind, w->cols), run = div_up(w->group, 8);
  for (int64_t g = 0, v = 0; v < all; ++g, v += run) {
    VI part[R][T];
    fill(part, seti(0));
    dot_run<false>(s, v, v + run < all ? v + run : all, part, [](VI a, Dots d, int) __attribute__((always_inline)) { return flush(a, d); });
    INTAGLIO_UNROLL
    for (int i = 0; i < R * T; ++i) {
      const int r = i / T, t = i % T;
      const VI a = seti(group_sum(x, token + t, g, w->group, w->cols));
      const VI shifted = subi(part[r][t], muli(load_u8(tile.zeros + r * stride + g * L), a));
      sum[r][t] = fma(loadf(tile_scales(tile, stride, r) + g * L), to_float(shifted), sum[r][t]);
    }
  }
}

struct Job {
  const Matrix* w;
  const Activations* x;
  int32_t row1;
  const Output* out;  // null: the integers themselves go to acc
  int32_t* acc;
  int64_t ldacc;
};

inline void keep_integers(const Job& job, int64_t token, int32_t row, VI v) {
  int32_t lanes[L];
  storei(lanes, v);
  for (int32_t i = 0; i < L && row + i < job.row1; ++i) job.acc[token * job.ldacc + row + i] = lanes[i];
}

template <int T, int R>
void integer_block(const Job& job, const Layout& l, int32_t row, int64_t token) {
  const Tile tile = tile_at(job.w, l, row);
  VI acc[R][T];
  integers(job.w, job.x, tile, l.bytes, token, acc);
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) {
    const int r = i / T, t = i % T;
    if (!job.out) {
      keep_integers(job, token + t, row + r * L, acc[r][t]);
      continue;
    }
    const VF scale = mulf(loadf(tile_scales(tile, l.bytes, r)), setf(job.x->scale[token + t]));
    emit(job.out, token + t, row + r * L, job.row1, mulf(to_float(acc[r][t]), scale));
  }
}

template <int T, int R>
void grouped_block(const Job& job, const Layout& l, int32_t row, int64_t token) {
  const Tile tile = tile_at(job.w, l, row);
  VF sum[R][T];
  fill(sum, setf(0));
  dot_grouped(job.w, job.x, tile, l.bytes, token, sum);
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i)
    emit(job.out, token + i % T, row + i / T * L, job.row1, mulf(sum[i / T][i % T], setf(job.x->scale[token + i % T])));
}

template <int T>
void integer_tokens(const Job& job, const Layout& l, int32_t row, int64_t token) {
  constexpr int R = T <= 2 ? 2 : kTiles;
  for (int r = 0; r < 2; r += R) {
    if (job.w->kind == kW4A8Group) grouped_block<T, R>(job, l, row + r * L, token);
    else integer_block<T, R>(job, l, row + r * L, token);
  }
}

inline void integer_rows(const Job& job, int32_t token0, int32_t token1, int32_t row0) {
  const Layout l = layout_of(job.w);
  for (int32_t row = row0; row < job.row1; row += 2 * L) {
    int32_t t = token0;
    for (; t + kTokens <= token1; t += kTokens) integer_tokens<kTokens>(job, l, row, t);
    if constexpr (kTokens > 4)
      for (; t + 4 <= token1; t += 4) integer_tokens<4>(job, l, row, t);
    if (token1 - t == 3) integer_tokens<3>(job, l, row, t);
    if (token1 - t == 2) integer_tokens<2>(job, l, row, t);
    if (token1 - t == 1) integer_tokens<1>(job, l, row, t);
  }
}

inline void accumulate(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                       int32_t* acc, int64_t ldacc) {
  integer_rows({w, x, row1, nullptr, acc, ldacc}, token0, token1, row0);
}

}  // namespace
}  // namespace intaglio
