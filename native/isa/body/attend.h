// Attention over pages. Query rows (token, head of the group) are taken kRows at a time; for each page: scores of all
// rows (integer for coded pages: q is int8 per row), mask, online softmax, then p.v with V's scale folded into p.
// A vector of K or V is unpacked once for kTogether rows. sum_t p s (code - z) = sum_t (p s) code - sum_t p s z, and the
// second sum is one number a row.
#pragma once
#include "pages.h"

namespace intaglio {
namespace {

constexpr int kRows = 48, kTogether = kFloatTokens;

// Lies in the caller's scratch, followed by the rows of q codes and the unfinished outputs.
struct AttendState {
  float p[kRows][kPage];  // scores, then probabilities times V's scale
  float most[kRows], sum[kRows], keep[kRows], offset[kRows], q_scale[kRows];
  int32_t q_sum[kRows], begin[kRows], end[kRows];
  const float* q[kRows];
};

inline int64_t query_bytes(const PageLayout* l) { return round_up(l->head_dim, 64); }
inline int64_t out_floats(const PageLayout* l) { return round_up(l->head_dim, 2 * L); }

inline size_t attend_scratch(const PageLayout* l, int32_t, int32_t) {
  return size_t(round_up(sizeof(AttendState), 64) + kRows * (query_bytes(l) + 4 * out_floats(l)));
}

struct Block {
  const Attend* a;
  AttendState* s;
  int8_t* q8;
  float* out;
  int32_t rows;
};

// Keys that row r may see, as absolute positions.
inline void set_range(const Attend* a, AttendState* s, int32_t r, int32_t query) {
  const int32_t p = a->position + query, first = a->window > 0 && p >= a->window ? p - a->window + 1 : 0;
  s->begin[r] = first > a->key_begin ? first : a->key_begin;
  s->end[r] = p < a->key_end ? p + 1 : a->key_end;
}

inline void start_rows(const Block& b, int64_t row0) {
  const int32_t dim = b.a->layout->head_dim;
  for (int32_t r = 0; r < b.rows; ++r) {
    const int64_t query = (row0 + r) / b.a->rep, head = (row0 + r) % b.a->rep;
    b.s->q[r] = b.a->q + query * b.a->ldq + head * dim;
    b.s->most[r] = -INFINITY, b.s->sum[r] = 0, b.s->q_scale[r] = 1;
    set_range(b.a, b.s, r, int32_t(query));
    if (!is_coded(b.a->layout)) continue;
    quantize(b.s->q[r], dim, dim, b.q8 + r * query_bytes(b.a->layout), &b.s->q_scale[r], &b.s->q_sum[r]);
  }
  memset(b.out, 0, size_t(b.rows * out_floats(b.a->layout)) * 4);
}

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
  for (int t = 0; t < T; ++t) storef(p + t * kPage, mulf(sum[t], setf(b.a->scale)));
}

// Scores of T rows and L tokens: q_scale * s * (codes.q - z * q_sum).
template <int T>
void coded_scores(const Block& b, const uint8_t* keys, const uint16_t* scale, const uint16_t* zero, int32_t r, float* p) {
  const PageLayout* l = b.a->layout;
  const Streams streams{keys, 0, b.q8 + r * query_bytes(l), query_bytes(l)};
  const int32_t offset = l->bits == 8 ? kOffset8 : 0;
  VI acc[1][T];
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) acc[0][t] = seti(offset * b.s->q_sum[r + t]);
  if (l->bits == 8) dot_vectors8(streams, key_vectors(l), acc);
  else dot_run<false>(streams, 0, key_vectors(l), acc,
               [](VI a, Dots d, int) __attribute__((always_inline)) { return flush(a, d); });
  const VF s = load_half(scale), z = load_half(zero);
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    const VF level = fnma(z, setf(float(b.s->q_sum[r + t])), to_float(acc[0][t]));
    storef(p + t * kPage, mulf(mulf(level, s), setf(b.s->q_scale[r + t] * b.a->scale)));
  }
}

