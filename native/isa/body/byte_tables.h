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
  INTAGLIO_INLINE void add(const int16_t* x, I8& sum) const {
    sum = addi8(sum, addi8(dots(of.first, load32(x)), dots(of.second, load32(x + kStrip / 2))));
  }
};

using TableInts = I8;
using TableFloats = F8;
constexpr int kTableLanes = 8;
INTAGLIO_INLINE I8 no_ints() { return I8{}; }
INTAGLIO_INLINE F8 no_floats() { return setf8(0); }
INTAGLIO_INLINE F8 add_ints(F8 a, I8 b) { return addf8(a, to_float8(b)); }
INTAGLIO_INLINE float total_of(F8 v) { return sum8(v); }

}  // namespace
}  // namespace intaglio
