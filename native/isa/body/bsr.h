// Products with kept blocks of rows. Lanes are columns of a block. Codes, less their zero point, are multiplied as integers
// with inputs of 16 bits; a block's sum then becomes floats, which its scale multiplies. Blocks are taken in pairs, whose
// codes share bytes: those of odd blocks are left where they are, 16 times as large, until a row's sums come together.
// The empty block that follows an odd number of them has zeros for everything and adds none. What is unpacked serves the
// tokens of a call that fit in registers.
#pragma once
#include "shorts.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int kBsrBatch = 16;  // blocks whose scales are made float at a time
alignas(64) constexpr int16_t kTimesCode[] = {1, 1, 16, 16, 1, 1, 16, 16, 1, 1, 16, 16, 1, 1, 16, 16,
                                              1, 1, 16, 16, 1, 1, 16, 16, 1, 1, 16, 16, 1, 1, 16, 16};
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

// What multiplies the blocks of a batch, and what each code is less, of odd blocks 16 times as large.
struct BsrBatch {
  alignas(64) float scale[kBsrBatch];
  alignas(64) int32_t zero[kBsrBatch];  // in either half

  void load(const Bsr& m, int64_t j) {
    INTAGLIO_UNROLL
    for (int i = 0; i < kBsrBatch; i += L) {
      storef(scale + i, load_half(m.scale + j + i));
      storei(zero + i, mul16(twice16(load_u8(m.zero + j + i)), loadi(kTimesCode)));
    }
  }
};

// Of a row and T tokens.
template <int T>
struct CodedSums {
  PairF of[T];

  CodedSums() {
    constexpr float none[2] = {0, 0};
    for (PairF& v : of) v = set_two(none);
  }
  INTAGLIO_INLINE void add(Pair16 codes, PairF scale, const int16_t* even, const int16_t* odd, int64_t stride) {
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) of[t] = fma_pair(dots_of(codes, even + t * stride, odd + t * stride), scale, of[t]);
  }
};

// Blocks i and i + 1 of a batch, which begins at `index` and `codes`.
template <int Group, int T>
INTAGLIO_INLINE void add_pair_of_blocks(const BsrBatch& batch, const uint16_t* index, const uint8_t* codes, int i,
                                        const ShortTokens<kFloatTokens>& x, CodedSums<T>& sums) {
  const int16_t *even = x.q + int64_t(index[i]) * Group, *odd = x.q + int64_t(index[i + 1]) * Group;
  codes += i / 2 * Group;
  if (T == 1 && i % (128 / Group) == 0) prefetch_far(codes + kAhead);  // a line holds so many blocks
  const PairF scale = set_two(batch.scale + i);
  INTAGLIO_UNROLL
  for (int v = 0; v < Group; v += 16)
    sums.add(less_two(load_pair(codes + v), batch.zero + i), scale, even + v, odd + v, x.stride);
}

// Whole batches without a loop: counting and addressing would take as long as the products.
template <int Group, int T>
INTAGLIO_INLINE void add_coded_blocks(const Bsr& m, KeptBlocks kept, const ShortTokens<kFloatTokens>& x, CodedSums<T>& sums) {
  BsrBatch batch;
  const auto load = [&](int64_t j) __attribute__((always_inline)) {
    if (T == 1) {  // too short, each of them, for the processor to see where they lead
      prefetch_far(m.scale + j + kAhead / 8), prefetch_far(m.index + j + kAhead / 8);
      prefetch_far(m.zero + j + kAhead / 8);
    }
    batch.load(m, j);
    asm volatile("" : "+m"(batch));  // or GCC keeps it in registers, and shuffles each number out of them
  };
  const uint16_t* index = m.index + kept.begin;
  const uint8_t* codes = m.codes + int64_t(kept.begin) / 2 * Group;
  int64_t j = kept.begin;
  for (; j + kBsrBatch <= kept.end; j += kBsrBatch, index += kBsrBatch, codes += kBsrBatch / 2 * Group) {
    load(j);
    INTAGLIO_UNROLL
    for (int i = 0; i < kBsrBatch; i += 2) add_pair_of_blocks<Group>(batch, index, codes, i, x, sums);
  }
  if (j >= kept.end) return;
  load(j);
  for (int i = 0; j + i < kept.end; i += 2) add_pair_of_blocks<Group>(batch, index, codes, i, x, sums);
}

template <int Group>
void coded_bsr_rows(const Matrix* w, const Bsr& m, const Activations* x, int32_t token0, int32_t token1, int32_t row0,
                    int32_t row1, const Output* out) {
  ShortTokens<kFloatTokens> tokens;
  const auto fits = [&](int n) { return n * round_up(w->cols, 64) <= kMostShorts; };
  const auto some = [&]<int T>(int32_t token) {
    tokens.take(x, token, T, w->cols, round_up(w->cols, 64));
    for (int32_t r = row0; r < row1; ++r) {
      CodedSums<T> sums;
      add_coded_blocks<Group>(m, kept_blocks(kBsr4, m, r), tokens, sums);
      for (int t = 0; t < T; ++t) emit_one(out, token + t, r, tokens.scale[t] * sum_pair(sums.of[t]));
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
