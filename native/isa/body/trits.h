// Products with trit planes. A lane is a row, as in most kernels here, so that nothing is summed across lanes and groups may
// be of any size. Digits plus one are bytes of 0, 1 or 2; inputs, made integers of 16 bits, are taken byte by byte, and the
// byte sums of a group joined when they are whole. What the ones added is the sum of the group's inputs, made once for all
// rows. One multiplication of floats a group and plane, by its scale.
#pragma once
#include "shorts.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int32_t kTopTrit = 127 * 256 + 127;       // whose upper byte is one, with the lower one signed
constexpr int32_t kTritGroups = 1 << 13;            // of a block of tokens; more are multiplied as they are defined
constexpr int32_t kTritTokens = 4, kTritWords = 15;  // words of which sums of 16 bits hold 60 products of 2 * 2 * 128
constexpr int kTritVectors = 4 * L <= kTritRows ? 4 : 2;  // of rows that share one token's inputs

struct TritInputs {
  int64_t stride;
  float scale[kTritTokens];
  int32_t sum[kTritGroups];  // [tokens][groups]
  alignas(64) int8_t high[kMostShorts], low[kMostShorts];

  void take(const Trits& m, const Activations* x, int32_t token, int n) {
    alignas(64) int16_t q[kMostShorts];
    stride = round_up(m.cols + kTritColumns, 64);  // a group's last word may reach past the columns
    for (int t = 0; t < n; ++t) {
      scale[t] = shorten(x->f + (token + t) * x->ldf, m.cols, kTopTrit, stride, q);
      split_shorts(q, stride, high + t * stride, low + t * stride);
      for (int32_t g = 0; g < m.groups; ++g) sum[t * m.groups + g] = total_of(q + int64_t(g) * m.group, m.columns(g));
    }
  }
};

// Words of R vectors of rows times T tokens' bytes, in 16 columns.
template <int R, int T, int J = 0>
INTAGLIO_INLINE void add_digits(const VI (&words)[R], const int8_t* high, const int8_t* low, int64_t stride, Dots (&upper)[R][T],
                                Dots (&lower)[R][T]) {
  if constexpr (J < 4) {
    VI digits[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) digits[r] = andi(shr<2 * J>(words[r]), seti(0x03030303));
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const VI a = spread4(high + t * stride + 4 * J), b = spread4(low + t * stride + 4 * J);
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) upper[r][t] = dot(upper[r][t], digits[r], a), lower[r][t] = dot(lower[r][t], digits[r], b);
    }
    add_digits<R, T, J + 1>(words, high, low, stride, upper, lower);
  }
}

// Group g of R vectors of rows in one plane: its digits times T tokens, onto y.
template <int R, int T>
INTAGLIO_INLINE void add_trits(const Trits& m, const TritInputs& x, const uint8_t* plane, int32_t row, int32_t g, VF (&y)[R][T]) {
  const int64_t first = int64_t(g) * m.group;
  const int8_t *high = x.high + first, *low = x.low + first;
  const uint8_t* words = plane + kTritScales + row % kTritRows * 4;
  VI upper[R][T], lower[R][T];
  fill(upper, seti(0)), fill(lower, seti(0));
  for (int32_t left = int32_t(div_up(m.columns(g), kTritColumns)); left > 0; left -= kTritWords) {
    Dots a[R][T], b[R][T];
    fill(a, no_dots()), fill(b, no_dots());
    for (int32_t n = left < kTritWords ? left : kTritWords; n; --n, words += kTritBlock, high += kTritColumns, low += kTritColumns) {
      VI w[R];
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) w[r] = loadi(words + r * 4 * L);
      if (T == 1) ask_for(words + kAhead, 0, R * 4 * L);
      add_digits<R, T>(w, high, low, x.stride, a, b);
    }
    flush_all(upper, a, plainly), flush_all(lower, b, plainly);
  }
  const auto* scale = reinterpret_cast<const uint16_t*>(plane + row % kTritRows * 2);
  INTAGLIO_UNROLL
  for (int r = 0; r < R; ++r) {
    const VF by = load_half(scale + r * L);
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const VI sum = subi(addi(shl<8>(upper[r][t]), lower[r][t]), seti(x.sum[t * m.groups + g]));
      y[r][t] = fma(by, to_float(sum), y[r][t]);
    }
  }
}

template <int R, int T>
void trits_tile(const Trits& m, const TritInputs& x, int32_t token, int32_t row, int32_t row1, const Output* out) {
  VF y[R][T];
  fill(y, setf(0));
  for (int32_t g = 0; g < m.groups; ++g)
    for (int32_t p = 0; p < m.planes; ++p) add_trits<R, T>(m, x, m.plane(row, g, p), row, g, y);
  for (int i = 0; i < R * T; ++i)
    emit(out, token + i % T, row + i / T * L, row1, mulf(setf(x.scale[i % T]), y[i / T][i % T]));
}

inline void trits_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                       const Output* out) {
  const Trits m = trits_of(w);
  TritInputs inputs;
  const auto fits = [&](int n) {
    return n * round_up(m.cols + kTritColumns, 64) <= kMostShorts && n * m.groups <= kTritGroups;
  };
  const auto some = [&]<int T>(int32_t token) {
    constexpr int R = T == 1 ? kTritVectors : 1;
    inputs.take(m, x, token, T);
    int32_t r = row0;
    for (; r < row1 && r % (R * L); r += L) trits_tile<1, T>(m, inputs, token, r, row1, out);
    for (; r < row1; r += R * L) trits_tile<R, T>(m, inputs, token, r, row1, out);
  };
  in_blocks<kTritTokens>(token0, token1, fits, some, [&](int32_t token) {
    for (int32_t r = row0; r < row1; ++r) emit_one(out, token, r, trits_dot(w, r, x->f + token * x->ldf));
  });
}

}  // namespace
}  // namespace intaglio
