// W x for float activations. One token: codes or values of four tiles stream through registers once. More: a block of
// columns of two tiles becomes float32 [columns][L] in the first-level cache, once for up to kMostTokens tokens, and a
// block of T tokens x 2 tiles accumulates in registers. float32 matrices lie that way already and are read in place.
#pragma once
#include "integer.h"

namespace intaglio {
namespace {

constexpr int kPanel = 256;      // columns made float at a time, a multiple of 8
constexpr int kMostTokens = (127 / kFloatTokens + 1) * kFloatTokens;  // whose partial sums are kept between panels
constexpr int kPairs = 4;  // of tiles sharing a panel of activations

template <int32_t Kind>
INTAGLIO_INLINE VF load_plain(const uint8_t* codes, int64_t k) {
  if constexpr (Kind == kF32) return loadf(reinterpret_cast<const float*>(codes) + k * L);
  else if constexpr (Kind == kF16) return load_half(reinterpret_cast<const uint16_t*>(codes) + k * L);
  else return load_bfloat(reinterpret_cast<const uint16_t*>(codes) + k * L);
}

template <int Bits, int J>
INTAGLIO_INLINE VF code(VI v) {
  const VI code = shr<Bits * J>(v);
  return to_float(J == 32 / Bits - 1 ? code : andi(code, seti((1 << Bits) - 1)));
}

// One token times T tiles. A lane's sum takes the columns in their order and each weight rounded as a panel holds it:
// the arithmetic is that of float_block, so a token's result does not depend on how many share the call.
template <int32_t Kind, int T>
void plain_vectors(const Matrix* w, const Tile (&tile)[T], const float* x, VF (&sum)[T]) {
  constexpr int kStep = 8;
  int64_t k = 0;
  const auto column = [&](int64_t at) __attribute__((always_inline)) {
    const VF v = setf(x[at]);
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) sum[i] = fma(load_plain<Kind>(tile[i].codes, at), v, sum[i]);
  };
  for (; k + kStep <= w->cols; k += kStep) {
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) prefetch(tile[i].codes + k * L * (Kind == kF32 ? 4 : 2) + kAhead);
    INTAGLIO_UNROLL
    for (int i = 0; i < kStep; ++i) column(k + i);
  }
  for (; k < w->cols; ++k) column(k);
}

template <int Bits, int J = 0>
INTAGLIO_INLINE void multiply_codes(VI v, VF scale, VF shift, const float* x, VF& sum) {
  if constexpr (J < 32 / Bits) {
    sum = fma(fma(code<Bits, J>(v), scale, shift), setf(x[J]), sum);
    multiply_codes<Bits, J + 1>(v, scale, shift, x, sum);
  }
}

template <int Bits, int T>
void coded_vectors(const Matrix* w, const Tile (&tile)[T], const float* x, VF (&sum)[T]) {
  constexpr int N = 32 / Bits;
  for (int64_t k = 0, g = 0; k < w->cols; ++g) {
    VF scale[T], shift[T];
    INTAGLIO_UNROLL
    for (int i = 0; i < T; ++i) {
      scale[i] = loadf(tile[i].scales + g * L);
      shift[i] = fnma(to_float(load_u8(tile[i].zeros + g * L)), scale[i], setf(0));
    }
    const int64_t end = (g + 1) * w->group < w->cols ? (g + 1) * w->group : w->cols;
    for (; k < end; k += N) {  // past the last column x is zero
      INTAGLIO_UNROLL
      for (int i = 0; i < T; ++i) {
        const uint8_t* codes = tile[i].codes + k / N * kVector;
        prefetch(codes + kAhead);
        multiply_codes<Bits>(loadi(codes), scale[i], shift[i], x + k, sum[i]);
      }
    }
  }
}

template <int T>
void float_vectors(const Matrix* w, const Tile (&tile)[T], const float* x, VF (&sum)[T]) {
  switch (w->kind) {
    case kF32: return plain_vectors<kF32>(w, tile, x, sum);
    case kF16: return plain_vectors<kF16>(w, tile, x, sum);
    case kBF16: return plain_vectors<kBF16>(w, tile, x, sum);
    case kW4: return coded_vectors<4>(w, tile, x, sum);
    default: return coded_vectors<8>(w, tile, x, sum);
  }
}

template <int32_t Kind>
void plain_panel(const Tile& tile, int64_t k0, int64_t n, float* panel) {
  for (int64_t k = 0; k < n; ++k) storef(panel + k * L, load_plain<Kind>(tile.codes, k0 + k));
}

template <int Bits, int J = 0>
INTAGLIO_INLINE void store_codes(VI v, VF scale, VF shift, float* panel) {
  if constexpr (J < 32 / Bits) {
    storef(panel + J * L, fma(code<Bits, J>(v), scale, shift));
    store_codes<Bits, J + 1>(v, scale, shift, panel);
  }
}

template <int Bits>
void coded_panel(const Matrix* w, const Tile& tile, int64_t k0, int64_t n, float* panel) {
  constexpr int N = 32 / Bits;
  for (int64_t k = k0; k < k0 + n;) {
    const int64_t g = k / w->group, end = (g + 1) * w->group < k0 + n ? (g + 1) * w->group : k0 + n;
    const VF scale = loadf(tile.scales + g * L), shift = fnma(to_float(load_u8(tile.zeros + g * L)), scale, setf(0));
    for (; k < end; k += N) store_codes<Bits>(loadi(tile.codes + k / N * kVector), scale, shift, panel + (k - k0) * L);
  }
}

