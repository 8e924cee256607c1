// Probabilities of T query rows times a page's V. Plain V is multiplied in float32. Codes are multiplied as integers:
// sum_t p s (code - z) = sum_t (p s) code - sum_t p s z, where p s is rounded to 16 bits of the most it could be in the page and the
// second sum is one number a row, taken off at the end.
#pragma once
#include "rows.h"

namespace intaglio {
namespace {

constexpr float kMostShift = 100;     // of a page's probabilities: below 2^-100 they need not be told apart
constexpr int32_t kMiddle = 1 << 15;  // taken off the probabilities' integers: 16-bit products are signed

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

// V's scales and zero points of a page, ready for every row; slots that nobody wrote may hold anything and become 0.
inline void open_values(const Block& b, const uint8_t* page, int32_t slots) {
  AttendState* s = b.s;
  const uint16_t *scale = head_scales(b.a->layout, page, b.a->kv_head), *zero = head_zeros(b.a->layout, page, b.a->kv_head);
  for (int32_t i = 0; i < kPage; i += L) storef(s->v_scale + i, load_half(scale + i)), storef(s->v_zero + i, load_half(zero + i));
  for (int32_t i = slots; i < kPage; ++i) s->v_scale[i] = s->v_zero[i] = 0;
  VF broken = setf(0), top = setf(0);
  for (int32_t i = 0; i < kPage; i += L) {
    const VF scale = loadf(s->v_scale + i);
    broken = addf(broken, subf(scale, scale)), top = maxf(top, less(setf(0), scale, scale, setf(0)));
  }
  s->v_broken = sum(broken) != 0;  // a NaN: some slot could not be coded
  s->v_most = most(top);
}

// What the slots that row r sees, and no others, make of a page with a NaN among its scales.
inline void hide_broken(const Block& b, int32_t r, VF (&p)[kPage / L]) {
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) {
    const VF scale = loadf(b.s->v_scale + i * L);
    p[i] = less(setf(0), p[i], mulf(p[i], scale), setf(0));
    storef(b.s->taken[r], addf(loadf(b.s->taken[r]), subf(p[i], p[i])));
    p[i] = less(setf(0), p[i], p[i], setf(0));
  }
}

// The largest scale that a row sees: what it must not see must not matter, not even for rounding.
inline float largest_scale(const Block& b, Span s, const VF (&p)[kPage / L]) {
  if (s.begin == 0 && s.end == kPage) return b.s->v_most;
  VF top = setf(0);
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) top = maxf(top, less(setf(0), p[i], loadf(b.s->v_scale + i * L), setf(0)));
  return most(top);
}

// Probabilities of at most 2^-shift times V's scales become integers n of 16 bits, of which one is worth `p_scale`. What the
// zero points take away is of the integers too, so that rounding weighs v and not its code.
inline void fold_values(const Block& b, int32_t r, Span s, int32_t shift, VF (&p)[kPage / L]) {
  const float largest = largest_scale(b, s, p), step = largest / 65535 * power_of_two(-shift);
  const VF inverse = setf(step > 0 ? 65535 / largest * power_of_two(shift) : 0);
  storef(b.s->taken[r], mulf(loadf(b.s->taken[r]), setf(b.s->keep[r])));
  if (b.s->v_broken) hide_broken(b, r, p);
  VI n[kPage / L];
  VF taken = setf(0);
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) {
    if (!b.s->v_broken) p[i] = mulf(p[i], loadf(b.s->v_scale + i * L));
    n[i] = to_int(mulf(p[i], inverse));
    taken = fma(to_float(n[i]), loadf(b.s->v_zero + i * L), taken);
  }
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L / 2; ++i) {
    const VI low = subi(n[i], seti(kMiddle)), high = subi(n[i + kPage / L / 2], seti(kMiddle));
    storei(b.s->pairs[r] + i * L, addi(andi(low, seti(0xffff)), shl<16>(high)));
  }
  b.s->p_scale[r] = step;
  storef(b.s->taken[r], fma(taken, setf(step), loadf(b.s->taken[r])));
}

// Scores become probabilities; remembers how much of the earlier sum is kept.
template <bool Coded>
inline void soften(const Block& b, int32_t r, Span s) {
  float* p = b.s->p[r];
  b.s->keep[r] = 1;
  if (s.begin == s.end) return hide(b, r);
  if (b.a->softcap > 0) map(p, p, kPage, p, [&](VF v, VF) { return mulf(capped(v, b.a->softcap), setf(kLog2E)); });
  if (s.begin > 0 || s.end < kPage) mask(p, s);
  VF x[kPage / L];
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) x[i] = loadf(p + i * L);
  VF top = x[0];
  INTAGLIO_UNROLL
  for (int i = 1; i < kPage / L; ++i) top = maxf(top, x[i]);
  const float highest = most(top), now = highest > b.s->most[r] ? highest : b.s->most[r];
  if (now != b.s->most[r]) b.s->keep[r] = exp2f(b.s->most[r] - now);
  b.s->most[r] = now;
  VF total = mulf(loadf(b.s->sum[r]), setf(b.s->keep[r]));
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) x[i] = exp2_below(subf(x[i], setf(now))), total = addf(total, x[i]);
  storef(b.s->sum[r], total);
  if constexpr (Coded) return fold_values(b, r, s, int32_t(now - highest < kMostShift ? now - highest : kMostShift), x);
  INTAGLIO_UNROLL
  for (int i = 0; i < kPage / L; ++i) storef(p + i * L, x[i]);
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
    if (r == 0) ask_for(b.next_v, i * stride + c * 2 * L * (Bits / 8), 2 * L * (Bits / 8));
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
  VI low[T], high[T], all_low = seti(0), all_high = seti(0);  // the last two: kMiddle's share, the same for every row
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) low[t] = high[t] = seti(0);
  const uint8_t* at = v + 2 * c * block;
  if (r == 0) ask_for(b.next_v, 2 * c * block, 2 * block);
  for (int32_t j = 0; j < kPage / 2; j += kPairs, at += 4 * L) {
    const VI x = loadi(at), y = loadi(at + block);
    const auto pair = [&]<int K>() __attribute__((always_inline)) {
      const VI a = andi(shr<K * Bits>(x), mask), z = andi(shr<K * Bits>(y), mask);
      all_low = addi(all_low, a), all_high = addi(all_high, z);  // 16 bits are enough for the sums of a page
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t) {
        const VI p = seti(b.s->pairs[r + t][j + K]);
        low[t] = dot16(low[t], a, p), high[t] = dot16(high[t], z, p);
      }
    };
    pair.template operator()<0>(), pair.template operator()<1>();
    if constexpr (kPairs == 4) pair.template operator()<2>(), pair.template operator()<3>();
  }
  const VI both = seti(0x00010001);
  all_low = muli(dot16(seti(0), all_low, both), seti(kMiddle)), all_high = muli(dot16(seti(0), all_high, both), seti(kMiddle));
  float* out = b.out + r * ld + c * 2 * L;
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t, out += ld) {
    const VF keep = setf(b.s->keep[r + t]), scale = setf(b.s->p_scale[r + t]);
    storef(out, fma(to_float(addi(low[t], all_low)), scale, mulf(loadf(out), keep)));
    storef(out + L, fma(to_float(addi(high[t], all_high)), scale, mulf(loadf(out + L), keep)));
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
