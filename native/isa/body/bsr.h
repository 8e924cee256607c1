// Products with kept blocks of rows. Lanes are columns of a block. Codes are multiplied as integers with inputs of 16 bits; a
// block's sum then becomes floats, which its scale multiplies, and its zero point takes so much of the sum of the inputs
// there, made once for all rows. What is unpacked serves the tokens of a call that fit in registers. A row is summed in two
// chains, of even and of odd blocks, or each block would wait for the one before it.
#pragma once
#include "shorts.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr uint32_t kBsrBatch = 16;  // blocks whose scales are made float at a time
static_assert(kFloatTokens <= 8);

// Blocks of float16: weights of columns x.. times T tokens.
template <int T>
struct BsrSums {
  VF of[2][T];

  BsrSums() {
    for (VF& v : of[0]) v = setf(0);
    for (VF& v : of[1]) v = setf(0);
  }
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

// Tokens in blocks of T, what is left of them in smaller ones.
template <int Group, int T>
void plain_bsr_row(const Bsr& m, const Activations* x, int32_t token, int32_t token1, int32_t row, const Output* out) {
  for (; token + T <= token1; token += T) {
    BsrSums<T> sums;
    add_plain_blocks<Group>(m, kept_blocks(kBsr16, m, row), x->f + token * x->ldf, x->ldf, sums);
    for (int t = 0; t < T; ++t) emit_one(out, token + t, row, sum(addf(sums.of[0][t], sums.of[1][t])));
  }
  if constexpr (T > 1) plain_bsr_row<Group, T / 2>(m, x, token, token1, row, out);
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

// Tokens as integers, and their sums over every block of columns.
struct BsrInputs {
  ShortTokens<kFloatTokens> tokens;
  alignas(64) float sum[kMostShorts / 16][8];  // as far apart as a block of 16 inputs

  template <int Group>
  void take(const Activations* x, int32_t token, int n, int32_t cols) {
    tokens.take(x, token, n, cols, round_up(cols, 64));
    for (int t = 0; t < n; ++t)
      for (int64_t b = 0; b * Group < cols; ++b) sum[b][t] = float(total_of(tokens.q + t * tokens.stride + b * Group, Group));
  }
};

// Of a row and T tokens, in two chains.
template <int T>
struct CodedSums {
  F8 of[2][T];
  float taken[2][T] = {};

  CodedSums() {
    for (F8& v : of[0]) v = setf8(0);
    for (F8& v : of[1]) v = setf8(0);
  }
  INTAGLIO_INLINE void add(int chain, S16 codes, F8 scale, const int16_t* q, int64_t stride) {
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t)
      of[chain][t] = fma8(to_float8(dots(codes, load32(q + t * stride))), scale, of[chain][t]);
  }
  INTAGLIO_INLINE void take(int chain, float zero, const float* sum) {
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) taken[chain][t] = __builtin_fmaf(zero, sum[t], taken[chain][t]);
  }
  INTAGLIO_INLINE float all(int t) const { return sum8(addf8(of[0][t], of[1][t])) + (taken[0][t] + taken[1][t]); }
};

// Blocks j and, if there are both, j + 1, which are numbers i and i + 1 of the batch.
template <int Group, bool Both, int T>
INTAGLIO_INLINE void add_pair_of_blocks(const Bsr& m, const BsrScales& batch, uint32_t j, uint32_t i, const BsrInputs& x,
                                        CodedSums<T>& sums) {
  const uint8_t* codes = m.codes + int64_t(j / 2) * Group;
  const uint32_t even = m.index[j], odd = m.index[j + Both];
  const int64_t stride = x.tokens.stride;
  if (T == 1 && i % (128 / Group) == 0) prefetch_far(codes + kAhead);  // a line holds so many blocks
  INTAGLIO_UNROLL
  for (int v = 0; v < Group; v += 16) {
    const S16 pair = load_bytes16(codes + v);
    sums.add(0, low_codes(pair), setf8(batch.scale[i]), x.tokens.q + int64_t(even) * Group + v, stride);
    if (Both) sums.add(1, high_codes(pair), setf8(batch.scale[i + 1]), x.tokens.q + int64_t(odd) * Group + v, stride);
  }
  sums.take(0, batch.taken[i], x.sum[even]);
  if (Both) sums.take(1, batch.taken[i + 1], x.sum[odd]);
}

// Whole batches without a loop: counting and addressing would take as long as the products.
template <int Group, int T>
INTAGLIO_INLINE void add_coded_blocks(const Bsr& m, KeptBlocks kept, const BsrInputs& x, CodedSums<T>& sums) {
  BsrScales batch;
  const auto load = [&](uint32_t j) __attribute__((always_inline)) {
    if (T == 1) {  // too short, each of them, for the processor to see where they lead
      prefetch_far(m.scale + j + kAhead / 8), prefetch_far(m.index + j + kAhead / 8);
      prefetch_far(m.zero + j + kAhead / 8);
    }
    batch.load(m, j);
    asm volatile("" : "+m"(batch));  // or GCC keeps it in registers, and shuffles each number out of them
  };
  uint32_t j = kept.begin;
  for (; j + kBsrBatch <= kept.end; j += kBsrBatch) {
    load(j);
    INTAGLIO_UNROLL
    for (uint32_t i = 0; i < kBsrBatch; i += 2) add_pair_of_blocks<Group, true>(m, batch, j + i, i, x, sums);
  }
  if (j == kept.end) return;
  load(j);
  uint32_t i = 0;
  for (; j + i + 2 <= kept.end; i += 2) add_pair_of_blocks<Group, true>(m, batch, j + i, i, x, sums);
  if (j + i < kept.end) add_pair_of_blocks<Group, false>(m, batch, j + i, i, x, sums);
}

template <int Group>
void coded_bsr_rows(const Matrix* w, const Bsr& m, const Activations* x, int32_t token0, int32_t token1, int32_t row0,
                    int32_t row1, const Output* out) {
  BsrInputs inputs;
  const auto fits = [&](int n) { return n * round_up(w->cols, 64) <= kMostShorts; };
  const auto some = [&]<int T>(int32_t token) {
    inputs.take<Group>(x, token, T, w->cols);
    for (int32_t r = row0; r < row1; ++r) {
      CodedSums<T> sums;
      add_coded_blocks<Group>(m, kept_blocks(kBsr4, m, r), inputs, sums);
      for (int t = 0; t < T; ++t) emit_one(out, token + t, r, inputs.tokens.scale[t] * sums.all(t));
    }
  };
  in_blocks<kFloatTokens>(token0, token1, fits, some, [&](int32_t token) {
    for (int32_t r = row0; r < row1; ++r) emit_one(out, token, r, bsr_dot(w, r, x->f + token * x->ldf));
  });
}

template <int Group>
void bsr_rows_of(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                 const Output* out) {
  const Bsr m = bsr_of(w);
  if (w->kind == kBsr4) return coded_bsr_rows<Group>(w, m, x, token0, token1, row0, row1, out);
  for (int32_t r = row0; r < row1; ++r) plain_bsr_row<Group, kFloatTokens>(m, x, token0, token1, r, out);
}

inline void bsr_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                     const Output* out) {
  if (w->group == 16) bsr_rows_of<16>(w, x, token0, token1, row0, row1, out);
  else if (w->group == 32) bsr_rows_of<32>(w, x, token0, token1, row0, row1, out);
  else bsr_rows_of<64>(w, x, token0, token1, row0, row1, out);
}

}  // namespace
}  // namespace intaglio