// Columns [k0, k0 + n) of a tile as float32 [n][L]: in place, or made in `panel`, which has room for whole vectors.
inline const float* float_panel(const Matrix* w, const Tile& tile, int64_t k0, int64_t n, float* panel) {
  switch (w->kind) {
    case kF32: return reinterpret_cast<const float*>(tile.codes) + k0 * L;
    case kF16: return plain_panel<kF16>(tile, k0, n, panel), panel;
    case kBF16: return plain_panel<kBF16>(tile, k0, n, panel), panel;
    case kW4: return coded_panel<4>(w, tile, k0, n, panel), panel;
    default: return coded_panel<8>(w, tile, k0, n, panel), panel;
  }
}

// Two tiles' panels, and the two that are wanted after them.
struct Panels {
  const float *a, *b, *next_a, *next_b;
};

// part[t][0..2L) += two panels times T tokens' columns, `kPanel` apart. `Fetch`: read the next panels ahead.
template <int T, bool Fetch>
void float_block(const Panels& p, int64_t n, const float* x, float* part) {
  VF sum[T][2];
  const float* token[T];
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    sum[t][0] = loadf(part + t * 2 * L), sum[t][1] = loadf(part + t * 2 * L + L);
    token[t] = x + t * kPanel;
  }
  for (int64_t k = 0; k < n; ++k) {
    const VF a = loadf(p.a + k * L), b = loadf(p.b + k * L);
    if (Fetch) prefetch(p.next_a + k * L), prefetch(p.next_b + k * L);
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const VF v = setf(token[t][k]);
      sum[t][0] = fma(a, v, sum[t][0]);
      sum[t][1] = fma(b, v, sum[t][1]);
    }
  }
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) storef(part + t * 2 * L, sum[t][0]), storef(part + t * 2 * L + L, sum[t][1]);
}

// As many blocks of T tokens as there are from token `t` on; the very first fetches ahead.
template <int T>
int32_t float_blocks(const Panels& p, int64_t n, const float* x, int32_t t, int32_t tokens, float* part) {
  if (t == 0 && T <= tokens) float_block<T, true>(p, n, x, part), t = T;
  for (; t + T <= tokens; t += T) float_block<T, false>(p, n, x + t * kPanel, part + t * 2 * L);
  return t;
}

inline void float_tokens(const Panels& p, int64_t n, const float* x, int32_t tokens, float* part) {
  int32_t t = float_blocks<kFloatTokens>(p, n, x, 0, tokens, part);
  t = float_blocks<4>(p, n, x, t, tokens, part);
  t = float_blocks<2>(p, n, x, t, tokens, part);
  float_blocks<1>(p, n, x, t, tokens, part);
}

// The tokens' columns [k, k + n) side by side: at their own stride, often a power of two, they evict one another.
inline void gather(const Activations* x, int32_t token, int32_t tokens, int64_t k, int64_t n, float* to) {
  for (int32_t t = 0; t < tokens; ++t) memcpy(to + t * kPanel, x->f + (token + t) * x->ldf + k, size_t(n) * 4);
}

// Up to kPairs pairs of tiles from `row` on, which share the gathered activations.
inline void float_matrix(const Job& job, const Layout& l, int32_t row, int32_t token, int32_t tokens) {
  alignas(64) float panel[2][kPanel * L];
  alignas(64) float part[kPairs][kMostTokens * 2 * L];
  alignas(64) float x[kMostTokens * kPanel];
  const int pairs = int(div_up(job.row1 - row, 2 * L)) < kPairs ? int(div_up(job.row1 - row, 2 * L)) : kPairs;
  for (int i = 0; i < pairs; ++i) memset(part[i], 0, size_t(tokens) * 2 * L * sizeof(float));
  for (int64_t k = 0; k < job.w->cols; k += kPanel) {
    const int64_t n = k + kPanel < job.w->cols ? kPanel : job.w->cols - k;
    gather(job.x, token, tokens, k, n, x);
    for (int i = 0; i < pairs; ++i) {
      const Tile t0 = tile_at(job.w, l, row + 2 * i * L), t1 = tile_at(job.w, l, row + (2 * i + 1) * L);
      const float *a = float_panel(job.w, t0, k, n, panel[0]), *b = float_panel(job.w, t1, k, n, panel[1]);
      const int64_t next = job.w->kind == kF32 ? 2 * l.bytes / int64_t(sizeof(float)) : 0;  // made panels are near
      float_tokens({a, b, a + next, b + next}, n, x, tokens, part[i]);
    }
  }
  for (int i = 0; i < pairs; ++i)
    for (int32_t t = 0; t < tokens; ++t)
      for (int r = 0; r < 2; ++r)
        emit(job.out, token + t, row + (2 * i + r) * L, job.row1, loadf(part[i] + (2 * t + r) * L));
}

template <int T>
int32_t float_tiles(const Job& job, const Layout& l, int32_t row, int32_t token) {
  for (; row + (T - 1) * L < job.row1; row += T * L) {
    Tile tile[T];
    VF sum[T];
    for (int i = 0; i < T; ++i) tile[i] = tile_at(job.w, l, row + i * L), sum[i] = setf(0);
    float_vectors<T>(job.w, tile, job.x->f + token * job.x->ldf, sum);
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
  const Job job{w, x, row1, out, nullptr, 0};
  if (is_int8(w->kind)) integer_rows(job, token0, token1, row0);
  else float_rows(job, token0, token1, row0);
}

}  // namespace
}  // namespace intaglio