template <int T>
void score_rows(const Block& b, const uint8_t* page, int32_t r) {
  const PageLayout* l = b.a->layout;
  const uint8_t* codes = head_codes(l, page, b.a->kv_head);
  for (int32_t j = 0; j < kPage / L; ++j) {
    const uint8_t* keys = codes + j * key_tile_bytes(l);
    float* p = b.s->p[r] + j * L;
    if (l->bits == 32) float_scores<T>(b, reinterpret_cast<const float*>(keys), r, p);
    else if (l->bits == 16) float_scores<T>(b, reinterpret_cast<const uint16_t*>(keys), r, p);
    else coded_scores<T>(b, keys, head_scales(l, page, b.a->kv_head) + j * L,
                         head_zeros(l, page, b.a->kv_head) + j * L, r, p);
  }
}

// A page's visible slots of a row.
struct Span {
  int32_t begin, end;
};

inline Span visible(const Block& b, int32_t r, int32_t page) {
  const int32_t first = page * kPage, lo = b.s->begin[r] - first, hi = b.s->end[r] - first;
  const Span s{lo > 0 ? lo : 0, hi < kPage ? hi : kPage};
  return s.begin < s.end ? s : Span{0, 0};
}

inline void mask(float* p, Span s) {
  for (int32_t i = 0; i < s.begin; ++i) p[i] = -INFINITY;
  for (int32_t i = s.end; i < kPage; ++i) p[i] = -INFINITY;
}

// Scores become p times V's scale; remembers how much of the earlier sum is kept and what the zero points take away.
inline void soften(const Block& b, int32_t r, Span s, const uint16_t* scale, const uint16_t* zero) {
  float* p = b.s->p[r];
  b.s->keep[r] = 1, b.s->offset[r] = 0;
  if (s.begin == s.end) return (void)memset(p, 0, kPage * sizeof(float));
  if (b.a->softcap > 0) softcap(p, kPage, b.a->softcap);
  mask(p, s);
  VF top = loadf(p);
  for (int32_t i = L; i < kPage; i += L) top = maxf(top, loadf(p + i));
  const float highest = most(top), now = highest > b.s->most[r] ? highest : b.s->most[r];
  if (now != b.s->most[r]) b.s->keep[r] = expf(b.s->most[r] - now);
  b.s->most[r] = now;
  VF total = setf(0), offset = setf(0);
  for (int32_t i = 0; i < kPage; i += L) {
    VF e = exp(subf(loadf(p + i), setf(now)));
    total = addf(total, e);
    if (scale) {
      e = mulf(e, load_half(scale + i));
      offset = less(setf(0), e, fma(e, load_half(zero + i), offset), offset);  // unwritten slots may hold anything
    }
    storef(p + i, e);
  }
  b.s->sum[r] = b.s->sum[r] * b.s->keep[r] + sum(total);
  b.s->offset[r] = sum(offset);
}

// The two vectors of channels of block c of a token's V.
template <int Bits>
INTAGLIO_INLINE void load_values(const uint8_t* v, int64_t c, VF* low, VF* high) {
  if constexpr (Bits == 4) {
    const VI codes = load_u8(v + c * L);
    *low = to_float(andi(codes, seti(15))), *high = to_float(shr<4>(codes));
  } else if constexpr (Bits == 8) {
    *low = to_float(load_u8(v + c * 2 * L)), *high = to_float(load_u8(v + c * 2 * L + L));
  } else if constexpr (Bits == 16) {
    const auto* h = reinterpret_cast<const uint16_t*>(v) + c * 2 * L;
    *low = load_half(h), *high = load_half(h + L);
  } else {
    const auto* f = reinterpret_cast<const float*>(v) + c * 2 * L;
    *low = loadf(f), *high = loadf(f + L);
  }
}

template <int T, int Bits>
void weigh_block(const Block& b, const uint8_t* v, int64_t c, int32_t r, Span s) {
  const int64_t stride = value_bytes(b.a->layout), ld = out_floats(b.a->layout);
  float* out = b.out + r * ld + c * 2 * L;
  VF low[T], high[T];
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    const VF keep = setf(b.s->keep[r + t]), offset = setf(b.s->offset[r + t]);
    low[t] = subf(mulf(loadf(out + t * ld), keep), offset);
    high[t] = subf(mulf(loadf(out + t * ld + L), keep), offset);
  }
  for (int32_t i = s.begin; i < s.end; ++i) {
    VF a, z;
    load_values<Bits>(v + i * stride, c, &a, &z);
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const VF p = setf(b.s->p[r + t][i]);
      low[t] = fma(p, a, low[t]), high[t] = fma(p, z, high[t]);
    }
  }
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) storef(out + t * ld, low[t]), storef(out + t * ld + L, high[t]);
}

