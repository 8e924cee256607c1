// W x for float activations and plain weights. One token: values of four tiles stream through registers once. More: a block
// of columns of two tiles becomes float32 [columns][L] in the first-level cache, once for up to kMostTokens tokens, and a
// block of T tokens x 2 tiles accumulates in registers. float32 matrices lie that way already and are read in place.
#pragma once
#include "coded.h"
#include "many.h"
#include "structures.h"

namespace intaglio {
namespace {

constexpr int kMostTokens = (127 / kFloatTokens + 1) * kFloatTokens;  // whose partial sums are kept between panels
constexpr int kPanel = 256;  // columns made float at a time
constexpr int kPairs = 16;  // of tiles that share gathered activations

template <int32_t Kind>
INTAGLIO_INLINE VF load_plain(const uint8_t* codes, int64_t k) {
  if constexpr (Kind == kF32) return loadf(reinterpret_cast<const float*>(codes) + k * L);
  else if constexpr (Kind == kF16) return load_half(reinterpret_cast<const uint16_t*>(codes) + k * L);
  else return load_bfloat(reinterpret_cast<const uint16_t*>(codes) + k * L);
}

// One token times T tiles. A lane's sum takes the columns in their order: the arithmetic is that of plain_block, so a
// token's result does not depend on how many share the call.
template <int32_t Kind, int T>
void plain_vectors(const Matrix* w, const Tile (&tile)[T], const float* x, VF (&sum)[T]) {
  constexpr int kStep = 8, kBytes = Kind == kF32 ? 4 : 2;
  const int64_t ahead = ahead_of(T * layout_of(w).bytes);
  int64_t k = 0;
  const auto column = [&](int64_t at) __attribute__((always_inline)) {
    const VF v = setf(x[at]);
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) sum[i] = fma(load_plain<Kind>(tile[i].codes, at), v, sum[i]);
  };
  for (; k + kStep <= w->cols; k += kStep) {
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i)
      for (int at = 0; at < kStep * L * kBytes; at += 64) prefetch_far(tile[i].codes + k * L * kBytes + at + ahead);
    INTAGLIO_UNROLL
    for (int i = 0; i < kStep; ++i) column(k + i);
  }
  for (; k < w->cols; ++k) column(k);
}

template <int T>
void plain_tiles(const Matrix* w, const Tile (&tile)[T], const float* x, VF (&sum)[T]) {
  switch (w->kind) {
    case kF32: return plain_vectors<kF32>(w, tile, x, sum);
    case kF16: return plain_vectors<kF16>(w, tile, x, sum);
    default: return plain_vectors<kBF16>(w, tile, x, sum);
  }
}

template <int32_t Kind>
void plain_panel(const Tile& tile, int64_t k0, int64_t n, float* panel) {
  for (int64_t k = 0; k < n; ++k) storef(panel + k * L, load_plain<Kind>(tile.codes, k0 + k));
}

