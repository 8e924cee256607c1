// For each mask of so many lanes, which bytes of as many 16-bit numbers, side by side, go where it is set; elsewhere one that
// table look-ups of bytes make zero.
#pragma once
#include <stdint.h>

namespace intaglio {
namespace {

template <int Lanes>
struct Expansion {
  alignas(64) uint8_t from[1 << Lanes][2 * Lanes];
  constexpr Expansion() : from() {
    for (int mask = 0; mask < 1 << Lanes; ++mask)
      for (int lane = 0, next = 0; lane < Lanes; ++lane) {
        const bool set = mask >> lane & 1;
        for (int byte = 0; byte < 2; ++byte) from[mask][2 * lane + byte] = uint8_t(set ? 2 * next + byte : 0x80);
        next += set;
      }
  }
};

}  // namespace
}  // namespace intaglio
