// W x for int8 activations, of as many tokens as there are.
#pragma once
#include "integer.h"
#ifdef INTAGLIO_SQUARES
#include "squares.h"
#endif

namespace intaglio {
namespace {

#ifndef INTAGLIO_SQUARES

constexpr int64_t kMostExpanded = 1 << 18;  // bytes on the stack of whoever multiplies; well within the second cache

inline void expanded_rows(Job job, int32_t token0, int32_t token1, int32_t row0) {
  alignas(64) uint8_t codes[kMostExpanded];
  int32_t offset[2 * L];
  const Layout l = layout_of(job.w);
  for (int32_t row = row0; row < job.row1; row += 2 * L) {
    const Tile first = tile_at(job.w, l, row), second = tile_at(job.w, l, row + L);
    const bool fits = find_offset(job.w, first, offset) && find_offset(job.w, second, offset + L);
    if (fits) {
      const int32_t vectors = int32_t(code_vectors(job.w->kind, job.w->cols));
      expand(job.w, first, offset, 0, vectors, codes);
      expand(job.w, second, offset + L, 0, vectors, codes + expanded_bytes(job.w));
    }
    job.expanded = {fits ? codes : nullptr, offset};
    pair_of_tiles(job, l, token0, token1, row);
  }
}

#endif

inline void integer_rows(const Job& job, int32_t token0, int32_t token1, int32_t row0) {
#ifdef INTAGLIO_SQUARES
  token0 += multiply_by_squares(job, token0, token1, row0);
#else
  if constexpr (kExpands) {
    const bool several = job.w->kind == kW4A8Two && token1 - token0 >= 16;
    if (several && 2 * expanded_bytes(job.w) <= kMostExpanded) return expanded_rows(job, token0, token1, row0);
  }
#endif
  const Layout l = layout_of(job.w);
  for (int32_t row = row0; row < job.row1 && token0 < token1; row += 2 * L) pair_of_tiles(job, l, token0, token1, row);
}

inline void accumulate(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                       int32_t* acc, int64_t ldacc) {
  integer_rows({w, x, row1, nullptr, acc, ldacc}, token0, token1, row0);
}

}  // namespace
}  // namespace intaglio
