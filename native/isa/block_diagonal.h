// Blocks of rows, each over its own `group` columns (of the last block perhaps fewer). Packed for each block kEven rows side
// by side: for each column of the block their values, float16. Rows beyond a block's last are zeros.
#pragma once
#include "even.h"

namespace intaglio {
namespace {

struct BlockDiagonal {
  int32_t blocks, rows;  // rows of one block
  int64_t tile, block;   // uint16 of kEven rows, and of a block; the last block has room for as many
  const uint16_t* at;
};

inline BlockDiagonal block_diagonal(int32_t rows, int32_t cols, int32_t width, const void* data) {
  const int32_t blocks = int32_t(div_up(cols, width)), each = rows / blocks;
  const int64_t tile = int64_t(width) * kEven;
  return {blocks, each, tile, div_up(each, kEven) * tile, static_cast<const uint16_t*>(data)};
}

inline BlockDiagonal block_diagonal_of(const Matrix* w) { return block_diagonal(w->rows, w->cols, w->group, w->data); }

inline int32_t block_width(const Matrix* w, int32_t block) {
  return block * w->group + w->group < w->cols ? w->group : w->cols - block * w->group;
}

// The first column's value of row `r` of a block; those of the next columns follow kEven further each.
inline const uint16_t* block_at(const BlockDiagonal& m, int32_t block, int32_t r) {
  return m.at + block * m.block + r / kEven * m.tile + r % kEven;
}

inline size_t lay_block_diagonal(const Pieces* from, void* to) {
  const BlockDiagonal m = block_diagonal(from->rows, from->cols, from->group, to);
  const auto* value = static_cast<const uint16_t*>(from->array[0]);
  auto* at = static_cast<uint16_t*>(to);
  for (int64_t r = 0; to && r < m.rows; ++r)
    for (int64_t c = 0; c < from->cols; ++c)
      at[c / from->group * m.block + r / kEven * m.tile + c % from->group * kEven + r % kEven] = value[r * from->cols + c];
  return size_t(m.blocks * m.block * 2);
}

inline float block_diagonal_dot(const Matrix* w, int32_t row, const float* x) {
  const BlockDiagonal m = block_diagonal_of(w);
  const int32_t block = row / m.rows;
  const uint16_t* at = block_at(m, block, row % m.rows);
  float sum = 0;
  for (int32_t c = 0; c < block_width(w, block); ++c) sum += half_to_float(at[c * kEven]) * x[block * w->group + c];
  return sum;
}

inline void block_diagonal_row(const Matrix* w, int32_t row, float* out) {
  const BlockDiagonal m = block_diagonal_of(w);
  const int32_t block = row / m.rows;
  const uint16_t* at = block_at(m, block, row % m.rows);
  memset(out, 0, size_t(w->cols) * 4);
  for (int32_t c = 0; c < block_width(w, block); ++c) out[block * w->group + c] = half_to_float(at[c * kEven]);
}

}  // namespace
}  // namespace intaglio
