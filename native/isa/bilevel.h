// Bilevel: groups of columns with scales and zero points that are coded in their turn. Made of
// codes u8 (rows x cols), of 3 or of 4 bits | statistics u8 (rows x groups): a scale's code in the low nibble, a zero's in the
// high one | ranges float16 (runs x groups x 4): low and step of the scales, then of the zeros, of kRun rows.
// Here is the definition, of the arrays as they come, each from a multiple of 64 bytes on; body/bilevel.h is in tiles.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int32_t kRun = 16;  // rows whose statistics of a group share a range

struct Statistics {
  float scale, zero;
};

inline Statistics statistics(uint8_t codes, const uint16_t* range) {
  return {half_to_float(range[0]) + half_to_float(range[1]) * float(codes & 15),
          half_to_float(range[2]) + half_to_float(range[3]) * float(codes >> 4)};
}

struct BilevelBytes {
  int64_t groups, statistics, ranges, all;  // of a row; offsets in the data, and its size
  BilevelBytes(int64_t rows, int32_t cols, int32_t group)
      : groups(group_count(cols, group)),
        statistics(round_up(rows * cols, 64)),
        ranges(statistics + round_up(rows * groups, 64)),
        all(ranges + div_up(rows, kRun) * groups * 8) {}
};

inline size_t lay_bilevel(const Pieces* from, void* to) {
  const BilevelBytes bytes(from->rows, from->cols, from->group);
  if (to) {
    auto* at = static_cast<uint8_t*>(to);
    from->copy(0, 1, at);
    from->copy(1, 1, at + bytes.statistics);
    from->copy(2, 2, at + bytes.ranges);
  }
  return size_t(bytes.all);
}

inline float bilevel_weight(const Matrix* w, const BilevelBytes& bytes, int64_t r, int64_t k) {
  const auto* at = static_cast<const uint8_t*>(w->data);
  const int64_t g = k / w->group;
  const auto* ranges = reinterpret_cast<const uint16_t*>(at + bytes.ranges);
  const Statistics s = statistics(at[bytes.statistics + r * bytes.groups + g], ranges + (r / kRun * bytes.groups + g) * 4);
  return s.scale * (float(at[r * w->cols + k]) - s.zero);
}

inline void bilevel_row(const Matrix* w, int32_t r, float* out) {
  const BilevelBytes bytes(w->rows, w->cols, w->group);
  for (int32_t k = 0; k < w->cols; ++k) out[k] = bilevel_weight(w, bytes, r, k);
}

inline float bilevel_dot(const Matrix* w, int32_t r, const float* x) {
  const BilevelBytes bytes(w->rows, w->cols, w->group);
  float sum = 0;
  for (int32_t k = 0; k < w->cols; ++k) sum += bilevel_weight(w, bytes, r, k) * x[k];
  return sum;
}

}  // namespace
}  // namespace intaglio
