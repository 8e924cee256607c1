// W x for float activations. One token: codes or values of four tiles stream through registers once. More: a block of
// columns of two tiles becomes float32 [columns][L] in the first-level cache, once for up to kMostTokens tokens, and a
// block of T tokens x 2 tiles accumulates in registers. float32 matrices lie that way already and are read in place.
// Coded weights are never made: of each run of columns y += scale * (sum of code * x - zero * sum of x), see coded.h.
#pragma once
#include "bilevel_rows.h"
#include "coded.h"
#include "many.h"
#include "structures.h"

namespace intaglio {
namespace {

constexpr int kMostTokens = (127 / kFloatTokens + 1) * kFloatTokens;  // whose partial sums are kept between panels
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

template <int Bits, int T, int J = 0>
INTAGLIO_INLINE void multiply_codes(const VI (&codes)[T], const float* x, VF (&sum)[T]) {
  if constexpr (J < 32 / Bits) {
    const VF v = setf(x[J]);
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) sum[i] = fma(code_in_place<Bits, J>(codes[i]), v, sum[i]);
    multiply_codes<Bits, T, J + 1>(codes, x, sum);
  }
}

// Adds the stretch's columns to y.
template <int32_t Kind, int T>
void coded_vectors(const Matrix* w, const Tile (&tile)[T], const Stretch& x, VF (&y)[T]) {
  constexpr int Bits = Kind == kW8 ? 8 : 4, N = 32 / Bits;
  const int64_t ahead = ahead_of(T * layout_of(w).bytes);
  const float* total = x.totals;
  for (int32_t k = x.begin; k < x.end; ++total) {
    const int32_t g = k / w->group, end = run_end(w, k);
    VF sum[T];
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) sum[i] = setf(0);
    for (; k < end; k += N) {  // past the last column x is zero
      VI codes[T];
      INTAGLIO_UNROLL
      for (int i = 0; i < T; ++i) {
        const uint8_t* at = tile[i].codes + k / N * kVector;
        prefetch_far(at + ahead);
        codes[i] = loadi(at);
      }
      multiply_codes<Bits>(codes, x.x + (k - x.begin), sum);
    }
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) y[i] = add_run(grid_of(tile[i], g), sum[i], *total, y[i]);
  }
}

template <int T>
void plain_tiles(const Matrix* w, const Tile (&tile)[T], const float* x, VF (&sum)[T]) {
  switch (w->kind) {
    case kF32: return plain_vectors<kF32>(w, tile, x, sum);
    case kF16: return plain_vectors<kF16>(w, tile, x, sum);
    default: return plain_vectors<kBF16>(w, tile, x, sum);
  }
}

// Most matrices are one stretch, which all tiles then share.
template <int T>
void coded_tiles(const Matrix* w, const Tile (&tile)[T], const float* x, Stretch& stretch, VF (&y)[T]) {
  for (int32_t k = 0; k < w->cols; k += kStretch) {
    stretch.take(w, x, k);
    if (w->kind == kW4) coded_vectors<kW4>(w, tile, stretch, y);
    else coded_vectors<kW8>(w, tile, stretch, y);
  }
}

template <int32_t Kind>
void plain_panel(const Tile& tile, int64_t k0, int64_t n, float* panel) {
  for (int64_t k = 0; k < n; ++k) storef(panel + k * L, load_plain<Kind>(tile.codes, k0 + k));
}

template <int Bits, int J = 0>
INTAGLIO_INLINE void store_codes(VI v, float* panel) {
  if constexpr (J < 32 / Bits) {
    storef(panel + J * L, code_in_place<Bits, J>(v));
    store_codes<Bits, J + 1>(v, panel);
  }
}

template <int Bits>
void coded_panel(const Tile& tile, int64_t k0, int64_t n, float* panel) {
  constexpr int N = 32 / Bits;
  const uint8_t* codes = tile.codes + k0 / N * kVector;
  for (int64_t k = 0; k < n; k += N, codes += kVector) store_codes<Bits>(loadi(codes), panel + k * L);
}

