// W x for int8 activations. Lanes are outputs, so nothing is ever summed across a vector. A block of R tiles of
// rows by T tokens stays in registers while the columns stream by: each vector of codes is unpacked once for T tokens.
// The inner loop is integer only; zero points are one correction per group made from the activations' sums, taken
// before the loop as the start of the accumulators. Loops: tiles, tokens, groups, columns.
#pragma once
#include "expanded.h"
#include "output.h"

namespace intaglio {
namespace {

// The activations' sums over the groups of a matrix, which may be coarser than those they were taken over.
struct Sums {
  const int32_t* at;
  int64_t ld, all, each;  // sums of a token, and of them in a group

  Sums(const Matrix* w, const Activations* x) : at(x->sums), ld(x->lds), all(0), each(1) {
    if (x->sum_group == 0) return;  // float activations have none
    all = div_up(w->cols, x->sum_group);
    if (x->sum_group < w->group) each = w->group / x->sum_group;
  }

  int32_t of(int64_t token, int64_t first, int64_t end) const {
    int32_t total = 0;
    for (int64_t i = first; i < end; ++i) total += at[token * ld + i];
    return total;
  }
  int32_t group(int64_t token, int64_t g) const {
    return each == 1 ? at[token * ld + g] : of(token, g * each, (g + 1) * each < all ? (g + 1) * each : all);
  }
  int32_t total(int64_t token) const { return of(token, 0, all); }
};

// Two groups' sums as the two 16-bit halves of a lane; groups of at most 256 columns fit (256 * 127 < 2^15).
constexpr int32_t kMostPaired = 256;

// Takes away from R tiles the zeros of groups g and g + 1 times the sums of one token, `pair` of both.
template <int T, int R>
INTAGLIO_INLINE void subtract_pair(const uint8_t* zeros, int64_t stride, VI pair, int t, VI (&acc)[R][T]) {
  INTAGLIO_UNROLL
  for (int r = 0; r < R; ++r) acc[r][t] = subi(acc[r][t], madd16(load_u8_pairs(zeros + r * stride), pair));
}

template <int T, int R>
INTAGLIO_INLINE void subtract_wide_pair(const uint8_t* zeros, int64_t stride, VI a, VI b, int t, VI (&acc)[R][T]) {
  INTAGLIO_UNROLL
  for (int r = 0; r < R; ++r) {
    const VI both = load_u8_pairs(zeros + r * stride);
    acc[r][t] = subi(acc[r][t], addi(muli(andi(both, seti(0xffff)), a), muli(shr<16>(both), b)));
  }
}

template <int T, int R>
INTAGLIO_INLINE void subtract_zeros(const Matrix* w, const Sums& sums, const Tile& tile, int64_t stride, int64_t token,
                               VI (&acc)[R][T]) {
  const int64_t groups = group_count(w->cols, w->group);
  const bool narrow = w->group <= kMostPaired;
  int64_t g = 0;
  if (narrow && sums.each == 1) {
    for (; g + 2 <= groups; g += 2) {
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t)
        subtract_pair(tile.zeros + g * L, stride, spread_pair(sums.at + (token + t) * sums.ld + g), t, acc);
    }
    if (g == groups) return;
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const VI last = seti(uint16_t(sums.at[(token + t) * sums.ld + g]));
      subtract_pair(tile.zeros + g * L, stride, last, t, acc);
    }
    return;
  }
  for (; g < groups; g += 2) {
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const int32_t a = sums.group(token + t, g), b = g + 1 < groups ? sums.group(token + t, g + 1) : 0;
      const uint8_t* zeros = tile.zeros + g * L;
      if (narrow) subtract_pair(zeros, stride, seti(int32_t(uint32_t(b) << 16 | uint32_t(uint16_t(a)))), t, acc);
      else subtract_wide_pair(zeros, stride, seti(a), seti(b), t, acc);
    }
  }
}

template <int T, int R>
INTAGLIO_INLINE void subtract_zero(const Sums& sums, const Tile& tile, int64_t stride, int64_t token,
                              VI (&acc)[R][T]) {
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    const VI a = seti(sums.total(token + t));
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) acc[r][t] = subi(acc[r][t], muli(load_u8(tile.zeros + r * stride), a));
  }
}

template <int T, int R>
INTAGLIO_INLINE void dot_two_level(const Matrix* w, const Activations* x, const Sums& sums, const Tile& tile, int64_t stride, int64_t token,
                              VI (&acc)[R][T]) {
  subtract_zeros(w, sums, tile, stride, token, acc);
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

template <int T, int R>
INTAGLIO_INLINE void dot_one_level(const Matrix* w, const Activations* x, const Sums& sums, const Tile& tile, int64_t stride, int64_t token,
                              VI (&acc)[R][T]) {
  subtract_zero(sums, tile, stride, token, acc);
  const Streams s{tile.codes, stride, x->q + token * x->ldq, x->ldq};
  dot_run<true>(s, 0, code_vectors(w->kind, w->cols), acc, plainly);
}

// Codes of 8 bits whose zero is 128, `vectors` of them in each tile.
template <int T, int R>
INTAGLIO_INLINE void dot_eight_bit(const Activations* x, const Sums& sums, const uint8_t* codes, int64_t stride, int64_t vectors,
                              int64_t token, VI (&acc)[R][T]) {
  INTAGLIO_UNROLL
  for (int t = 0; t < T && kOffset8 != 128; ++t) {
    const VI middle = seti(sums.total(token + t) * (128 - kOffset8));
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) acc[r][t] = subi(acc[r][t], middle);
  }
  dot_vectors8({codes, stride, x->q + token * x->ldq, x->ldq}, vectors, acc);
}

