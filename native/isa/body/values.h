// Probabilities of T query rows times a page's V. Plain V is multiplied in float32. Codes are multiplied as integers:
// sum_t p s (code - z) = sum_t (p s) code - sum_t p s z, where p s is rounded to 15 bits of the page's largest and the
// second sum is one number a row.
#pragma once
#include "rows.h"

namespace intaglio {
namespace {

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

inline void hide(const Block& b, int32_t r) {
  b.s->p_scale[r] = 0;
  memset(b.s->p[r], 0, sizeof b.s->p[r]), memset(b.s->pairs[r], 0, sizeof b.s->pairs[r]);
}

// Scores become probabilities; remembers how much of the earlier sum is kept.
inline void soften(const Block& b, int32_t r, Span s) {
  float* p = b.s->p[r];
  b.s->keep[r] = 1, b.s->offset[r] = 0;
  if (s.begin == s.end) return hide(b, r);
  if (b.a->softcap > 0) softcap(p, kPage, b.a->softcap);
  if (s.begin > 0 || s.end < kPage) mask(p, s);
  VF x[kPage / L];
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) x[i] = loadf(p + i * L);
  VF top = x[0];
  INTAGLIO_UNROLL
  for (int i = 1; i < kPage / L; ++i) top = maxf(top, x[i]);
  const float highest = most(top), now = highest > b.s->most[r] ? highest : b.s->most[r];
  if (now != b.s->most[r]) b.s->keep[r] = expf(b.s->most[r] - now);
  b.s->most[r] = now;
  VF total = mulf(loadf(b.s->sum[r]), setf(b.s->keep[r]));
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) {
    const VF e = exp_below(subf(x[i], setf(now)));
    total = addf(total, e);
    storef(p + i * L, e);
  }
  storef(b.s->sum[r], total);
}

// Folds V's scales into a row's probabilities and makes them integers: `p_scale` is the largest over 32767. What the
// zero points take away is of the integers too, so that rounding weighs v and not its code. A NaN among the scales
// reaches `offset`; slots that nobody wrote may hold one: theirs stay 0.
inline void fold_values(const Block& b, int32_t r, const uint16_t* scale, const uint16_t* zero) {
  VF p[kPage / L], top = setf(0), broken = setf(0), taken = setf(0);
  VI n[kPage / L];
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) {
    const VF e = loadf(b.s->p[r] + i * L);
    p[i] = less(setf(0), e, mulf(e, load_half(scale + i * L)), setf(0));
    broken = addf(broken, subf(p[i], p[i])), top = maxf(top, p[i]);
  }
  const float largest = most(top);
  const VF step = setf(largest / 32767), inverse = setf(largest > 0 ? 32767 / largest : 0);
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) {
    n[i] = to_int(mulf(p[i], inverse));
    const VF whole = to_float(n[i]);
    taken = less(setf(0), whole, fma(whole, load_half(zero + i * L), taken), taken);
  }
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L / 2; ++i) storei(b.s->pairs[r] + i * L, addi(n[i], shl<16>(n[i + kPage / L / 2])));
  b.s->p_scale[r] = largest / 32767, b.s->offset[r] = sum(fma(taken, step, broken));
}

// The two vectors of channels of block c of a token's V.
template <int Bits>
INTAGLIO_INLINE void load_values(const uint8_t* v, int64_t c, VF* low, VF* high) {
  if constexpr (Bits == 16) {
    const auto* h = reinterpret_cast<const uint16_t*>(v) + c * 2 * L;
    *low = load_half(h), *high = load_half(h + L);
  } else {
    const auto* f = reinterpret_cast<const float*>(v) + c * 2 * L;
    *low = loadf(f), *high = loadf(f + L);
  }
}

template <int T, int Bits>
void weigh_plain(const Block& b, const uint8_t* v, int64_t c, int32_t r, Span s) {
  const int64_t stride = value_bytes(b.a->layout), ld = out_floats(b.a->layout);
  float* out = b.out + r * ld + c * 2 * L;
  VF low[T], high[T];
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    const VF keep = setf(b.s->keep[r + t]);
    low[t] = mulf(loadf(out + t * ld), keep), high[t] = mulf(loadf(out + t * ld + L), keep);
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

// A lane of codes gives up two slots at a time, half a page apart, as two numbers of 16 bits.
template <int T, int Bits>
void weigh_coded(const Block& b, const uint8_t* v, int64_t c, int32_t r) {
  constexpr int kPairs = 16 / Bits;
  const int64_t block = value_block_bytes(b.a->layout), ld = out_floats(b.a->layout);
  const VI mask = seti(Bits == 4 ? 0x000f000f : 0x00ff00ff);
  VI low[T], high[T];
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) low[t] = high[t] = seti(0);
  const uint8_t* at = v + 2 * c * block;
  for (int32_t j = 0; j < kPage / 2; j += kPairs, at += 4 * L) {
    const VI x = loadi(at), y = loadi(at + block);
    const auto pair = [&]<int K>() __attribute__((always_inline)) {
      const VI a = andi(shr<K * Bits>(x), mask), z = andi(shr<K * Bits>(y), mask);
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t) {
        const VI p = seti(b.s->pairs[r + t][j + K]);
        low[t] = dot16(low[t], a, p), high[t] = dot16(high[t], z, p);
      }
    };
    pair.template operator()<0>(), pair.template operator()<1>();
    if constexpr (kPairs == 4) pair.template operator()<2>(), pair.template operator()<3>();
  }
  float* out = b.out + r * ld + c * 2 * L;
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t, out += ld) {
    const VF keep = setf(b.s->keep[r + t]), offset = setf(b.s->offset[r + t]), scale = setf(b.s->p_scale[r + t]);
    storef(out, fma(to_float(low[t]), scale, subf(mulf(loadf(out), keep), offset)));
    storef(out + L, fma(to_float(high[t]), scale, subf(mulf(loadf(out + L), keep), offset)));
  }
}

template <int T>
void weigh_rows(const Block& b, const uint8_t* page, int32_t r, Span s) {
  const uint8_t* v = head_codes(b.a->layout, page, b.a->kv_head);
  for (int64_t c = 0; c < out_floats(b.a->layout) / (2 * L); ++c) {
    if (b.a->layout->bits == 4) weigh_coded<T, 4>(b, v, c, r);
    else if (b.a->layout->bits == 8) weigh_coded<T, 8>(b, v, c, r);
    else if (b.a->layout->bits == 16) weigh_plain<T, 16>(b, v, c, r, s);
    else weigh_plain<T, 32>(b, v, c, r, s);
  }
}

}  // namespace
}  // namespace intaglio
