// q.k of T query rows and a page's keys; a vector of K is unpacked once for all of them.
#pragma once
#include "rows.h"

namespace intaglio {
namespace {

template <int T, class Number>
void float_scores(const Block& b, const Number* keys, int32_t r, float* p) {
  VF sum[T];
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) sum[t] = setf(0);
  for (int32_t d = 0; d < b.a->layout->head_dim; ++d) {
    const VF k = load_number(keys + d * L);
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) sum[t] = fma(setf(b.s->q[r + t][d]), k, sum[t]);
  }
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) storef(p + t * kPage, mulf(sum[t], setf(b.scale)));
}

// Scores of T rows and R tiles of L tokens: q_scale * s * (codes.q - z * q_sum).
template <int T, int R>
void coded_scores(const Block& b, const uint8_t* keys, const uint16_t* scale, const uint16_t* zero, int32_t r, float* p) {
  const PageLayout* l = b.a->layout;
  const Streams streams{keys, key_tile_bytes(l), b.q8 + r * query_bytes(l), query_bytes(l)};
  const int32_t offset = l->bits == 8 ? kOffset8 : 0;
  VI acc[R][T];
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) acc[i / T][i % T] = seti(offset * b.s->q_sum[r + i % T]);
  if (l->bits == 8) dot_vectors8(streams, key_vectors(l), acc);
  else dot_run<false>(streams, 0, key_vectors(l), acc, plainly);
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) {
    const int n = i / T, t = i % T;
    const VF s = load_half(scale + n * L), z = load_half(zero + n * L);
    const VF level = fnma(z, setf(float(b.s->q_sum[r + t])), to_float(acc[n][t]));
    storef(p + t * kPage + n * L, mulf(mulf(level, s), setf(b.s->q_scale[r + t] * b.scale)));
  }
}

// Few rows leave registers for two tiles, which share the loads of q.
template <int T>
void score_rows(const Block& b, const uint8_t* page, int32_t r) {
  constexpr int R = T <= 4 ? 2 : 1;
  const PageLayout* l = b.a->layout;
  const uint8_t* codes = head_codes(l, page, b.a->kv_head);
  for (int32_t j = 0; j < kPage / L; ++j) {
    const uint8_t* keys = codes + j * key_tile_bytes(l);
    float* p = b.s->p[r] + j * L;
    if (r == 0) ask_for(b.next_k, j * key_tile_bytes(l), key_tile_bytes(l));
    if (l->bits == 32) float_scores<T>(b, reinterpret_cast<const float*>(keys), r, p);
    else if (l->bits == 16) float_scores<T>(b, reinterpret_cast<const uint16_t*>(keys), r, p);
    else if (j % R == 0) coded_scores<T, R>(b, keys, head_scales(l, page, b.a->kv_head) + j * L,
                                            head_zeros(l, page, b.a->kv_head) + j * L, r, p);
  }
}

}  // namespace
}  // namespace intaglio
