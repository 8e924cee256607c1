// Products with N:M matrices. R tiles of L rows times T tokens, a chain of multiply-adds for each pair: one token takes
// many tiles, since their chains hide each other's latency; of many tokens each index and value is made once for T.
// A pair's chain is the same in both, so that a token's result does not depend on how many share the call.
#pragma once
#include "output.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int kNmTokens = 4;

template <bool Bytes>
INTAGLIO_INLINE VF nm_values(const uint8_t* p) {
  if constexpr (Bytes) return to_float(load_i8(reinterpret_cast<const int8_t*>(p)));
  else return load_half(reinterpret_cast<const uint16_t*>(p));
}

// Window W columns wide, of which 16 / W make up one of the layout; a nibble's low bits are the place within.
template <int W, bool Bytes, int R, int T>
void nm_block(const Nm& l, const NmTile (&tile)[R], const float* const (&x)[T], VF (&sum)[R][T]) {
  const int64_t each = l.slots / l.windows / (kNmWindow / W);
  constexpr int64_t stride = kNmRows * (Bytes ? 1 : 2);
  VI word[R];
  for (int64_t column = 0, j = 0; j < l.slots; column += W) {
    Picked<W> window[T];
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) window[t].load(x[t] + column);
    for (const int64_t end = j + each; j < end; ++j) {
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) {
        word[r] = j % kNmWord == 0 ? loadi(tile[r].index + j / kNmWord * kNmRows) : shr<4>(word[r]);
        const VF v = nm_values<Bytes>(tile[r].value + j * stride);
        INTAGLIO_UNROLL
        for (int t = 0; t < T; ++t) sum[r][t] = fma(v, window[t].pick(word[r]), sum[r][t]);
      }
    }
  }
}

template <int R, int T>
void nm_tiles(const Matrix* w, const Activations* x, int32_t token, int32_t row, int32_t row1, const Output* out) {
  const Nm l(w);
  NmTile tile[R];
  const float* from[T];
  VF sum[R][T];
  for (int r = 0; r < R; ++r) tile[r] = nm_tile(w, l, row + r * L);
  for (int t = 0; t < T; ++t) from[t] = x->f + (token + t) * x->ldf;
  for (int i = 0; i < R * T; ++i) sum[i / T][i % T] = setf(0);
  const bool narrow = (w->group & 255) <= kNarrow, bytes = w->kind == kNm8;
  if (narrow && bytes) nm_block<kNarrow, true>(l, tile, from, sum);
  else if (narrow) nm_block<kNarrow, false>(l, tile, from, sum);
  else if (bytes) nm_block<kNmWindow, true>(l, tile, from, sum);
  else nm_block<kNmWindow, false>(l, tile, from, sum);
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) emit(out, token + t, row + r * L, row1, mulf(sum[r][t], loadf(tile[r].scale)));
}

// The rows of tokens [token, token + T), R tiles at a time and the rest one by one.
template <int R, int T>
void nm_tokens(const Matrix* w, const Activations* x, int32_t token, int32_t row0, int32_t row1, const Output* out) {
  int32_t row = row0;
  for (; row + (R - 1) * L < row1; row += R * L) nm_tiles<R, T>(w, x, token, row, row1, out);
  for (; row < row1; row += L) nm_tiles<1, T>(w, x, token, row, row1, out);
}

inline void nm_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                    const Output* out) {
  int32_t t = token0;
  for (; t + kNmTokens <= token1; t += kNmTokens) nm_tokens<1, kNmTokens>(w, x, t, row0, row1, out);
  for (; t < token1; ++t) nm_tokens<4, 1>(w, x, t, row0, row1, out);
}

}  // namespace
}  // namespace intaglio
