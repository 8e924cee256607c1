// W x for float activations and weights that are floats: plain ones, or those that a bitmask leaves. One token: values of
// four tiles stream through registers once. More: a block of columns of two tiles becomes float32 [columns][L] in the
// first-level cache, once for up to kMostTokens tokens, and a block of T tokens x 2 tiles accumulates in registers. float32
// matrices lie that way already and are read in place.
#pragma once
#include "coded.h"
#include "many.h"
#include "structures.h"

namespace intaglio {
namespace {

constexpr int kMostTokens = (127 / kFloatTokens + 1) * kFloatTokens;  // whose partial sums are kept between panels
constexpr int kPanel = 256;  // columns made float at a time
constexpr int kPairs = 16;  // of tiles that share gathered activations
constexpr int kStep = 8;  // columns of one token between questions for what comes later

// A tile's columns one after another, each L rows as floats; T of them are read side by side.
template <int32_t Kind>
struct PlainColumns {
  static constexpr bool kInPlace = Kind == kF32;  // as floats already
  static constexpr int64_t kBytes = Kind == kF32 ? 4 : 2;
  const uint8_t* at;
  int64_t ahead;

  PlainColumns() = default;
  PlainColumns(const Matrix* w, int64_t row, int together) {
    const Layout l = layout_of(w);
    at = tile_at(w, l, row).codes, ahead = ahead_of(together * l.bytes);
  }
  INTAGLIO_INLINE VF next() {
    const uint8_t* here = at;
    at += L * kBytes;
    if constexpr (Kind == kF32) return loadf(reinterpret_cast<const float*>(here));
    else if constexpr (Kind == kF16) return load_half(reinterpret_cast<const uint16_t*>(here));
    else return load_bfloat(reinterpret_cast<const uint16_t*>(here));
  }
  INTAGLIO_INLINE void ask() const {
    for (int i = 0; i < kStep * L * kBytes; i += 64) prefetch_far(at + i + ahead);
  }
};

struct MaskedColumns {
  static constexpr bool kInPlace = false;
  MaskTile at;
  int64_t ahead;

  MaskedColumns() = default;
  MaskedColumns(const Matrix* w, int64_t row, int together) : at(mask_tile(w, row / L)) {
    const int64_t last = mask_tiles(w->rows) - 1, later = row / L + together;
    ahead = ahead_of(mask_tile(w, later < last ? later : last).mask - at.mask);
  }
  INTAGLIO_INLINE VF next() {
    const uint32_t mask = mask_at(at.mask, 0);
    const VF v = expand_half(at.value, mask);
    at.mask += kMaskBytes, at.value += __builtin_popcount(mask);
    return v;
  }
  INTAGLIO_INLINE void ask() const {
    prefetch_far(at.mask + ahead);
    for (int i = 0; i < kStep * L * 2; i += 64) prefetch_far(reinterpret_cast<const uint8_t*>(at.value) + i + ahead);
  }
};

// One token times T tiles. A lane's sum takes the columns in their order: the arithmetic is that of panel_block, so a
// token's result does not depend on how many share the call.
template <class Columns, int T>
void columns_times(Columns (&tile)[T], int32_t cols, const float* x, VF (&sum)[T]) {
  int32_t k = 0;
  const auto column = [&](int32_t at) __attribute__((always_inline)) {
    const VF v = setf(x[at]);
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) sum[i] = fma(tile[i].next(), v, sum[i]);
  };
  for (; k + kStep <= cols; k += kStep) {
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) tile[i].ask();
    INTAGLIO_UNROLL
    for (int i = 0; i < kStep; ++i) column(k + i);
  }
  for (; k < cols; ++k) column(k);
}

// The next n columns as float32 [n][L]: read where they are, or made in `panel`.
template <class Columns>
INTAGLIO_INLINE const float* float_panel(Columns& from, int64_t n, float* panel) {
  if constexpr (Columns::kInPlace) {
    const auto* here = reinterpret_cast<const float*>(from.at);
    return from.at += n * L * 4, here;
  }
  for (int64_t k = 0; k < n; ++k) storef(panel + k * L, from.next());
  return panel;
}

// Two tiles' panels and the two that are wanted after them.
struct Panels {
  const float *a, *b, *next_a, *next_b;
};

template <int T, bool Fetch>
INTAGLIO_INLINE void float_column(const Panels& p, int64_t k, const float* x, VF (&sum)[T][2]) {
  const VF a = loadf(p.a + k * L), b = loadf(p.b + k * L);
  if (Fetch) prefetch(p.next_a + k * L), prefetch(p.next_b + k * L);
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    const VF v = setf(x[t * kPanel + k]);
    sum[t][0] = fma(a, v, sum[t][0]);
    sum[t][1] = fma(b, v, sum[t][1]);
  }
}

// sum[t] += two panels times T tokens' columns, `kPanel` apart. `Fetch`: read the next panels ahead.
// Eight columns a turn: the end of a short loop is foreseen, that of a long one is not.
template <int T, bool Fetch>
INTAGLIO_INLINE void float_columns(const Panels& p, int64_t n, const float* x, VF (&sum)[T][2]) {
  int64_t k = 0;
  for (; k + 8 <= n; k += 8) {
    INTAGLIO_UNROLL
    for (int i = 0; i < 8; ++i) float_column<T, Fetch>(p, k + i, x, sum);
  }
  for (; k < n; ++k) float_column<T, Fetch>(p, k, x, sum);
}

