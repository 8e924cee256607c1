// Bilevel matrices in tiles: codes of 3 or 4 bits, a byte of statistics for each row and group where others have their zeros,
// and behind all tiles the ranges of each run of rows, float16 [groups][4], which are read some groups at a time; a tile is part
// of one run.
#pragma once
#include "layout.h"

namespace intaglio {
namespace {

constexpr int kRangeGroups = 8;

inline size_t lay_bilevel_tiles(const Pieces* from, void* to) {
  const Matrix m{from->kind, from->rows, from->cols, from->group, 0, to};
  const Layout l = layout_of(&m);
  const int64_t groups = group_count(m.cols, m.group);
  if (to) {
    const Source s{m.kind, m.rows, m.cols, 8, m.group, from->array[0], nullptr, nullptr, nullptr, nullptr};
    const auto* statistics = static_cast<const uint8_t*>(from->array[1]);
    for (int32_t r = 0; r < m.rows; ++r) {
      uint8_t* tile = static_cast<uint8_t*>(to) + r / L * l.bytes;
      pack_codes(s, row_codes(s, r), r % L, tile);
      for (int64_t g = 0; g < groups; ++g) tile[l.zeros + g * L + r % L] = statistics[r * groups + g];
    }
    from->copy(2, 2, static_cast<uint8_t*>(to) + ranges_at(&m, l, 0));
  }
  return size_t(ranges_at(&m, l, round_up(m.rows, 2 * L)) + kRangeGroups * 8);
}

inline size_t lay_any(const Pieces* from, void* to) {
  return is_bilevel(from->kind) ? lay_bilevel_tiles(from, to) : lay(from, to);
}

}  // namespace
}  // namespace intaglio