// Columns [k0, k0 + n) of a tile, values or codes in place, as float32 [n][L]: read where they are, or made in `panel`,
// which has room for whole vectors.
inline const float* float_panel(const Matrix* w, const Tile& tile, int64_t k0, int64_t n, float* panel) {
  switch (w->kind) {
    case kF32: return reinterpret_cast<const float*>(tile.codes) + k0 * L;
    case kF16: return plain_panel<kF16>(tile, k0, n, panel), panel;
    case kBF16: return plain_panel<kBF16>(tile, k0, n, panel), panel;
    case kW8: return coded_panel<8>(tile, k0, n, panel), panel;
    default: return coded_panel<4>(tile, k0, n, panel), panel;
  }
}

// Two tiles' panels and, of plain weights, the two that are wanted after them; of coded ones, the grids of a run.
struct Panels {
  const float *a, *b, *next_a, *next_b;
};
struct Grids {
  Grid a, b;
};

inline Panels operator+(const Panels& p, int64_t k) { return {p.a + k * L, p.b + k * L, nullptr, nullptr}; }

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

// The same for one run of codes; the tokens' totals lie kRuns apart.
template <int T>
void coded_block(const Panels& p, const Grids& g, int64_t n, const float* x, const float* totals, float* part) {
  VF sum[T][2];
  INTAGLIO_UNROLL
  for (int i = 0; i < 2 * T; ++i) sum[i / 2][i % 2] = setf(0);
  float_columns<T, false>(p, n, x, sum);
  INTAGLIO_UNROLL
  for (int i = 0; i < 2 * T; ++i)
    storef(part + i * L, add_run(i % 2 ? g.b : g.a, sum[i / 2][i % 2], totals[i / 2 * kRuns], loadf(part + i * L)));
}

// f<T>(t) over the tokens, blocks of the largest first.
template <class F>
INTAGLIO_INLINE void by_tokens(int32_t tokens, const F& f) {
  int32_t t = 0;
  for (; t + kFloatTokens <= tokens; t += kFloatTokens) f.template operator()<kFloatTokens>(t);
  for (; t + 4 <= tokens; t += 4) f.template operator()<4>(t);
  for (; t + 2 <= tokens; t += 2) f.template operator()<2>(t);
  if (t < tokens) f.template operator()<1>(t);
}

// The very first block of tokens fetches ahead.
inline void plain_tokens(const Panels& p, int64_t n, const float* x, int32_t tokens, float* part) {
  by_tokens(tokens, [&]<int T>(int32_t t) {
    if (t == 0) plain_block<T, true>(p, n, x, part);
    else plain_block<T, false>(p, n, x + t * kPanel, part + t * 2 * L);
  });
}

inline void coded_tokens(const Matrix* w, const Tile& t0, const Tile& t1, const Panels& p, int32_t k0, int32_t n,
                         const float* x, const float* totals, int32_t tokens, float* part) {
  for (int32_t k = k0; k < k0 + n; ++totals) {
    const int32_t g = k / w->group, end = run_end(w, k), at = k - k0;
    const Grids grids{grid_of(t0, g), grid_of(t1, g)};
    by_tokens(tokens, [&]<int T>(int32_t t) {
      coded_block<T>(p + at, grids, end - k, x + t * kPanel + at, totals + t * kRuns, part + t * 2 * L);
    });
    k = end;
  }
}

// The tokens' columns [k, k + n) side by side: at their own stride, often a power of two, they evict one another.
// For codes they are scaled, and the totals of their runs taken.
inline void gather(const Job& job, int32_t token, int32_t tokens, int32_t k, int32_t n, float* to, float* totals) {
  for (int32_t t = 0; t < tokens; ++t) {
    const float* x = job.x->f + (token + t) * job.x->ldf;
    if (is_plain(job.w->kind)) {
      memcpy(to + t * kPanel, x + k, size_t(n) * 4);
    } else {
      scale_inputs(job.w, x + k, n, to + t * kPanel);
      total_runs(job.w, x, k, k + n, totals + t * kRuns);
    }
  }
}