inline const float* tile_scales(const Tile& tile, int64_t stride, int r) {
  return reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(tile.scales) + r * stride);
}

// Float scales per group: integers inside a group, one multiply-add of floats after each.
template <int T, int R>
INTAGLIO_INLINE void dot_grouped(const Matrix* w, const Activations* x, const Sums& sums, const Tile& tile, int64_t stride, int64_t token,
                            VF (&sum)[R][T]) {
  const Streams s{tile.codes, stride, x->q + token * x->ldq, x->ldq};
  const int64_t all = code_vectors(w->kind, w->cols), run = div_up(w->group, 8);
  for (int64_t g = 0, v = 0; v < all; ++g, v += run) {
    VI part[R][T];
    fill(part, seti(0));
    dot_run<false>(s, v, v + run < all ? v + run : all, part, plainly);
    INTAGLIO_UNROLL
    for (int i = 0; i < R * T; ++i) {
      const int r = i / T, t = i % T;
      const VI a = seti(sums.group(token + t, g));
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
  Sums sums{w, x};
  Expanded expanded{};  // of the two tiles at hand, one behind the other; or none
};

template <int T, int R>
INTAGLIO_INLINE void dot_expanded(const Activations* x, const Sums& sums, const Expanded& e, int32_t tile, int64_t bytes,
                             int64_t token, VI (&acc)[R][T]) {
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    const VI total = seti(sums.total(token + t));
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) acc[r][t] = subi(acc[r][t], muli(loadi(e.offset + (tile + r) * L), total));
  }
  dot_vectors8({e.codes + tile * bytes, bytes, x->q + token * x->ldq, x->ldq}, bytes / kVector, acc);
}

// The exact integers of R tiles from `row` on and T tokens.
template <int T, int R>
INTAGLIO_INLINE void integers(const Job& job, const Tile& tile, int64_t stride, int32_t row, int64_t token, VI (&acc)[R][T]) {
  const Matrix* w = job.w;
  fill(acc, seti(0));
  if (job.expanded.codes) dot_expanded(job.x, job.sums, job.expanded, row % (2 * L) / L, expanded_bytes(w), token, acc);
  else if (w->kind == kW4A8Two) dot_two_level(w, job.x, job.sums, tile, stride, token, acc);
  else if (w->kind == kW4A8) dot_one_level(w, job.x, job.sums, tile, stride, token, acc);
  else dot_eight_bit(job.x, job.sums, tile.codes, stride, code_vectors(w->kind, w->cols), token, acc);
}

inline void keep_integers(const Job& job, int64_t token, int32_t row, VI v) {
  int32_t lanes[L];
  storei(lanes, v);
  for (int32_t i = 0; i < L && row + i < job.row1; ++i) job.acc[token * job.ldacc + row + i] = lanes[i];
}

// The end of a token's product with a tile whose rows begin at `row`.
INTAGLIO_INLINE void emit_sums(const Job& job, const float* scales, int32_t row, int64_t token, VI sums) {
  if (!job.out) return keep_integers(job, token, row, sums);
  const VF scale = mulf(loadf(scales), setf(job.x->scale[token]));
  emit(job.out, token, row, job.row1, mulf(to_float(sums), scale));
}

template <int T, int R>
void integer_block(const Job& job, const Layout& l, int32_t row, int64_t token) {
  const Tile tile = tile_at(job.w, l, row);
  if (T == 1) ask_for_tables<R>(tile.codes, l);
  VI acc[R][T];
  integers(job, tile, l.bytes, row, token, acc);
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i)
    emit_sums(job, tile_scales(tile, l.bytes, i / T), row + i / T * L, token + i % T, acc[i / T][i % T]);
}

template <int T, int R>
void grouped_block(const Job& job, const Layout& l, int32_t row, int64_t token) {
  const Tile tile = tile_at(job.w, l, row);
  if (T == 1) ask_for_tables<R>(tile.codes, l);
  VF sum[R][T];
  fill(sum, setf(0));
  dot_grouped(job.w, job.x, job.sums, tile, l.bytes, token, sum);
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

// With many tokens the next pair is asked for meanwhile, a part at each block of them; with few, their loops read ahead.
inline void pair_of_tiles(const Job& job, const Layout& l, int32_t token0, int32_t token1, int32_t row) {
  int32_t t = token0;
  const int32_t blocks = (token1 - token0) / kTokens;
  const uint8_t* next = blocks > 0 && row + 2 * L < job.row1 ? tile_at(job.w, l, row + 2 * L).codes : nullptr;
  const int64_t part = next ? round_up(div_up(2 * l.bytes, blocks), 64) : 0;
  for (; t + kTokens <= token1; t += kTokens, next += part) {
    ask_for(next, 0, part);
    integer_tokens<kTokens>(job, l, row, t);
  }
  if constexpr (kTokens > 4)
    for (; t + 4 <= token1; t += 4) integer_tokens<4>(job, l, row, t);
  if (token1 - t == 3) integer_tokens<3>(job, l, row, t);
  if (token1 - t == 2) integer_tokens<2>(job, l, row, t);
  if (token1 - t == 1) integer_tokens<1>(job, l, row, t);
}

}  // namespace
}  // namespace intaglio
