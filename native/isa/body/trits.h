// Products with trit planes: no multiplication but one a group, by its scale. A lane is a row, as in most kernels here, so
// that nothing is summed across lanes and groups may be of any size. Two inputs can be added and subtracted in nine ways; the
// sums are made once for many rows, and of each row a nibble picks one: a third of the additions, and no masks.
#pragma once
#include "vectors.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int32_t kTritPiece = 64;    // columns whose sums are made together: 2 KB a token
constexpr int32_t kTritsMany = 256;  // rows that use them

// Entry i of a pair's sums: its two low bits say what becomes of x[0], the next of x[1].
struct PairSums {
  alignas(64) float of[kTritPiece / 2][16];

  // Of n columns; zeros up to whole words.
  void make(const float* x, int32_t n) {
    static constexpr uint16_t kPlus[] = {0x2222, 0x00f0}, kMinus[] = {0x4444, 0x0f00};
    for (int32_t k = 0; k < round_up(n, kTritColumns); k += 2) {
      const VF pair[] = {setf(k < n ? x[k] : 0), setf(k + 1 < n ? x[k + 1] : 0)};
      INTAGLIO_UNROLL
      for (int v = 0; v < 16; v += L) {
        VF sum = setf(0);
        INTAGLIO_UNROLL
        for (int i = 0; i < 2; ++i) {
          const auto *plus = reinterpret_cast<const uint8_t*>(kPlus + i), *minus = reinterpret_cast<const uint8_t*>(kMinus + i);
          sum = add_where(sum, where(plus + v / 8, v / L % 2), pair[i]);
          sum = sub_where(sum, where(minus + v / 8, v / L % 2), pair[i]);
        }
        storef(of[k / 2] + v, sum);
      }
    }
  }
};

// Nibbles J.. of two vectors of words pick from the sums of T tokens.
template <int T, int J = 0>
INTAGLIO_INLINE void add_pairs(VI first, VI second, const PairSums* sums, int32_t pair, VF (&sum)[T][2]) {
  if constexpr (J < 8) {
    const VI a = shr<4 * J>(first), b = shr<4 * J>(second);
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      Picked<16> of;
      of.load(sums[t].of[pair + J]);
      sum[t][0] = addf(sum[t][0], of.pick(a)), sum[t][1] = addf(sum[t][1], of.pick(b));
    }
    add_pairs<T, J + 1>(first, second, sums, pair, sum);
  }
}

// Two vectors of rows times a piece of columns of T tokens, onto y. `next`: what is read after it, asked for meanwhile.
template <int T>
INTAGLIO_INLINE void add_piece(const uint8_t* words, int32_t blocks, VF scale, VF other, const PairSums* sums, const uint8_t* next,
                               float* y) {
  VF sum[T][2];
  INTAGLIO_UNROLL
  for (int i = 0; i < 2 * T; ++i) sum[i / 2][i % 2] = setf(0);
  for (int32_t b = 0; b < blocks; ++b, words += kTritBlock, next += kTritBlock) {
    if (T == 1) ask_for(next, 0, 8 * L);
    add_pairs<T>(loadi(words), loadi(words + 4 * L), sums, b * kTritColumns / 2, sum);
  }
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t, y += kTritsMany)
    storef(y, fma(scale, sum[t][0], loadf(y))), storef(y + L, fma(other, sum[t][1], loadf(y + L)));
}

// Rows [row0, row1), at most kTritsMany, times T tokens. Their places in the group that comes next are asked for meanwhile.
template <int T>
void trits_block(const Trits& m, const Activations* x, int32_t token, int32_t row0, int32_t row1, const Output* out) {
  alignas(64) float y[T][kTritsMany] = {};
  PairSums sums[T];
  for (int32_t g = 0; g < m.groups; ++g)
    for (int32_t k = 0; k < m.columns(g); k += kTritPiece) {
      const int32_t left = m.columns(g) - k, n = left < kTritPiece ? left : kTritPiece;
      for (int t = 0; t < T; ++t) sums[t].make(x->f + (token + t) * x->ldf + int64_t(g) * m.group + k, n);
      for (int32_t row = row0; row < row1; row += 2 * L)
        for (int32_t p = 0; p < m.planes; ++p) {
          const uint8_t* at = m.plane(row, g, p) + row % kTritRows * 2;
          const auto* scale = reinterpret_cast<const uint16_t*>(at);
          if (T == 1) prefetch_far(at + m.planes * m.bytes(g));
          const uint8_t* words = at + kTritScales + row % kTritRows * 2 + k / kTritColumns * kTritBlock;
          add_piece<T>(words, int32_t(div_up(n, kTritColumns)), load_half(scale), load_half(scale + L), sums,
                       words + m.planes * m.bytes(g), y[0] + row - row0);
        }
    }
  for (int t = 0; t < T; ++t)
    for (int32_t row = row0; row < row1; row += L) emit(out, token + t, row, row1, loadf(y[t] + row - row0));
}

inline void trits_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                       const Output* out) {
  const Trits m = trits_of(w);
  for (; row0 < row1; row0 += kTritsMany) {
    const int32_t end = row1 - row0 < kTritsMany ? row1 : row0 + kTritsMany;
    int32_t t = token0;
    for (; t + kTokens <= token1; t += kTokens) trits_block<kTokens>(m, x, t, row0, end, out);
    for (; t + 2 <= token1; t += 2) trits_block<2>(m, x, t, row0, end, out);
    if (t < token1) trits_block<1>(m, x, t, row0, end, out);
  }
}

}  // namespace
}  // namespace intaglio
