// Functions of one token's vector, and the exponential they and attention share.
#pragma once
#include <math.h>

#include "integer.h"

namespace intaglio {
namespace {

INTAGLIO_INLINE VF absolute(VF x) { return as_float(andi(as_int(x), seti(0x7fffffff))); }
INTAGLIO_INLINE VF negative(VF x) { return subf(setf(0), x); }

constexpr float kLog2E = 1.44269504f, kLog2ELess = 1.925963e-8f;  // the second: what the first lacks

#ifndef INTAGLIO_HAS_EXPONENT
// t as a whole number and a rest of at most a half, for t up to 127.5; 2^whole is 0 from -127 down.
struct Exponent {
  VI whole;
  VF rest;

  INTAGLIO_INLINE explicit Exponent(VF t) {
    const VF y = maxf(setf(-127), t);  // in this order it keeps NaN
    whole = to_int(y), rest = subf(y, to_float(whole));
  }
  INTAGLIO_INLINE VF raise(VF x) const { return mulf(x, as_float(shl<23>(addi(whole, seti(127))))); }  // x * 2^whole
};
#endif

// 2^r for r of about a half at most, relative error below 2e-7; 1 at 0.
INTAGLIO_INLINE VF exp2_near(VF r) {
  VF p = setf(1.326472731e-3f);
  p = fma(p, r, setf(9.671512991e-3f));
  p = fma(p, r, setf(5.550733581e-2f));
  p = fma(p, r, setf(2.402224243e-1f));
  p = fma(p, r, setf(6.931470037e-1f));
  return fma(p, r, setf(1));
}

// 2^t for t up to 127.5; no more than the smallest normal number below -126, 0 at -infinity.
INTAGLIO_INLINE VF exp2_below(VF t) {
  const Exponent e(t);
  return e.raise(exp2_near(e.rest));
}

// e^x for x up to 88.3, as exactly; no more than the smallest normal number below -87.3.
INTAGLIO_INLINE VF exp_below(VF x) {
  const VF y = maxf(setf(-90), x), t = mulf(y, setf(kLog2E));
  const Exponent e(t);
  const VF lost = fma(y, setf(kLog2ELess), fma(y, setf(kLog2E), negative(t)));  // of t, in rounding
  return e.raise(exp2_near(addf(e.rest, lost)));
}

// The same for any x: e^88.3 above that.
INTAGLIO_INLINE VF exp(VF x) { return exp_below(less(setf(88.3f), x, setf(88.3f), x)); }

// tanh: a polynomial where 1 - 2/(e^2x + 1) would cancel.
INTAGLIO_INLINE VF tanh(VF x) {
  const VF square = mulf(x, x);
  VF p = setf(-5.70498872745e-3f);
  p = fma(p, square, setf(2.06390887954e-2f));
  p = fma(p, square, setf(-5.37397155531e-2f));
  p = fma(p, square, setf(1.33314422036e-1f));
  p = fma(p, square, setf(-3.33332819422e-1f));
  const VF near = fma(mulf(x, square), p, x);
  const VF far = subf(setf(1), divf(setf(2), addf(exp(addf(x, x)), setf(1))));
  return less(absolute(x), setf(0.625f), near, far);
}

INTAGLIO_INLINE VF silu(VF x) { return divf(x, addf(setf(1), exp(negative(x)))); }

// x * sigmoid(2u) is 0.5 x (1 + tanh u).
INTAGLIO_INLINE VF gelu_tanh(VF x) {
  const VF u = mulf(setf(2 * 0.79788456f), fma(mulf(setf(0.044715f), mulf(x, x)), x, x));
  return divf(x, addf(setf(1), exp(negative(u))));
}

// 0.5 x erfc(-x/sqrt2); erfc(|z|) after Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
INTAGLIO_INLINE VF gelu(VF x) {
  const VF z = mulf(absolute(x), setf(0.70710678f)), t = divf(setf(1), fma(z, setf(0.3275911f), setf(1)));
  VF p = setf(1.061405429f);
  p = fma(p, t, setf(-1.453152027f));
  p = fma(p, t, setf(1.421413741f));
  p = fma(p, t, setf(-0.284496736f));
  p = fma(p, t, setf(0.254829592f));
  const VF tail = mulf(mulf(mulf(p, t), setf(0.5f)), exp(negative(mulf(z, z))));
  return mulf(x, less(x, setf(0), tail, subf(setf(1), tail)));
}

// out[i] = f(a[i], b[i]) for n elements; the last few go through padded copies.
template <class F>
INTAGLIO_INLINE void map(const float* a, const float* b, int32_t n, float* out, const F& f) {
  int32_t i = 0;
  for (; i + L <= n; i += L) storef(out + i, f(loadf(a + i), loadf(b + i)));
  if (i == n) return;
  float ends[3][L] = {};
  for (int32_t j = 0; i + j < n; ++j) ends[0][j] = a[i + j], ends[1][j] = b[i + j];
  storef(ends[2], f(loadf(ends[0]), loadf(ends[1])));
  for (int32_t j = 0; i + j < n; ++j) out[i + j] = ends[2][j];
}

inline void gate(const float* g, const float* u, int32_t n, int32_t activation, float* out) {
  const auto with = [&](auto act) { map(g, u, n, out, [&](VF a, VF b) { return mulf(act(a), b); }); };
  if (activation == 0) with([](VF x) { return silu(x); });
  else if (activation == 1) with([](VF x) { return gelu_tanh(x); });
  else with([](VF x) { return gelu(x); });
}

inline void axpy(float a, const float* x, int32_t n, float* y) {
  map(x, y, n, y, [&](VF u, VF v) { return fma(setf(a), u, v); });
}

INTAGLIO_INLINE VF capped(VF x, float cap) { return mulf(setf(cap), tanh(divf(x, setf(cap)))); }

inline void softcap(float* x, int32_t n, float cap) {
  map(x, x, n, x, [&](VF v, VF) { return capped(v, cap); });
}

inline void rms_norm(const float* x, const float* weight, int32_t n, float eps, float* out) {
  VF squares = setf(0);
  int32_t i = 0;
  for (; i + L <= n; i += L) squares = fma(loadf(x + i), loadf(x + i), squares);
  float total = sum(squares);
  for (; i < n; ++i) total += x[i] * x[i];
  const VF r = setf(1 / sqrtf(total / float(n) + eps));
  if (weight) map(x, weight, n, out, [&](VF a, VF b) { return mulf(mulf(a, r), b); });
  else map(x, x, n, out, [&](VF a, VF) { return mulf(a, r); });
}

inline void rope(float* head, const float* cos, const float* sin, int32_t dim) {
  const int32_t half = dim / 2;
  int32_t i = 0;
  for (; i + L <= half; i += L) {
    const VF a = loadf(head + i), b = loadf(head + half + i), c = loadf(cos + i), s = loadf(sin + i);
    storef(head + i, fnma(b, s, mulf(a, c)));
    storef(head + half + i, fma(a, s, mulf(b, c)));
  }
  for (; i < half; ++i) {
    const float a = head[i], b = head[half + i];
    head[i] = a * cos[i] - b * sin[i];
    head[half + i] = b * cos[i] + a * sin[i];
  }
}

// The largest magnitude by its bits: infinity and NaN lie above every number.
inline uint32_t largest_bits(const float* x, int32_t n) {
  VI top = seti(0);
  int32_t i = 0;
  for (; i + L <= n; i += L) top = maxi(top, andi(as_int(loadf(x + i)), seti(0x7fffffff)));
  int32_t lanes[L];
  storei(lanes, top);
  uint32_t bits = 0;
  for (int32_t j = 0; j < L; ++j) bits = uint32_t(lanes[j]) > bits ? uint32_t(lanes[j]) : bits;
  for (; i < n; ++i) bits = (float_bits(x[i]) & 0x7fffffffu) > bits ? float_bits(x[i]) & 0x7fffffffu : bits;
  return bits;
}

inline int32_t sum_codes(const int8_t* q, int32_t n) {
  VI total = seti(0);
  int32_t i = 0, rest = 0;
  for (; i + L <= n; i += L) total = addi(total, load_i8(q + i));
  for (; i < n; ++i) rest += q[i];
  int32_t lanes[L];
  storei(lanes, total);
  for (int32_t j = 0; j < L; ++j) rest += lanes[j];
  return rest;
}

inline void quantize(const float* x, int32_t n, int32_t sum_group, int8_t* q, float* scale, int32_t* sums) {
  const uint32_t bits = largest_bits(x, n);
  *scale = bits >= 0x7f800000u ? NAN : bits < kSmallestToken ? 0 : bits_float(bits) / 127;
  memset(q, 0, size_t(round_up(n, 64)));
  if (!(bits >= kSmallestToken && bits < 0x7f800000u)) {
    memset(sums, 0, size_t(div_up(n, sum_group)) * 4);
    return;
  }
  const VF inverse = setf(127 / bits_float(bits));
  const auto codes = [&](VF v) { return maxi(mini(to_int(mulf(v, inverse)), seti(127)), seti(-127)); };
  int32_t i = 0;
  for (; i + L <= n; i += L) store_i8(q + i, codes(loadf(x + i)));
  float end[L] = {};
  for (int32_t j = 0; i + j < n; ++j) end[j] = x[i + j];
  if (i < n) store_i8(q + i, codes(loadf(end)));  // q has room to a multiple of 64
  for (int32_t g = 0; g * int64_t(sum_group) < n; ++g) {
    const int32_t left = n - g * sum_group;
    sums[g] = sum_codes(q + g * sum_group, left < sum_group ? left : sum_group);
  }
}

// One group: its codes, and their sum. Nothing behind it is written.
inline int32_t quantize_group(const float* x, int32_t n, int32_t bits, float clip, int8_t* q, float* scale) {
  const uint32_t most = largest_bits(x, n);
  const int32_t top = (1 << (bits - 1)) - 1, low = bits == 8 ? -top : -top - 1;
  const float reach = most >= 0x7f800000u ? NAN : most < kSmallestToken ? 0 : clip * bits_float(most);
  *scale = reach / float(top);
  if (!(reach > 0)) return 0;
  const VF inverse = setf(float(top) / reach);
  const auto codes = [&](VF v) { return maxi(mini(to_int(mulf(v, inverse)), seti(top)), seti(low)); };
  int32_t i = 0;
  for (; i + L <= n; i += L) store_i8(q + i, codes(loadf(x + i)));
  float end[L] = {};
  int8_t last[L];
  for (int32_t j = 0; i + j < n; ++j) end[j] = x[i + j];
  store_i8(last, codes(loadf(end)));
  memcpy(q + i, last, size_t(n - i));
  return sum_codes(q, n);
}

}  // namespace
}  // namespace intaglio
