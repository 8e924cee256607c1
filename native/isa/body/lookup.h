// Products with lookup tables. Lanes are columns. Entries are made integers of 16 bits, whose lower and upper bytes are two
// tables of bytes: two picks give those of 32 columns, which are then put together and multiply the inputs, made integers
// too. A strip's sum becomes floats, eight lanes in two chains, of even and of odd strips. Tokens outside, so that the inputs
// of a few stay in the first cache while the rows stream by.
#pragma once
#include "shorts.h"
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int kLookupTokens = 8;      // of one row
constexpr int32_t kTopEntry = 16383;  // times kTopShort, four times, is below 2^31

struct EntryBytes {
  Bytes16 of;  // repeated to 16 entries: what lies above a code's own bits then does no harm
  float scale;
};

template <int Bits>
INTAGLIO_INLINE EntryBytes entry_bytes(const uint16_t* half) {
  const F8 first = Bits == 2 ? twice4(load_half8(half)) : load_half8(half), second = Bits == 4 ? load_half8(half + 8) : first;
  const Shortening by(largest_of(first, second), kTopEntry);
  const F8 inverse = setf8(by.inverse);
  return {as_bytes(mulf8(first, inverse), mulf8(second, inverse)), by.scale};
}

// The codes of strip S of a block, in the lower bits of their bytes.
template <int Bits, int S>
INTAGLIO_INLINE S16 strip_codes(const uint8_t* block) {
  if constexpr (Bits != 3) return nibbles<S * Bits>(load32(block));
  else if constexpr (S < 6) return nibbles<S % 2 * 3>(load32(block + S / 2 * kStrip));
  else return both_of(bits_of<6>(load32(block + (S - 6) * kStrip), 3), bits_of<S - 2>(load32(block + 2 * kStrip), 4));
}

// Strips S.. of a block; x: T tokens' columns of strip 0, ldx apart. `used`: strips there are.
template <int Bits, int T, int S = 0>
INTAGLIO_INLINE void lookup_block(const EntryBytes& table, const uint8_t* block, const int16_t* x, int64_t ldx, int used,
                                  F8 (&sums)[T][2]) {
  if constexpr (S < (Bits == 3 ? 8 : 8 / Bits)) {
    if (S == used) return;
    const Shorts32 w = pick(table.of, strip_codes<Bits, S>(block));
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const int16_t* at = x + t * ldx + S * kStrip;
      const I8 both = addi8(dots(w.first, load32(at)), dots(w.second, load32(at + kStrip / 2)));
      sums[t][S % 2] = addf8(sums[t][S % 2], to_float8(both));
    }
    lookup_block<Bits, T, S + 1>(table, block, x, ldx, used, sums);
  }
}

// A row times T tokens.
template <int Bits, int T>
void lookup_tile(const Lookup& m, const ShortTokens<kLookupTokens>& x, int32_t token, int32_t row, const Output* out) {
  constexpr int kStrips = Bits == 3 ? 8 : 8 / Bits, kBytes = (Bits == 3 ? 3 : 1) * kStrip;  // of a block
  const EntryBytes table = entry_bytes<Bits>(lookup_table(m, row));
  F8 sums[T][2];
  for (int t = 0; t < T; ++t) sums[t][0] = sums[t][1] = setf8(0);
  const uint8_t* codes = m.codes + row * m.stride;
  const int16_t* at = x.q;
  int32_t s = 0;
  for (; s + kStrips <= m.strips; s += kStrips, codes += kBytes, at += kStrips * kStrip) {
    if (T == 1) ask_for(codes + 4 * kAhead, 0, kBytes);
    lookup_block<Bits, T>(table, codes, at, x.stride, kStrips, sums);
  }
  if (s < m.strips) lookup_block<Bits, T>(table, codes, at, x.stride, m.strips - s, sums);
  for (int t = 0; t < T; ++t)
    emit_one(out, token + t, row, table.scale * x.scale[t] * sum8(addf8(sums[t][0], sums[t][1])));
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