// Columns [k0, k0 + n) of a tile as float32 [n][L]: read where they are, or made in `panel`.
inline const float* float_panel(const Matrix* w, const Tile& tile, int64_t k0, int64_t n, float* panel) {
  switch (w->kind) {
    case kF32: return reinterpret_cast<const float*>(tile.codes) + k0 * L;
    case kF16: return plain_panel<kF16>(tile, k0, n, panel), panel;
    default: return plain_panel<kBF16>(tile, k0, n, panel), panel;
  }
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
void plain_block(const Panels& p, int64_t n, const float* x, float* part) {
  VF sum[T][2];
  INTAGLIO_UNROLL
  for (int i = 0; i < 2 * T; ++i) sum[i / 2][i % 2] = loadf(part + i * L);
  float_columns<T, Fetch>(p, n, x, sum);
  INTAGLIO_UNROLL
  for (int i = 0; i < 2 * T; ++i) storef(part + i * L, sum[i / 2][i % 2]);
}

// The very first block of tokens fetches ahead.
inline void plain_tokens(const Panels& p, int64_t n, const float* x, int32_t tokens, float* part) {
  by_tokens(tokens, [&]<int T>(int32_t t) {
    if (t == 0) plain_block<T, true>(p, n, x, part);
    else plain_block<T, false>(p, n, x + t * kPanel, part + t * 2 * L);
  });
}

// The tokens' columns [k, k + n) side by side: at their own stride, often a power of two, they evict one another.
inline void gather(const Job& job, int32_t token, int32_t tokens, int32_t k, int32_t n, float* to) {
  for (int32_t t = 0; t < tokens; ++t) memcpy(to + t * kPanel, job.x->f + (token + t) * job.x->ldf + k, size_t(n) * 4);
}

// Up to kPairs pairs of tiles from `row` on, which share the gathered activations.
inline void float_matrix(const Job& job, const Layout& l, int32_t row, int32_t token, int32_t tokens) {
  alignas(64) float panel[2][kPanel * L];
  alignas(64) float part[kPairs][kMostTokens * 2 * L];
  alignas(64) float x[kMostTokens * kPanel];
  const int pairs = int(div_up(job.row1 - row, 2 * L)) < kPairs ? int(div_up(job.row1 - row, 2 * L)) : kPairs;
  for (int i = 0; i < pairs; ++i) memset(part[i], 0, size_t(tokens) * 2 * L * sizeof(float));
  for (int32_t k = 0; k < job.w->cols; k += kPanel) {
    const int32_t n = k + kPanel < job.w->cols ? kPanel : job.w->cols - k;
    gather(job, token, tokens, k, n, x);
    for (int i = 0; i < pairs; ++i) {
      const Tile t0 = tile_at(job.w, l, row + 2 * i * L), t1 = tile_at(job.w, l, row + (2 * i + 1) * L);
      const float *a = float_panel(job.w, t0, k, n, panel[0]), *b = float_panel(job.w, t1, k, n, panel[1]);
      const int64_t next = job.w->kind == kF32 ? 2 * l.bytes / int64_t(sizeof(float)) : 0;  // made panels are near
      const Panels p{a, b, a + next, b + next};
      plain_tokens(p, n, x, tokens, part[i]);
    }
  }
  for (int i = 0; i < pairs; ++i)
    for (int32_t t = 0; t < tokens; ++t)
      for (int r = 0; r < 2; ++r)
        emit(job.out, token + t, row + (2 * i + r) * L, job.row1, loadf(part[i] + (2 * t + r) * L));
}

template <int T>
int32_t float_tiles(const Job& job, const Layout& l, int32_t row, int32_t token) {
  const float* x = job.x->f + token * job.x->ldf;
  for (; row + (T - 1) * L < job.row1; row += T * L) {
    Tile tile[T];
    VF sum[T];
    for (int i = 0; i < T; ++i) tile[i] = tile_at(job.w, l, row + i * L), sum[i] = setf(0);
    plain_tiles<T>(job.w, tile, x, sum);
    for (int i = 0; i < T; ++i) emit(job.out, token, row + i * L, job.row1, sum[i]);
  }
  return row;
}

inline void float_one(const Job& job, const Layout& l, int32_t row, int32_t token) {
  row = float_tiles<4>(job, l, row, token);
  row = float_tiles<2>(job, l, row, token);
  float_tiles<1>(job, l, row, token);
}

inline void float_rows(const Job& job, int32_t token0, int32_t token1, int32_t row0) {
  const Layout l = layout_of(job.w);
  for (int32_t t = token0; t < token1; t += kMostTokens) {
    const int32_t n = t + kMostTokens < token1 ? kMostTokens : token1 - t;
    if (n == 1) float_one(job, l, row0, t);
    for (int32_t row = row0; row < job.row1 && n > 1; row += kPairs * 2 * L) float_matrix(job, l, row, t, n);
  }
}

inline void linear(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                   const Output* out) {
  if (has_units(w->kind)) return coded_rows(w, x, token0, token1, row0, row1, out);
  if (!is_tiled(w->kind)) return structure_rows(w, x, token0, token1, row0, row1, out);
  const Job job{w, x, row1, out, nullptr, 0};
  if (is_int8(w->kind)) integer_rows(job, token0, token1, row0);
  else float_rows(job, token0, token1, row0);
}

}  // namespace
}  // namespace intaglio
