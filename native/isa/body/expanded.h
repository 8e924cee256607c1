// Tiles of 4-bit codes written out once for several tokens, as the bytes of 8-bit codes:
//
//   scale * (q - zero) + offset[n]        of each group of row n; one level is one group of scale 1
//
// where the offset of row n is the most that its zero points take away. Groups and zero points vanish from the loop over
// columns, and one correction a row and token remains.
#pragma once
#include "dots.h"

namespace intaglio {
namespace {

struct Expanded {
  const uint8_t* codes;
  const int32_t* offset;  // L
};

inline int64_t expanded_bytes(const Matrix* w) { return code_vectors(w->kind, w->cols) * 2 * kVector; }

// The scale of group g, lane by lane.
inline VI step_of(const Matrix* w, const Tile& tile, int64_t g) {
  return w->kind == kW4A8Two ? load_u8(tile.group_scales + g * L) : seti(1);
}

// Its scale times zero point.
inline VI zero_of(const Matrix* w, const Tile& tile, int64_t g) {
  if (w->kind != kW4A8Two) return load_u8(tile.zeros + g * L);
  const VI pair = load_u8_pairs(tile.zeros + g / 2 * 2 * L);
  return g % 2 ? shr<16>(pair) : andi(pair, seti(0xffff));
}

// The offset of each row, and whether the range of all its groups fits a byte then.
inline bool find_offset(const Matrix* w, const Tile& tile, int32_t* offset) {
  VI low = seti(0), high = seti(0);
  for (int64_t g = 0; g < group_count(w->cols, w->group); ++g) {
    const VI step = step_of(w, tile, g), zero = zero_of(w, tile, g);
    low = maxi(low, zero), high = maxi(high, subi(subi(shl<4>(step), step), zero));
  }
  storei(offset, low);
  return most(to_float(addi(low, high))) <= 255;
}

// Two vectors of bytes for each of N of codes, all of one group.
template <int N>
INTAGLIO_INLINE void expand_run(const uint8_t* codes, VI scale, VI shift, uint8_t* to) {
  INTAGLIO_UNROLL
  for (int i = 0; i < N; ++i) {
    const VI both = loadi(codes + i * kVector);
    storei(to + 2 * i * kVector, addi(mul16(low_nibbles(both), scale), shift));
    storei(to + (2 * i + 1) * kVector, addi(mul16(high_nibbles(both), scale), shift));
  }
}

// Vectors [v, last) of codes.
INTAGLIO_INLINE void expand(const Matrix* w, const Tile& tile, const int32_t* offset, int32_t v, int32_t last, uint8_t* to) {
  const int32_t run = int32_t(div_up(w->group, 8));
  for (int32_t g = v / run; v < last; ++g) {
    const int32_t end = (g + 1) * run < last ? (g + 1) * run : last;
    const VI scale = twice16(step_of(w, tile, g));
    const VI shift = muli(subi(loadi(offset), zero_of(w, tile, g)), seti(0x01010101));  // in every byte of the lane
    for (; v + 8 <= end; v += 8, to += 16 * kVector) expand_run<8>(tile.codes + v * kVector, scale, shift, to);
    for (; v < end; ++v, to += 2 * kVector) expand_run<1>(tile.codes + v * kVector, scale, shift, to);
  }
}

}  // namespace
}  // namespace intaglio