template <int T>
void weigh_rows(const Block& b, const uint8_t* page, int32_t r, Span s) {
  const uint8_t* v = head_codes(b.a->layout, page, b.a->kv_head);
  for (int64_t c = 0; c < out_floats(b.a->layout) / (2 * L); ++c) {
    if (b.a->layout->bits == 4) weigh_block<T, 4>(b, v, c, r, s);
    else if (b.a->layout->bits == 8) weigh_block<T, 8>(b, v, c, r, s);
    else if (b.a->layout->bits == 16) weigh_block<T, 16>(b, v, c, r, s);
    else weigh_block<T, 32>(b, v, c, r, s);
  }
}

template <class F>
INTAGLIO_INLINE void by_rows(int32_t rows, const F& f) {
  int32_t r = 0;
  for (; r + kTogether <= rows; r += kTogether) f.template operator()<kTogether>(r);
  for (; r + 4 <= rows; r += 4) f.template operator()<4>(r);
  if (rows - r == 3) f.template operator()<3>(r);
  if (rows - r == 2) f.template operator()<2>(r);
  if (rows - r == 1) f.template operator()<1>(r);
}

inline void attend_page(const Block& b, int32_t page) {
  const Attend* a = b.a;
  const auto *k = static_cast<const uint8_t*>(a->k_pages[page]), *v = static_cast<const uint8_t*>(a->v_pages[page]);
  by_rows(b.rows, [&]<int T>(int32_t r) { score_rows<T>(b, k, r); });
  const bool coded = is_coded(a->layout);
  Span all{kPage, 0};
  for (int32_t r = 0; r < b.rows; ++r) {
    const Span s = visible(b, r, page);
    soften(b, r, s, coded ? head_scales(a->layout, v, a->kv_head) : nullptr,
           coded ? head_zeros(a->layout, v, a->kv_head) : nullptr);
    if (s.begin < s.end) all = {s.begin < all.begin ? s.begin : all.begin, s.end > all.end ? s.end : all.end};
  }
  by_rows(b.rows, [&]<int T>(int32_t r) { weigh_rows<T>(b, v, r, all); });
}

inline void finish_rows(const Block& b, int64_t row0) {
  const Attend* a = b.a;
  const int32_t dim = a->layout->head_dim;
  for (int32_t r = 0; r < b.rows; ++r) {
    const int64_t query = (row0 + r) / a->rep, head = (row0 + r) % a->rep;
    float* to = a->out + query * a->ldo + head * dim;
    const float* from = b.out + r * out_floats(a->layout);
    const float scale = a->partial || b.s->sum[r] == 0 ? 1 : 1 / b.s->sum[r];
    map(from, from, dim, to, [&](VF x, VF) { return mulf(x, setf(scale)); });
    if (!a->partial) continue;
    a->partial[2 * (row0 + r)] = b.s->most[r];
    a->partial[2 * (row0 + r) + 1] = b.s->sum[r];
  }
}

inline void attend(const Attend* a) {
  auto* bytes = static_cast<uint8_t*>(a->scratch);
  auto* q8 = reinterpret_cast<int8_t*>(bytes + round_up(sizeof(AttendState), 64));
  auto* out = reinterpret_cast<float*>(q8 + kRows * query_bytes(a->layout));
  const int64_t rows = int64_t(a->queries) * a->rep;
  for (int64_t row0 = 0; row0 < rows; row0 += kRows) {
    const Block b{a, reinterpret_cast<AttendState*>(bytes), q8, out, int32_t(rows - row0 < kRows ? rows - row0 : kRows)};
    start_rows(b, row0);
    const int32_t begin = b.s->begin[0], end = b.s->end[b.rows - 1];  // both grow with the row
    for (int32_t page = begin / kPage; page * kPage < end && begin < end; ++page) attend_page(b, page);
    finish_rows(b, row0);
  }
}

}  // namespace
}  // namespace intaglio
