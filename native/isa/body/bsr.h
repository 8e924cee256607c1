// Products with kept blocks of rows. Lanes are columns of a block: its codes are read, less its zero point, and times its
// scale, once for the tokens of a call that fit in registers; each then costs a multiply-add. (The other way, zero times
// the sum of a token's block, would save that subtraction, but has those sums to make and to find.)
#pragma once
#include "vectors.h"
#include "../structures.h"

namespace intaglio {
namespace {

// Weights [v, v + L) of kept block j.
template <int kind>
INTAGLIO_INLINE VF bsr_lanes(const Bsr& m, int64_t j, int32_t v) {
  const int64_t at = j * m.group + v;
  if constexpr (kind == kBsr16) return load_half(m.value + at);
  else return mulf(to_float(subi(load_u4(m.codes + at / 2), seti(m.zero[j]))), setf(m.scale[j]));
}

template <int kind, int T>
INTAGLIO_INLINE void bsr_block(const Bsr& m, int64_t j, const float* x, int64_t ldf, VF* sums) {
  const float* at = x + int64_t(m.index[j]) * m.group;
  for (int32_t v = 0; v < m.group; v += L) {
    const VF lanes = bsr_lanes<kind>(m, j, v);
    for (int t = 0; t < T; ++t) sums[t] = fma(lanes, loadf(at + t * ldf + v), sums[t]);
  }
}

// Two chains of sums where there are few tokens, or each block would wait for the one before it.
template <int kind, int T>
INTAGLIO_INLINE void bsr_tokens(const Bsr& m, int32_t row, const float* x, int64_t ldf, VF* sums) {
  VF others[T];
  for (int t = 0; t < T; ++t) sums[t] = others[t] = setf(0);
  uint32_t j = m.offset[row];
  const uint32_t end = m.offset[row + 1];
  for (; T <= 2 && j + 2 <= end; j += 2) {
    bsr_block<kind, T>(m, j, x, ldf, sums);
    bsr_block<kind, T>(m, j + 1, x, ldf, others);
  }
  for (; j < end; ++j) bsr_block<kind, T>(m, j, x, ldf, sums);
  for (int t = 0; t < T; ++t) sums[t] = addf(sums[t], others[t]);
}

// Tokens in blocks of T, what is left of them in smaller ones.
template <int kind, int T>
inline void bsr_row_of(const Bsr& m, const Activations* x, int32_t token, int32_t token1, int32_t row, const Output* out) {
  for (; token + T <= token1; token += T) {
    VF sums[T];
    bsr_tokens<kind, T>(m, row, x->f + token * x->ldf, x->ldf, sums);
    for (int t = 0; t < T; ++t) emit_one(out, token + t, row, sum(sums[t]));
  }
  if constexpr (T > 1) bsr_row_of<kind, T / 2>(m, x, token, token1, row, out);
}

inline void bsr_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                     const Output* out) {
  const Bsr m = bsr_of(w);
  for (int32_t r = row0; r < row1; ++r)
    if (w->kind == kBsr4) bsr_row_of<kBsr4, kFloatTokens>(m, x, token0, token1, r, out);
    else bsr_row_of<kBsr16, kFloatTokens>(m, x, token0, token1, r, out);
}

}  // namespace
}  // namespace intaglio
