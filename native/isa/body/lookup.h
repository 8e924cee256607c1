// Products with lookup tables. Lanes are columns: a shift and a pick from the row's table, which stays in registers, give L
// weights, and each token's inputs multiply them. Tokens outside, so that the inputs of a few stay in the first cache while
// the rows stream by. A sum is kept in two chains, of even and of odd fields, however many rows and tokens go together, so
// that a token's result does not depend on them.
#pragma once
#include "vectors.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int kLookupRows = L >= 16 ? 4 : 2;  // of one token

template <int R, int T>
struct LookupSums {
  VF of[R][T][2];
};

// Fields J.. of a vector of words of R rows; x: T tokens' columns of field 0, ldx apart. `used`: fields that have columns.
template <int Bits, int R, int T, int J = 0>
INTAGLIO_INLINE void lookup_fields(const Entries<1 << Bits> (&table)[R], const VI (&words)[R], const float* x, int64_t ldx, int used,
                                   LookupSums<R, T>& sums) {
  if constexpr (J < 32 / Bits) {
    if (J == used) return;
    VF w[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) w[r] = pick(table[r], shr<J * Bits>(words[r]));
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const VF v = loadf(x + t * ldx + J * kWords);
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) sums.of[r][t][J % 2] = fma(w[r], v, sums.of[r][t][J % 2]);
    }
    lookup_fields<Bits, R, T, J + 1>(table, words, x, ldx, used, sums);
  }
}

template <int Bits, int R, int T>
INTAGLIO_INLINE void lookup_block(const Entries<1 << Bits> (&table)[R], const uint32_t* const (&codes)[R], const float* x, int64_t ldx,
                                  int used, LookupSums<R, T>& sums) {
  INTAGLIO_UNROLL
  for (int v = 0; v < kWords; v += L) {
    VI words[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      words[r] = loadi(codes[r] + v);
      if (T == 1 && v == 0) prefetch_far(reinterpret_cast<const uint8_t*>(codes[r]) + kAhead);
    }
    lookup_fields<Bits, R, T>(table, words, x + v, ldx, used, sums);
  }
}

// R rows from `row` on times T tokens from `token` on. Inputs are zero from the last column to the next multiple of kWords.
template <int Bits, int R, int T>
void lookup_tile(const Matrix* w, const Lookup& m, const Activations* x, int32_t token, int32_t row, const Output* out) {
  constexpr int kFields = 32 / Bits, kColumns = kFields * kWords;
  Entries<1 << Bits> table[R];
  const uint32_t* codes[R];
  LookupSums<R, T> sums;
  for (int r = 0; r < R; ++r) {
    table[r] = load_entries<1 << Bits>(lookup_table(m, row + r));
    codes[r] = lookup_codes(m, row + r);
    for (int t = 0; t < T; ++t) sums.of[r][t][0] = sums.of[r][t][1] = setf(0);
  }
  const float* at = x->f + token * x->ldf;
  int32_t k = 0;
  for (; k + kColumns <= w->cols; k += kColumns, at += kColumns) {
    lookup_block<Bits, R, T>(table, codes, at, x->ldf, kFields, sums);
    for (int r = 0; r < R; ++r) codes[r] += kWords;
  }
  if (k < w->cols) lookup_block<Bits, R, T>(table, codes, at, x->ldf, int(div_up(w->cols - k, kWords)), sums);
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) emit_one(out, token + t, row + r, sum(addf(sums.of[r][t][0], sums.of[r][t][1])));
}

template <int Bits>
void lookup_tokens(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                   const Output* out) {
  const Lookup m = lookup_of(w);
  int32_t t = token0;
  for (; t + 4 <= token1; t += 4)
    for (int32_t r = row0; r < row1; ++r) lookup_tile<Bits, 1, 4>(w, m, x, t, r, out);
  for (; t < token1; ++t) {
    int32_t r = row0;
    for (; r + kLookupRows <= row1; r += kLookupRows) lookup_tile<Bits, kLookupRows, 1>(w, m, x, t, r, out);
    for (; r < row1; ++r) lookup_tile<Bits, 1, 1>(w, m, x, t, r, out);
  }
}

inline void lookup_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                        const Output* out) {
  switch (w->group) {
    case 2: return lookup_tokens<2>(w, x, token0, token1, row0, row1, out);
    case 3: return lookup_tokens<3>(w, x, token0, token1, row0, row1, out);
    default: return lookup_tokens<4>(w, x, token0, token1, row0, row1, out);
  }
}

}  // namespace
}  // namespace intaglio
