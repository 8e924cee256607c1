// Products with lookup tables. Lanes are columns. Entries are made integers of 16 bits, which are picked by codes and multiply
// the inputs, made integers too. A sum of four products a lane becomes floats, in two chains, of even and of odd ones. Tokens
// outside, so that the inputs of a few stay in the first cache while the rows stream by.
#pragma once
#ifdef INTAGLIO_WORD_TABLES
#include "word_tables.h"
#else
#include "byte_tables.h"
#endif
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int kLookupTokens = 8;      // of one row
constexpr int32_t kTopEntry = 16383;  // times kTopShort, four times, is below 2^31

struct Entries {
  Table16 of;  // repeated to 16 entries: what lies above a code's own bits then does no harm
  float scale;
};

template <int Bits>
INTAGLIO_INLINE Entries entries(const uint16_t* half) {
  const F8 first = Bits == 2 ? twice4(load_half8(half)) : load_half8(half), second = Bits == 4 ? load_half8(half + 8) : first;
  const Shortening by(largest_of(first, second), kTopEntry);
  const F8 inverse = setf8(by.inverse);
  return {as_table(mulf8(first, inverse), mulf8(second, inverse)), by.scale};
}

// Strips S.. of a block; x: T tokens' columns of strip 0, ldx apart. `used`: strips there are.
template <int Bits, int T, bool Halved = false, int S = 0>
INTAGLIO_INLINE void lookup_block(const Entries& table, const uint8_t* block, const int16_t* x, int64_t ldx, int used,
                                  StripSums (&sums)[T][2]) {
  if constexpr (Halved ? is_halved(S + kTogether, Bits) : S < strips_of_block(Bits)) {
    if (S == used) return;
    const Strips<Bits, S, Halved> w(table.of, block);
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) sums[t][S / kTogether % 2].add(w, x + t * ldx + S * kStrip);
    lookup_block<Bits, T, Halved, S + kTogether>(table, block, x, ldx, used, sums);
  }
}

// A row times T tokens.
template <int Bits, int T>
void lookup_tile(const Lookup& m, const ShortTokens<kLookupTokens>& x, int32_t token, int32_t row, const Output* out) {
  constexpr int kStrips = strips_of_block(Bits), kBytes = bytes_of_block(Bits);
  const Entries table = entries<Bits>(lookup_table(m, row));
  StripSums sums[T][2];
  const uint8_t* codes = m.codes + row * m.stride;
  const int16_t* at = x.q;
  int32_t s = 0;
  for (; s + kStrips <= m.strips; s += kStrips, codes += kBytes, at += kStrips * kStrip) {
    if (T == 1) ask_for(codes + 4 * kAhead, 0, kBytes);
    lookup_block<Bits, T>(table, codes, at, x.stride, kStrips, sums);
  }
  const int left = m.strips - s;
  if (left && is_halved(left, Bits)) lookup_block<Bits, T, true>(table, codes, at, x.stride, left, sums);
  else if (left) lookup_block<Bits, T>(table, codes, at, x.stride, left, sums);
  for (int t = 0; t < T; ++t) emit_one(out, token + t, row, table.scale * x.scale[t] * sums[t][0].with(sums[t][1]));
}

template <int Bits>
void lookup_rows_of(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                    const Output* out) {
  const Lookup m = lookup_of(w);
  const int64_t columns = round_up(w->cols, 64);
  ShortTokens<kLookupTokens> tokens;
  const auto fits = [&](int n) { return n * columns <= kMostShorts; };
  const auto some = [&]<int T>(int32_t token) {
    tokens.take(x, token, T, w->cols, columns);
    for (int32_t r = row0; r < row1; ++r) lookup_tile<Bits, T>(m, tokens, token, r, out);
  };
  in_blocks<kLookupTokens>(token0, token1, fits, some, [&](int32_t token) {
    for (int32_t r = row0; r < row1; ++r) emit_one(out, token, r, lookup_dot(w, r, x->f + token * x->ldf));
  });
}

inline void lookup_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                        const Output* out) {
  if (w->group == 2) lookup_rows_of<2>(w, x, token0, token1, row0, row1, out);
  else if (w->group == 3) lookup_rows_of<3>(w, x, token0, token1, row0, row1, out);
  else lookup_rows_of<4>(w, x, token0, token1, row0, row1, out);
}

}  // namespace
}  // namespace intaglio