// part[t][0..2L) += the panels times x.
template <int T, bool Fetch>
void panel_block(const Panels& p, int64_t n, const float* x, float* part) {
  VF sum[T][2];
  INTAGLIO_UNROLL
  for (int i = 0; i < 2 * T; ++i) sum[i / 2][i % 2] = loadf(part + i * L);
  float_columns<T, Fetch>(p, n, x, sum);
  INTAGLIO_UNROLL
  for (int i = 0; i < 2 * T; ++i) storef(part + i * L, sum[i / 2][i % 2]);
}

// The very first block of tokens fetches ahead.
inline void panel_tokens(const Panels& p, int64_t n, const float* x, int32_t tokens, float* part) {
  by_tokens(tokens, [&]<int T>(int32_t t) {
    if (t == 0) panel_block<T, true>(p, n, x, part);
    else panel_block<T, false>(p, n, x + t * kPanel, part + t * 2 * L);
  });
}

// The tokens' columns [k, k + n) side by side: at their own stride, often a power of two, they evict one another.
inline void gather(const Job& job, int32_t token, int32_t tokens, int32_t k, int32_t n, float* to) {
  for (int32_t t = 0; t < tokens; ++t) memcpy(to + t * kPanel, job.x->f + (token + t) * job.x->ldf + k, size_t(n) * 4);
}

// Up to kPairs pairs of tiles from `row` on, which share the gathered activations.
template <class Columns>
void float_matrix(const Job& job, int32_t row, int32_t token, int32_t tokens) {
  alignas(64) float panel[2][kPanel * L];
  alignas(64) float part[kPairs][kMostTokens * 2 * L];
  alignas(64) float x[kMostTokens * kPanel];
  constexpr bool kInPlace = Columns::kInPlace;
  const int pairs = int(div_up(job.row1 - row, 2 * L)) < kPairs ? int(div_up(job.row1 - row, 2 * L)) : kPairs;
  Columns tile[kPairs][2];
  for (int i = 0; i < 2 * pairs; ++i) tile[i / 2][i % 2] = Columns(job.w, row + i * L, 1);
  for (int i = 0; i < pairs; ++i) memset(part[i], 0, size_t(tokens) * 2 * L * sizeof(float));
  for (int32_t k = 0; k < job.w->cols; k += kPanel) {
    const int32_t n = k + kPanel < job.w->cols ? kPanel : job.w->cols - k;
    gather(job, token, tokens, k, n, x);
    for (int i = 0; i < pairs; ++i) {
      const float *a = float_panel(tile[i][0], n, panel[0]), *b = float_panel(tile[i][1], n, panel[1]);
      const int64_t next = kInPlace ? 2 * layout_of(job.w).bytes / int64_t(sizeof(float)) : 0;  // made panels are near
      const Panels p{a, b, a + next, b + next};
      panel_tokens(p, n, x, tokens, part[i]);
    }
  }
  for (int i = 0; i < pairs; ++i)
    for (int32_t t = 0; t < tokens; ++t)
      for (int r = 0; r < 2; ++r)
        emit(job.out, token + t, row + (2 * i + r) * L, job.row1, loadf(part[i] + (2 * t + r) * L));
}

template <class Columns, int T>
int32_t float_tiles(const Job& job, int32_t row, int32_t token) {
  const float* x = job.x->f + token * job.x->ldf;
  for (; row + (T - 1) * L < job.row1; row += T * L) {
    Columns tile[T];
    VF sum[T];
    for (int i = 0; i < T; ++i) tile[i] = Columns(job.w, row + i * L, T), sum[i] = setf(0);
    columns_times(tile, job.w->cols, x, sum);
    for (int i = 0; i < T; ++i) emit(job.out, token, row + i * L, job.row1, sum[i]);
  }
  return row;
}

template <class Columns>
void float_rows(const Job& job, int32_t token0, int32_t token1, int32_t row0) {
  for (int32_t t = token0; t < token1; t += kMostTokens) {
    const int32_t n = t + kMostTokens < token1 ? kMostTokens : token1 - t;
    int32_t row = row0;
    if (n == 1) {
      row = float_tiles<Columns, 4>(job, row, t);
      row = float_tiles<Columns, 2>(job, row, t);
      float_tiles<Columns, 1>(job, row, t);
    }
    for (; row < job.row1 && n > 1; row += kPairs * 2 * L) float_matrix<Columns>(job, row, t, n);
  }
}

inline void linear(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                   const Output* out) {
  const Job job{w, x, row1, out, nullptr, 0};
  if (has_units(w->kind)) return coded_rows(w, x, token0, token1, row0, row1, out);
  if (is_int8(w->kind) && !is_structure(w->kind)) return integer_rows(job, token0, token1, row0);
  switch (w->kind) {
    case kF32: return float_rows<PlainColumns<kF32>>(job, token0, token1, row0);
    case kF16: return float_rows<PlainColumns<kF16>>(job, token0, token1, row0);
    case kBF16: return float_rows<PlainColumns<kBF16>>(job, token0, token1, row0);
    case kBitmask: return float_rows<MaskedColumns>(job, token0, token1, row0);
    default: return structure_rows(w, x, token0, token1, row0, row1, out);
  }
}

}  // namespace
}  // namespace intaglio
