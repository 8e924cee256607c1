// Products with bilevel matrices. Lanes are rows. A group has few columns, so much of the work is its two statistics: codes
// are multiplied as integers with inputs of 16 bits, two at a time, and of a group
//
//   y += scale * (sum of code * x - zero * (sum of x))
#pragma once
#include "bilevel.h"
#include "coded.h"
#include "output.h"
#include "shorts.h"

namespace intaglio {
namespace {

constexpr int32_t kBilevelRun = 4096;  // columns whose products of 15 * 2^15 fit an integer, two to a lane
constexpr int kBilevelTiles = L <= 8 ? 4 : 2;

// Tokens as integers, and their sums over the groups.
struct BilevelInputs {
  ShortTokens<kFloatTokens> tokens;
  float sum[kMostShorts / 8];  // [tokens][groups]

  void take(const Matrix* w, const Activations* x, int32_t token, int n) {
    tokens.take(x, token, n, w->cols, round_up(w->cols, 64));
    const int64_t groups = group_count(w->cols, w->group);
    for (int t = 0; t < n; ++t)
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t begin = g * w->group, end = begin + w->group < w->cols ? begin + w->group : w->cols;
        int64_t total = 0;
        for (int64_t i = begin; i < end; ++i) total += tokens.q[t * tokens.stride + i];
        sum[t * groups + g] = float(total);
      }
  }
};

INTAGLIO_INLINE Grid bilevel_grid(const Tile& tile, int64_t g) {
  const VI codes = load_u8(tile.zeros + g * L);
  VF range[4];
  spread_half4(tile.ranges + 4 * g, range);
  return {fma(to_float(andi(codes, seti(15))), range[1], range[0]), fma(to_float(shr<4>(codes)), range[3], range[2])};
}

// Two vectors of nibbles at a time of R words times T tokens, `stride` apart.
template <int R, int T, int J = 0>
INTAGLIO_INLINE void add_nibbles(const VI (&words)[R], const int16_t* q, int64_t stride, VI (&sum)[R][T]) {
  if constexpr (J < 4) {
    VI codes[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) codes[r] = andi(shr<4 * J>(words[r]), seti(0x000f000f));
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const VI two = spread4(reinterpret_cast<const int8_t*>(q + t * stride + 2 * J));
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) sum[r][t] = dot16(sum[r][t], codes[r], two);
    }
    add_nibbles<R, T, J + 1>(words, q, stride, sum);
  }
}

// Columns [k, end) of R tiles times T tokens.
template <int R, int T>
INTAGLIO_INLINE void bilevel_sums(const Tile (&tile)[R], const ShortTokens<kFloatTokens>& x, int64_t ahead, int64_t k, int64_t end,
                                  VI (&sum)[R][T]) {
  fill(sum, seti(0));
  for (; k < end; k += 8) {
    VI words[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      const uint8_t* at = tile[r].codes + k / 8 * kVector;
      if (T == 1) prefetch_far(at + ahead);
      words[r] = loadi(at);
    }
    add_nibbles<R, T>(words, x.q + k, x.stride, sum);
  }
}

template <int R, int T>
void bilevel_tiles(const Matrix* w, const Layout& l, const BilevelInputs& x, int32_t token, int32_t row, int32_t row1,
                   const Output* out) {
  const int64_t groups = group_count(w->cols, w->group), ahead = ahead_of(R * l.bytes);
  Tile tile[R];
  for (int r = 0; r < R; ++r) tile[r] = tile_at(w, l, row + r * L);
  if (T == 1) ask_for_tables<R>(tile[0].codes, l);
  VF y[R][T];
  fill(y, setf(0));
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = g * w->group, end = begin + w->group < w->cols ? begin + w->group : w->cols;
    VI part[R][T];
    VF sum[R][T];
    bilevel_sums<R, T>(tile, x.tokens, ahead, begin, end - begin < kBilevelRun ? end : begin + kBilevelRun, part);
    INTAGLIO_UNROLL
    for (int i = 0; i < R * T; ++i) sum[i / T][i % T] = to_float(part[i / T][i % T]);
    for (int64_t k = begin + kBilevelRun; k < end; k += kBilevelRun) {
      bilevel_sums<R, T>(tile, x.tokens, ahead, k, end - k < kBilevelRun ? end : k + kBilevelRun, part);
      INTAGLIO_UNROLL
      for (int i = 0; i < R * T; ++i) sum[i / T][i % T] = addf(sum[i / T][i % T], to_float(part[i / T][i % T]));
    }
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      const Grid grid = bilevel_grid(tile[r], g);
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t) y[r][t] = add_run(grid, sum[r][t], x.sum[t * groups + g], y[r][t]);
    }
  }
  for (int i = 0; i < R * T; ++i)
    emit(out, token + i % T, row + i / T * L, row1, mulf(setf(x.tokens.scale[i % T]), y[i / T][i % T]));
}

// As it is defined, of a matrix too wide to be multiplied otherwise.
inline void bilevel_one(const Matrix* w, const Layout& l, const float* x, int32_t token, int32_t row, const Output* out) {
  const Tile tile = tile_at(w, l, row);
  float sum = 0;
  for (int32_t k = 0; k < w->cols; ++k) sum += coded_weight(w, tile, k, row % L) * x[k];
  emit_one(out, token, row, sum);
}

// Tokens in blocks of T if so many fit, what is left of them in smaller ones.
template <int T>
void bilevel_tokens(const Matrix* w, const Layout& l, const Activations* x, BilevelInputs& inputs, int32_t token, int32_t token1,
                    int32_t row0, int32_t row1, const Output* out) {
  constexpr int R = T == 1 ? kBilevelTiles : 1;
  for (; token + T <= token1 && T * round_up(w->cols, 64) <= kMostShorts; token += T) {
    inputs.take(w, x, token, T);
    int32_t r = row0;
    for (; r + (R - 1) * L < row1; r += R * L) bilevel_tiles<R, T>(w, l, inputs, token, r, row1, out);
    for (; r < row1; r += L) bilevel_tiles<1, T>(w, l, inputs, token, r, row1, out);
  }
  if constexpr (T > 1) return bilevel_tokens<T / 2>(w, l, x, inputs, token, token1, row0, row1, out);
  for (; token < token1; ++token)
    for (int32_t r = row0; r < row1; ++r) bilevel_one(w, l, x->f + token * x->ldf, token, r, out);
}

inline void bilevel_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                         const Output* out) {
  BilevelInputs inputs;
  bilevel_tokens<kFloatTokens>(w, layout_of(w), x, inputs, token0, token1, row0, row1, out);
}

}  // namespace
}  // namespace intaglio
