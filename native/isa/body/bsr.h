// Products with kept blocks of rows. Lanes are columns of a block: its codes times its scale, less what its zero point takes,
// are made once for the tokens of a call that fit in registers; each then costs a multiply-add. (The other way, zero times
// the sum of a token's block, would save nothing, but has those sums to make and to find.) A row is summed in two chains, of
// even and of odd blocks, or each block would wait for the one before it.
#pragma once
#include "vectors.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr uint32_t kBsrBatch = 16;  // blocks whose scales are made float at a time

template <int T>
struct BsrSums {
  VF of[2][T];

  BsrSums() {
    for (VF& v : of[0]) v = setf(0);
    for (VF& v : of[1]) v = setf(0);
  }
  // Weights of columns x.. times T tokens.
  INTAGLIO_INLINE void add(int chain, VF weights, const float* x, int64_t ldf) {
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) of[chain][t] = fma(weights, loadf(x + t * ldf), of[chain][t]);
  }
};

template <int Group, int T>
INTAGLIO_INLINE void add_plain_blocks(const Bsr& m, KeptBlocks kept, const float* x, int64_t ldf, BsrSums<T>& sums) {
  for (uint32_t j = kept.begin; j < kept.end; ++j) {
    const float* at = x + int64_t(m.index[j]) * Group;
    INTAGLIO_UNROLL
    for (int v = 0; v < Group; v += L) sums.add((j - kept.begin) % 2, load_half(m.value + int64_t(j) * Group + v), at + v, ldf);
  }
}

// The scales of a batch of blocks, and what their zero points take.
struct BsrScales {
  alignas(64) float scale[kBsrBatch], taken[kBsrBatch];

  void load(const Bsr& m, uint32_t j) {
    INTAGLIO_UNROLL
    for (uint32_t i = 0; i < kBsrBatch; i += L) {
      const VF s = load_half(m.scale + j + i);
      storef(scale + i, s), storef(taken + i, fnma(s, to_float(load_u8(m.zero + j + i)), setf(0)));
    }
  }
};

// Blocks j and, if there are both, j + 1, which are numbers i and i + 1 of the batch.
template <int Group, bool Both, int T>
INTAGLIO_INLINE void add_pair_of_blocks(const Bsr& m, const BsrScales& batch, uint32_t j, uint32_t i, const float* x, int64_t ldf,
                                        BsrSums<T>& sums) {
  const uint8_t* codes = m.codes + int64_t(j / 2) * Group;
  const float *even = x + int64_t(m.index[j]) * Group, *odd = x + int64_t(m.index[j + Both]) * Group;
  if (T == 1) prefetch_far(codes + kAhead);
  INTAGLIO_UNROLL
  for (int v = 0; v < Group; v += L) {
    const VI pair = load_u8(codes + v);
    sums.add(0, fma(to_float(andi(pair, seti(15))), setf(batch.scale[i]), setf(batch.taken[i])), even + v, ldf);
    if (Both) sums.add(1, fma(to_float(shr<4>(pair)), setf(batch.scale[i + 1]), setf(batch.taken[i + 1])), odd + v, ldf);
  }
}

template <int Group, int T>
INTAGLIO_INLINE void add_coded_blocks(const Bsr& m, KeptBlocks kept, const float* x, int64_t ldf, BsrSums<T>& sums) {
  BsrScales batch;
  for (uint32_t j = kept.begin; j < kept.end;) {
    batch.load(m, j);
    asm volatile("" : "+m"(batch));  // or GCC keeps it in registers, and shuffles each number out of them
    uint32_t i = 0;
    for (const uint32_t n = kept.end - j < kBsrBatch ? kept.end - j : kBsrBatch; i + 2 <= n; i += 2)
      add_pair_of_blocks<Group, true>(m, batch, j + i, i, x, ldf, sums);
    j += i;
    if (j + 1 != kept.end) continue;
    add_pair_of_blocks<Group, false>(m, batch, j, i, x, ldf, sums);
    return;
  }
}

// Tokens in blocks of T, what is left of them in smaller ones.
template <int Kind, int Group, int T>
inline void bsr_row_of(const Bsr& m, const Activations* x, int32_t token, int32_t token1, int32_t row, const Output* out) {
  for (; token + T <= token1; token += T) {
    BsrSums<T> sums;
    const float* at = x->f + token * x->ldf;
    if constexpr (Kind == kBsr16) add_plain_blocks<Group>(m, kept_blocks(Kind, m, row), at, x->ldf, sums);
    else add_coded_blocks<Group>(m, kept_blocks(Kind, m, row), at, x->ldf, sums);
    for (int t = 0; t < T; ++t) emit_one(out, token + t, row, sum(addf(sums.of[0][t], sums.of[1][t])));
  }
  if constexpr (T > 1) bsr_row_of<Kind, Group, T / 2>(m, x, token, token1, row, out);
}

template <int Kind, int Group>
void bsr_rows_of(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                 const Output* out) {
  const Bsr m = bsr_of(w);
  for (int32_t r = row0; r < row1; ++r) bsr_row_of<Kind, Group, kFloatTokens>(m, x, token0, token1, r, out);
}

inline void bsr_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                     const Output* out) {
  const auto of = [&]<int Group>() {
    if (w->kind == kBsr4) bsr_rows_of<kBsr4, Group>(w, x, token0, token1, row0, row1, out);
    else bsr_rows_of<kBsr16, Group>(w, x, token0, token1, row0, row1, out);
  };
  if (w->group == 16) of.template operator()<16>();
  else if (w->group == 32) of.template operator()<32>();
  else of.template operator()<64>();
}

}  // namespace
}  // namespace intaglio
