// Tables of 16 numbers of 16 bits, repeated to the 32 that words pick from by their lower five bits: what lies above a code's
// own bits does no harm, so a shift is all that a strip's codes need.
#pragma once
#include "shorts.h"
#include "../lookup.h"

namespace intaglio {
namespace {

// The codes of strip S of a block, in the lower bits of their words.
template <int Bits, int S>
INTAGLIO_INLINE VI strip_codes(const uint8_t* block) {
  if constexpr (Bits != 3) return shr16<S * Bits>(loadi(block));
  else if constexpr (S < 15) return shr16<S % 5 * 3>(loadi(block + S / 5 * kStripBytes));
  else {
    const VI two = choose(seti(0x00020002), shr16<14>(loadi(block + kStripBytes)), shr16<15>(loadi(block)));
    return choose(seti(0x00040004), shr16<13>(loadi(block + 2 * kStripBytes)), two);
  }
}

// The same of what is left of a row, in half of the lanes.
template <int Bits, int S>
INTAGLIO_INLINE VI halved_codes(const uint8_t* block) {
  return shr16_halves<2 * S * Bits, (2 * S + 1) * Bits>(twice32(block));
}

// The entries of strips S and S + 1 of a block.
template <int Bits, int S, bool Halved>
struct Strips {
  VI first, second;
  INTAGLIO_INLINE Strips(Table16 table, const uint8_t* block) : first(of<S>(table, block)), second(of<S + 1>(table, block)) {}

  template <int N>
  static INTAGLIO_INLINE VI of(Table16 table, const uint8_t* block) {
    if constexpr (Halved) return pick16(table, halved_codes<Bits, N>(block));
    else return pick16(table, strip_codes<Bits, N>(block));
  }
  INTAGLIO_INLINE void add(const int16_t* x, VI& sum) const {
    sum = dot16(dot16(sum, first, loadi(x)), second, loadi(x + kStrip));
  }
};

using TableInts = VI;
using TableFloats = VF;
constexpr int kTableLanes = L;
INTAGLIO_INLINE VI no_ints() { return seti(0); }
INTAGLIO_INLINE VF no_floats() { return setf(0); }
INTAGLIO_INLINE VF add_ints(VF a, VI b) { return addf(a, to_float(b)); }
INTAGLIO_INLINE float total_of(VF v) { return sum(v); }

}  // namespace
}  // namespace intaglio
