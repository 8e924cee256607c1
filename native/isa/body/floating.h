// W x for float activations. One token: codes or values stream through registers once. More: a block of columns of
// two tiles becomes float32 [columns][L] in the first-level cache, once for up to kMostTokens tokens, and a block of
// T tokens x 2 tiles accumulates in registers. float32 matrices lie that way already and are read in place.
#pragma once
#include "integer.h"

namespace intaglio {
namespace {

constexpr int kPanel = 256;      // columns made float at a time, a multiple of 8
constexpr int kMostTokens = 16 * kFloatTokens;  // whose partial sums are kept between panels
constexpr int kPairs = 4;  // of tiles sharing a panel of activations

template <int32_t Kind>
INTAGLIO_INLINE VF load_plain(const uint8_t* codes, int64_t k) {
  if constexpr (Kind == kF32) return loadf(reinterpret_cast<const float*>(codes) + k * L);
  else if constexpr (Kind == kF16) return load_half(reinterpret_cast<const uint16_t*>(codes) + k * L);
  else return load_bfloat(reinterpret_cast<const uint16_t*>(codes) + k * L);
}

template <int32_t Kind>
VF plain_vector(const Matrix* w, const Tile& tile, const float* x) {
  constexpr int kChains = 8;  // independent sums hide the latency of multiply-add
  VF sum[kChains];
  INTAGLIO_UNROLL
  for (int i = 0; i < kChains; ++i) sum[i] = setf(0);
  int64_t k = 0;
  for (; k + kChains <= w->cols; k += kChains) {
    prefetch(tile.codes + k * L * (Kind == kF32 ? 4 : 2) + kAhead);
    INTAGLIO_UNROLL
    for (int i = 0; i < kChains; ++i) sum[i] = fma(load_plain<Kind>(tile.codes, k + i), setf(x[k + i]), sum[i]);
  }
  for (; k < w->cols; ++k) sum[0] = fma(load_plain<Kind>(tile.codes, k), setf(x[k]), sum[0]);
  INTAGLIO_UNROLL
  for (int i = 1; i < kChains; ++i) sum[0] = addf(sum[0], sum[i]);
  return sum[0];
}

// Code j of a lane, left where it stands (times 2^(Bits * j)), except the last, which would be the sign.
template <int Bits, int J>
INTAGLIO_INLINE VF standing_code(VI v) {
  if constexpr (J == 32 / Bits - 1) return to_float(shr<32 - Bits>(v));
  else return to_float(andi(v, seti(int32_t(((1u << Bits) - 1) << (Bits * J)))));
}

template <int Bits, int J>
INTAGLIO_INLINE VF code(VI v) {
  return to_float(andi(shr<Bits * J>(v), seti((1 << Bits) - 1)));
}

template <int Bits, int J = 0>
INTAGLIO_INLINE void multiply_codes(VI v, const float* x, VF (&sum)[32 / Bits]) {
  if constexpr (J < 32 / Bits) {
    sum[J] = fma(standing_code<Bits, J>(v), setf(x[J]), sum[J]);
    multiply_codes<Bits, J + 1>(v, x, sum);
  }
}

// Sums of a group, each position's own power of two taken out again.
template <int Bits>
INTAGLIO_INLINE VF join(const VF (&sum)[32 / Bits]) {
  constexpr int N = 32 / Bits;
  VF total = addf(sum[0], sum[N - 1]);
  float unit = 1;
  INTAGLIO_UNROLL
  for (int j = 1; j < N - 1; ++j) {
    unit /= 1 << Bits;
    total = fma(sum[j], setf(unit), total);
  }
  return total;
}

template <int Bits>
VF coded_vector(const Matrix* w, const Tile& tile, const float* x) {
  constexpr int N = 32 / Bits;
  const int64_t all = code_vectors(w->kind, w->cols), run = div_up(w->group, N);
  VF total = setf(0);
  for (int64_t g = 0, v = 0; v < all; ++g) {
    VF sum[N];
    INTAGLIO_UNROLL
    for (int j = 0; j < N; ++j) sum[j] = setf(0);
    const int64_t begin = v, end = v + run < all ? v + run : all;
    for (; v < end; ++v) {
      prefetch(tile.codes + v * kVector + kAhead);
      multiply_codes<Bits>(loadi(tile.codes + v * kVector), x + v * N, sum);
    }
    float ones = 0;
    VF wide = setf(0);
    int64_t k = begin * N;
    for (; k + L <= end * N; k += L) wide = addf(wide, loadf(x + k));
    for (; k < end * N; ++k) ones += x[k];
    const VF zero = to_float(load_u8(tile.zeros + g * L));
    const VF level = fnma(zero, setf(ones + intaglio::sum(wide)), join<Bits>(sum));
    total = fma(loadf(tile.scales + g * L), level, total);
  }
  return total;
}

inline VF float_vector(const Matrix* w, const Tile& tile, const float* x) {
  switch (w->kind) {
    case kF32: return plain_vector<kF32>(w, tile, x);
    case kF16: return plain_vector<kF16>(w, tile, x);
    case kBF16: return plain_vector<kBF16>(w, tile, x);
    case kW4: return coded_vector<4>(w, tile, x);
    default: return coded_vector<8>(w, tile, x);
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

// part[t][0..2L) += two panels times T tokens' columns.
template <int T>
void float_block(const float* p0, const float* p1, int64_t n, const float* x, int64_t ldx, float* part) {
  VF sum[T][2];
  const float* token[T];
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    sum[t][0] = loadf(part + t * 2 * L), sum[t][1] = loadf(part + t * 2 * L + L);
    token[t] = x + t * ldx;
  }
  for (int64_t k = 0; k < n; ++k) {
    const VF a = loadf(p0 + k * L), b = loadf(p1 + k * L);
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

inline void float_tokens(const float* p0, const float* p1, int64_t n, const float* x, int64_t ldx, int32_t tokens,
                         float* part) {
  int32_t t = 0;
  for (; t + kFloatTokens <= tokens; t += kFloatTokens)
    float_block<kFloatTokens>(p0, p1, n, x + t * ldx, ldx, part + t * 2 * L);
  for (; t + 2 <= tokens; t += 2) float_block<2>(p0, p1, n, x + t * ldx, ldx, part + t * 2 * L);
  if (t < tokens) float_block<1>(p0, p1, n, x + t * ldx, ldx, part + t * 2 * L);
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
      const float *p0 = float_panel(job.w, t0, k, n, panel[0]), *p1 = float_panel(job.w, t1, k, n, panel[1]);
      float_tokens(p0, p1, n, x, kPanel, tokens, part[i]);
    }
  }
  for (int i = 0; i < pairs; ++i)
    for (int32_t t = 0; t < tokens; ++t)
      for (int r = 0; r < 2; ++r)
        emit(job.out, token + t, row + (2 * i + r) * L, job.row1, loadf(part[i] + (2 * t + r) * L));
}

inline void float_one(const Job& job, const Layout& l, int32_t row, int32_t token) {
  for (; row < job.row1; row += L) {
    const VF v = float_vector(job.w, tile_at(job.w, l, row), job.x->f + token * job.x->ldf);
    emit(job.out, token, row, job.row1, v);
  }
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
