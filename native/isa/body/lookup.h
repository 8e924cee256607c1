// Products with lookup tables. Lanes are columns. Entries, as integers of 16 bits, are picked by codes and multiply the inputs,
// made integers too. A lane sums up the products of a run of strips before they become floats. Tokens outside, so that the
// inputs of a few stay in the first cache while the rows stream by.
#pragma once
#ifdef INTAGLIO_WORD_TABLES
#include "word_tables.h"
#else
#include "byte_tables.h"
#endif
#include "../structures.h"

namespace intaglio {
namespace {

constexpr int kLookupTokens = 8;  // of one row
constexpr int kRunProducts = 8;   // of a lane
constexpr int kRunStrips = kRunProducts * kTableLanes / kStrip;
static_assert(int64_t{kTopEntry} * kTopShort * kRunProducts < int64_t{1} << 31);

// Sums of products of T tokens: those of a run as integers. Runs do not wait for one another.
template <int T>
struct LookupSums {
  TableInts run[T];
  TableFloats of[T];

  INTAGLIO_INLINE LookupSums() {
    INTAGLIO_UNROLL
    for (TableFloats& v : of) v = no_floats();
    clear();
  }
  INTAGLIO_INLINE void clear() {
    INTAGLIO_UNROLL
    for (TableInts& v : run) v = no_ints();
  }
  template <class Strips>
  INTAGLIO_INLINE void add(const Strips& w, const int16_t* x, int64_t ldx) {
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) w.add(x + t * ldx, run[t]);
  }
  INTAGLIO_INLINE void end_run() {
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) of[t] = add_ints(of[t], run[t]);
    clear();
  }
};

// Strips S.. of a block; x: T tokens' columns of strip 0, ldx apart. `used`: strips there are.
template <int Bits, int T, bool Halved = false, int S = 0>
INTAGLIO_INLINE void lookup_block(const Table16& table, const uint8_t* block, const int16_t* x, int64_t ldx, int used,
                                  LookupSums<T>& sums) {
  if constexpr (Halved ? is_halved(S + kTogether, Bits) : S < strips_of_block(Bits)) {
    if (S == used) return S % kRunStrips ? sums.end_run() : void();
    sums.add(Strips<Bits, S, Halved>(table, block), x + S * kStrip, ldx);
    if constexpr ((S + kTogether) % kRunStrips == 0) sums.end_run();
    lookup_block<Bits, T, Halved, S + kTogether>(table, block, x, ldx, used, sums);
  } else if constexpr (S % kRunStrips) {
    sums.end_run();
  }
}

// A row times T tokens.
template <int Bits, int T>
void lookup_tile(const Lookup& m, const ShortTokens<kLookupTokens>& x, int32_t token, int32_t row, const Output* out) {
  constexpr int kStrips = strips_of_block(Bits), kBytes = bytes_of_block(Bits);
  // repeated to 16 entries: what lies above a code's own bits then does no harm
  const Table16 table = load_table<Bits>(m.entries + (int64_t(row) << Bits));
  const float scale = m.scales[row];
  LookupSums<T> sums;
  const uint8_t* codes = m.codes + row * m.stride;
  const int16_t* at = x.q;
  int32_t s = 0;
  for (; s + kStrips <= m.strips; s += kStrips, codes += kBytes, at += kStrips * kStrip) {
    if (T == 1) ask_for(codes + kAhead, 0, kBytes);
    lookup_block<Bits, T>(table, codes, at, x.stride, kStrips, sums);
  }
  const int left = m.strips - s;
  if (left && is_halved(left, Bits)) lookup_block<Bits, T, true>(table, codes, at, x.stride, left, sums);
  else if (left) lookup_block<Bits, T>(table, codes, at, x.stride, left, sums);
  for (int t = 0; t < T; ++t) emit_one(out, token + t, row, scale * x.scale[t] * total_of(sums.of[t]));
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
