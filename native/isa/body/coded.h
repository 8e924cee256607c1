// Products of float activations with codes that have a scale and a zero point per group. The columns fall into runs,
// which end where a group or a panel ends, and of each run
//
//   y += scale * (sum of code * x - zero * (sum of x))
//
// costs one multiply-add a code. A code is not shifted down either: nibble j stays where it lies, as code * 16^j, and x
// is multiplied by 16^-j beforehand; powers of two keep the products exact. One token and many are cut into the same
// runs and added up in the same order, so a token's result does not depend on how many share the call.
#pragma once
#include "dots.h"

namespace intaglio {
namespace {

constexpr int kPanel = 256;          // columns made float at a time
constexpr int kRuns = kPanel / 8;    // most runs of a panel: groups are a multiple of 8 columns, or one a row
constexpr int kStretch = 64 * kPanel;  // columns of one token prepared at a time

inline int32_t run_end(const Matrix* w, int32_t k) {
  const int32_t left = w->group - k % w->group, panel = kPanel - k % kPanel, most = w->cols - k;
  const int32_t run = left < panel ? left : panel;
  return k + (run < most ? run : most);
}

// Code J of each lane times 2^(Bits * J); the last as it is, for it would come out negative.
template <int Bits, int J>
INTAGLIO_INLINE VF code_in_place(VI v) {
  if constexpr (J == 32 / Bits - 1) return to_float(shr<Bits * J>(v));
  else return to_float(andi(v, seti(((1 << Bits) - 1) << (Bits * J))));
}

// What x is multiplied by, of 16 columns.
template <int Bits>
struct Places {
  alignas(64) float at[16];
  constexpr Places() : at{} {
    constexpr int N = 32 / Bits;
    for (int i = 0; i < 16; ++i) at[i] = i % N == N - 1 ? 1.0f : 1.0f / float(uint32_t(1) << (Bits * (i % N)));
  }
};
inline constexpr Places<4> kNibbles;
inline constexpr Places<8> kBytes;

// Of n columns from a multiple of 16 on, and some of the zeros behind them, for whole vectors of codes.
inline void scale_inputs(const Matrix* w, const float* x, int32_t n, float* to) {
  const float* place = w->kind == kW8 ? kBytes.at : kNibbles.at;
  for (int32_t i = 0; i < round_up(n, 16); i += L) storef(to + i, mulf(loadf(x + i), loadf(place + i % 16)));
}

inline float total(const float* x, int32_t n) {
  VF lanes = setf(0);
  int32_t i = 0;
  for (; i + L <= n; i += L) lanes = addf(lanes, loadf(x + i));
  float rest = sum(lanes);
  for (; i < n; ++i) rest += x[i];
  return rest;
}

// Sums of x over the runs of columns [k, end).
inline void total_runs(const Matrix* w, const float* x, int32_t k, int32_t end, float* totals) {
  while (k < end) {
    const int32_t begin = k;
    k = run_end(w, begin);
    *totals++ = total(x + begin, k - begin);
  }
}

// Scale and zero point of a tile's group.
struct Grid {
  VF scale, zero;
};

INTAGLIO_INLINE Grid grid_of(const Tile& tile, int64_t g) {
  return {loadf(tile.scales + g * L), load_half(reinterpret_cast<const uint16_t*>(tile.zeros) + g * L)};
}

INTAGLIO_INLINE VF add_run(const Grid& g, VF sum, float total, VF y) {
  return fma(g.scale, fnma(g.zero, setf(total), sum), y);
}

// Columns [begin, end) of one token, made ready for codes.
struct Stretch {
  int32_t begin = -1, end = -1;
  alignas(64) float x[kStretch];
  float totals[kStretch / 8];

  void take(const Matrix* w, const float* row, int32_t k) {
    if (begin == k) return;
    begin = k, end = w->cols - k < kStretch ? w->cols : k + kStretch;
    scale_inputs(w, row + k, end - k, x);
    total_runs(w, row, k, end, totals);
  }
};

}  // namespace
}  // namespace intaglio
