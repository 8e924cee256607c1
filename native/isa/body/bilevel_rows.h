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
constexpr int kBilevelTiles = 2;         // of one token
constexpr int kRunTiles = kRun / L;      // that a run of rows has; a call's rows begin with whole pairs of tiles
static_assert(kRunTiles % kBilevelTiles == 0 || kRunTiles == 1);

// Tokens as integers, and their sums over the groups.
struct BilevelInputs {
  ShortTokens<kFloatTokens> tokens;
  float sum[kMostShorts / 8];  // [tokens][groups]

  void take(const Matrix* w, const Activations* x, int32_t token, int n) {
    tokens.take(x, token, n, w->cols, round_up(w->cols, 64));
    const int64_t groups = group_count(w->cols, w->group);
    for (int t = 0; t < n; ++t)
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t begin = g * w->group, left = w->cols - begin;
        sum[t * groups + g] = float(total_of(tokens.q + t * tokens.stride + begin, left < w->group ? left : w->group));
      }
  }
};

// What the statistics of a run of rows are coded by.
struct Range {
  VF of[4];

  INTAGLIO_INLINE explicit Range(const uint16_t* half) { spread_half4(half, of); }
  INTAGLIO_INLINE Grid grid(const uint8_t* statistics) const {
    const VI codes = load_u8(statistics);
    return {fma(to_float(andi(codes, seti(15))), of[1], of[0]), fma(to_float(shr<4>(codes)), of[3], of[2])};
  }
};

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

// What a group of R tiles, `stride` apart, is multiplied by, while it goes along the columns.
struct BilevelStreams {
  const uint8_t* codes;
  int64_t stride, ahead;
  const int16_t* q;
  int64_t ldq;
};

// The next so many words of every row, eight columns each, times T tokens.
template <int R, int T>
INTAGLIO_INLINE void bilevel_run(BilevelStreams& s, int64_t words, VI (&sum)[R][T]) {
  fill(sum, seti(0));
  for (; words; --words, s.codes += kVector, s.q += 8) {
    VI of[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      const uint8_t* at = s.codes + r * s.stride;
      if (T == 1) prefetch_far(at + s.ahead);
      of[r] = loadi(at);
    }
    add_nibbles<R, T>(of, s.q, s.ldq, sum);
  }
}

template <int R, int T>
void bilevel_tiles(const Matrix* w, const Layout& l, const BilevelInputs& x, int32_t token, int32_t row, int32_t row1,
                   const Output* out) {
  constexpr int64_t kMost = kBilevelRun / 8;
  const int64_t groups = group_count(w->cols, w->group);
  Tile tile[R];
  for (int r = 0; r < R; ++r) tile[r] = tile_at(w, l, row + r * L);
  if (T == 1) ask_for_tables<R>(tile[0].codes, l);
  BilevelStreams streams{tile[0].codes, l.bytes, ahead_of(R * l.bytes), x.tokens.q, x.tokens.stride};
  VF y[R][T];
  fill(y, setf(0));
  for (int64_t g = 0, left = w->cols; g < groups; ++g, left -= w->group) {
    int64_t words = div_up(left < w->group ? left : w->group, 8);
    VI part[R][T];
    VF sum[R][T];
    bilevel_run<R, T>(streams, words < kMost ? words : kMost, part);
    INTAGLIO_UNROLL
    for (int i = 0; i < R * T; ++i) sum[i / T][i % T] = to_float(part[i / T][i % T]);
    while ((words -= kMost) > 0) {
      bilevel_run<R, T>(streams, words < kMost ? words : kMost, part);
      INTAGLIO_UNROLL
      for (int i = 0; i < R * T; ++i) sum[i / T][i % T] = addf(sum[i / T][i % T], to_float(part[i / T][i % T]));
    }
    INTAGLIO_UNROLL
    for (int first = 0; first < R; first += kRunTiles) {
      const Range range(tile[first].ranges + 4 * g);
      INTAGLIO_UNROLL
      for (int r = first; r < R && r < first + kRunTiles; ++r) {
        const Grid grid = range.grid(tile[r].zeros + g * L);
        INTAGLIO_UNROLL
        for (int t = 0; t < T; ++t) y[r][t] = add_run(grid, sum[r][t], x.sum[t * groups + g], y[r][t]);
      }
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

inline void bilevel_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                         const Output* out) {
  const Layout l = layout_of(w);
  BilevelInputs inputs;
  const auto fits = [&](int n) { return n * round_up(w->cols, 64) <= kMostShorts; };
  const auto some = [&]<int T>(int32_t token) {
    constexpr int R = T == 1 ? kBilevelTiles : 1;
    inputs.take(w, x, token, T);
    int32_t r = row0;
    for (; r + (R - 1) * L < row1; r += R * L) bilevel_tiles<R, T>(w, l, inputs, token, r, row1, out);
    for (; r < row1; r += L) bilevel_tiles<1, T>(w, l, inputs, token, r, row1, out);
  };
  in_blocks<kFloatTokens>(token0, token1, fits, some, [&](int32_t token) {
    for (int32_t r = row0; r < row1; ++r) bilevel_one(w, l, x->f + token * x->ldf, token, r, out);
  });
}

}  // namespace
}  // namespace intaglio