// Up to kPairs pairs of tiles from `row` on, which share the gathered activations.
inline void float_matrix(const Job& job, const Layout& l, int32_t row, int32_t token, int32_t tokens) {
  alignas(64) float panel[2][kPanel * L];
  alignas(64) float part[kPairs][kMostTokens * 2 * L];
  alignas(64) float x[kMostTokens * kPanel];
  float totals[kMostTokens * kRuns];
  const int pairs = int(div_up(job.row1 - row, 2 * L)) < kPairs ? int(div_up(job.row1 - row, 2 * L)) : kPairs;
  for (int i = 0; i < pairs; ++i) memset(part[i], 0, size_t(tokens) * 2 * L * sizeof(float));
  for (int32_t k = 0; k < job.w->cols; k += kPanel) {
    const int32_t n = k + kPanel < job.w->cols ? kPanel : job.w->cols - k;
    gather(job, token, tokens, k, n, x, totals);
    for (int i = 0; i < pairs; ++i) {
      const Tile t0 = tile_at(job.w, l, row + 2 * i * L), t1 = tile_at(job.w, l, row + (2 * i + 1) * L);
      const float *a = float_panel(job.w, t0, k, n, panel[0]), *b = float_panel(job.w, t1, k, n, panel[1]);
      const int64_t next = job.w->kind == kF32 ? 2 * l.bytes / int64_t(sizeof(float)) : 0;  // made panels are near
      const Panels p{a, b, a + next, b + next};
      if (is_plain(job.w->kind)) plain_tokens(p, n, x, tokens, part[i]);
      else coded_tokens(job.w, t0, t1, p, k, n, x, totals, tokens, part[i]);
    }
  }
  for (int i = 0; i < pairs; ++i)
    for (int32_t t = 0; t < tokens; ++t)
      for (int r = 0; r < 2; ++r)
        emit(job.out, token + t, row + (2 * i + r) * L, job.row1, loadf(part[i] + (2 * t + r) * L));
}

template <int T>
int32_t float_tiles(const Job& job, const Layout& l, int32_t row, int32_t token, Stretch& stretch) {
  const float* x = job.x->f + token * job.x->ldf;
  for (; row + (T - 1) * L < job.row1; row += T * L) {
    Tile tile[T];
    VF sum[T];
    for (int i = 0; i < T; ++i) tile[i] = tile_at(job.w, l, row + i * L), sum[i] = setf(0);
    ask_for_tables<T>(tile[0].codes, l);
    if (is_plain(job.w->kind)) plain_tiles<T>(job.w, tile, x, sum);
    else coded_tiles<T>(job.w, tile, x, stretch, sum);
    for (int i = 0; i < T; ++i) emit(job.out, token, row + i * L, job.row1, sum[i]);
  }
  return row;
}

inline void float_one(const Job& job, const Layout& l, int32_t row, int32_t token) {
  Stretch stretch;
  row = float_tiles<4>(job, l, row, token, stretch);
  row = float_tiles<2>(job, l, row, token, stretch);
  float_tiles<1>(job, l, row, token, stretch);
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
  if (w->kind == kBilevel) return bilevel_rows(w, x, token0, token1, row0, row1, out);
  if (!is_tiled(w->kind)) return structure_rows(w, x, token0, token1, row0, row1, out);
  const Job job{w, x, row1, out, nullptr, 0};
  if (is_int8(w->kind)) integer_rows(job, token0, token1, row0);
  else float_rows(job, token0, token1, row0);
}

}  // namespace
}  // namespace intaglio
