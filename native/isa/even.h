// Rows of equally many elements that are not zero, `group` of them. Packed kEven rows side by side, so that lanes are
// outputs: for each j the columns of the j-th elements, uint16, then their values, float16. Rows beyond the last are zeros.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int32_t kEven = 16;  // every set's lanes divide it

struct Even {
  const uint16_t* at;  // [tile][j][columns, values][lane]
  int64_t tile;        // its uint16
};

inline Even even_of(const Matrix* w) { return {static_cast<const uint16_t*>(w->data), int64_t(w->group) * 2 * kEven}; }

// The column of element j of a row; its value lies kEven further.
inline const uint16_t* even_at(const Even& m, int32_t row, int32_t j) {
  return m.at + row / kEven * m.tile + int64_t(j) * 2 * kEven + row % kEven;
}

inline size_t lay_even(const Pieces* from, void* to) {
  const auto *index = static_cast<const uint16_t*>(from->array[0]), *value = static_cast<const uint16_t*>(from->array[1]);
  auto* at = static_cast<uint16_t*>(to);
  const int64_t n = from->group, tile = n * 2 * kEven;
  for (int64_t r = 0; to && r < from->rows; ++r)
    for (int64_t j = 0; j < n; ++j) {
      uint16_t* here = at + r / kEven * tile + j * 2 * kEven + r % kEven;
      here[0] = index[r * n + j], here[kEven] = value[r * n + j];
    }
  return size_t(div_up(from->rows, kEven) * tile * 2);
}

inline float even_dot(const Matrix* w, int32_t row, const float* x) {
  const Even m = even_of(w);
  float sum = 0;
  for (int32_t j = 0; j < w->group; ++j) {
    const uint16_t* at = even_at(m, row, j);
    sum += half_to_float(at[kEven]) * x[*at];
  }
  return sum;
}

inline void even_row(const Matrix* w, int32_t row, float* out) {
  const Even m = even_of(w);
  memset(out, 0, size_t(w->cols) * 4);
  for (int32_t j = 0; j < w->group; ++j) {
    const uint16_t* at = even_at(m, row, j);
    out[*at] = half_to_float(at[kEven]);
  }
}

}  // namespace
}  // namespace intaglio
