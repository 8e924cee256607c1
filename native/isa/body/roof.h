// What no kernel of this set can pass: its 8-bit dots on operands in the first cache, and reading memory in order.
#pragma once
#include "dots.h"
#ifdef INTAGLIO_SQUARES
#include "../squares.h"
#endif

namespace intaglio {
namespace {

#ifdef INTAGLIO_SQUARES

// Both operands of each product are loaded anew, as a kernel must that keeps its sums.
inline int64_t peak(const uint8_t* codes, const int8_t* q, int64_t rounds, int32_t* out) {
  alignas(64) int32_t sums[kSide * L];
  open_squares(kSide);
  clear_square<0>(), clear_square<1>(), clear_square<2>(), clear_square<3>();
  for (int64_t round = 0; round < rounds; ++round) {
    load_square<4>(q, kSquareRow), load_square<5>(q, kSquareRow);
    load_square<6>(codes, kSquareRow), load_square<7>(codes, kSquareRow);
    multiply_squares<0, 4, 6>(), multiply_squares<1, 4, 7>(), multiply_squares<2, 5, 6>(), multiply_squares<3, 5, 7>();
  }
  VI all = seti(0);
  const auto add = [&] {
    for (int i = 0; i < kSide; ++i) all = addi(all, loadi(sums + i * L));
  };
  store_square<0>(sums), add(), store_square<1>(sums), add(), store_square<2>(sums), add(), store_square<3>(sums), add();
  close_squares();
  storei(out, all);
  return rounds * 4 * kSide * kSide * kSquareRow;
}

#else

constexpr int kPeakCodes = kDotsPerFlush <= 16 ? 2 : 4, kPeakTokens = 4;  // sums kept: enough to hide a dot's latency
constexpr int kPeakTurns = 4;

inline int64_t peak(const uint8_t* codes, const int8_t* q, int64_t rounds, int32_t* out) {
  Dots sums[kPeakCodes][kPeakTokens];
  fill(sums, no_dots());
  for (int64_t round = 0; round < rounds; ++round) {
    INTAGLIO_UNROLL
    for (int turn = 0; turn < kPeakTurns; ++turn) {
      VI a[kPeakTokens];
      INTAGLIO_UNROLL
      for (int t = 0; t < kPeakTokens; ++t) a[t] = loadi(q + (turn * kPeakTokens + t) % 16 * kVector);
      INTAGLIO_UNROLL
      for (int r = 0; r < kPeakCodes; ++r) {
        const VI w = loadi(codes + (turn * kPeakCodes + r) % 16 * kVector);
        INTAGLIO_UNROLL
        for (int t = 0; t < kPeakTokens; ++t) sums[r][t] = dot(sums[r][t], w, a[t]);
      }
    }
    asm volatile("" ::: "memory");  // the operands might have changed: they are read again
  }
  VI all = seti(0);
  INTAGLIO_UNROLL
  for (int i = 0; i < kPeakCodes * kPeakTokens; ++i) all = flush(all, sums[i / kPeakTokens][i % kPeakTokens]);
  storei(out, all);
  return rounds * kPeakTurns * kPeakCodes * kPeakTokens * kVector;
}

#endif

inline void read(const void* from, int64_t bytes, int32_t* out) {
  const auto* p = static_cast<const uint8_t*>(from);
  VI sums[4];
  INTAGLIO_UNROLL
  for (int i = 0; i < 4; ++i) sums[i] = seti(0);
  for (int64_t at = 0; at + 4 * kVector <= bytes; at += 4 * kVector) {
    for (int i = 0; i < 4 * kVector; i += 64) prefetch_far(p + at + i + 4 * kAhead);
    INTAGLIO_UNROLL
    for (int i = 0; i < 4; ++i) sums[i] = addi(sums[i], loadi(p + at + i * kVector));
  }
  storei(out, addi(addi(sums[0], sums[1]), addi(sums[2], sums[3])));
}

}  // namespace
}  // namespace intaglio
