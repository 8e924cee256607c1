// Tables of 16 numbers of 16 bits as two of bytes: two picks give the lower and the upper bytes of a strip's 32 columns, which
// are then put together.
#pragma once
#include "shorts.h"
#include "../lookup.h"

namespace intaglio {
namespace {

// The codes of strip S of a block, in the lower bits of their bytes.
template <int Bits, int S>
INTAGLIO_INLINE S16 strip_codes(const uint8_t* block) {
  if constexpr (Bits != 3) return nibbles<S * Bits>(load32(block));
  else if constexpr (S < 6) return nibbles<S % 2 * 3>(load32(block + S / 2 * kStrip));
  else return both_of(bits_of<6>(load32(block + (S - 6) * kStrip), 3), bits_of<S - 2>(load32(block + 2 * kStrip), 4));
}

// The entries of strip S of a block.
template <int Bits, int S, bool>
struct Strips {
  Shorts32 of;
  INTAGLIO_INLINE Strips(const Table16& table, const uint8_t* block) : of(pick(table, strip_codes<Bits, S>(block))) {}
};

// Sums of products, as floats: what integers add up of one strip would not hold another.
struct StripSums {
  F8 of = setf8(0);

  template <class Entries>
  INTAGLIO_INLINE void add(const Entries& w, const int16_t* x) {
    of = addf8(of, to_float8(addi8(dots(w.of.first, load32(x)), dots(w.of.second, load32(x + kStrip / 2)))));
  }
  INTAGLIO_INLINE float with(const StripSums& other) const { return sum8(addf8(of, other.of)); }
};

}  // namespace
}  // namespace intaglio
