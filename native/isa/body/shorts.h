// Float activations as integers of 16 bits, a scale a token, for kernels that multiply integers: twice as many at a time as
// floats, and exact. They are made where they are used, once a call: rows are many.
#pragma once
#include "vectors.h"

namespace intaglio {
namespace {

constexpr int32_t kMostShorts = 1 << 16;  // of a block of tokens; a wider matrix is multiplied as it is defined
constexpr int32_t kTopShort = 127 * 31 * 7;  // inputs that were rounded to 8, 6 or 4 bits stay what they are

// What n numbers, with zeros behind them up to whole vectors, are multiplied by to be integers of at most `top`, 0 if they
// are all zeros, and what the integers stand for: not a number if one of them is none.
struct Shortening {
  float inverse, scale;

  Shortening(uint32_t most, int32_t top) : inverse(0), scale(0) {  // by the bits of the largest
    if (most >= 0x7f800000u) scale = NAN;
    else if (most >= kSmallestToken) inverse = float(top) / bits_float(most), scale = bits_float(most) / float(top);
  }
};

// A token's n numbers, and zeros to `stride`, a multiple of 64 -> the scale.
inline float shorten(const float* x, int32_t n, int32_t most, int64_t stride, int16_t* q) {
  const Shortening by(largest_bits(x, n), most);
  memset(q, 0, size_t(stride) * 2);
  if (by.inverse == 0) return by.scale;
  const VF inverse = setf(by.inverse);
  const VI top = seti(most);  // a product may be rounded up
  for (int32_t i = 0; i < n; i += L) store_i16(q + i, mini(to_int(mulf(loadf(x + i), inverse)), top));
  return by.scale;
}

// n of them as 256 high + low.
inline void split_shorts(const int16_t* q, int64_t n, int8_t* high, int8_t* low) {
  for (int64_t i = 0; i < n; ++i) {
    const int32_t upper = (q[i] + 128) >> 8;
    high[i] = int8_t(upper), low[i] = int8_t(q[i] - 256 * upper);
  }
}

// The sum of n of them, at most kMostShorts.
inline int32_t total_of(const int16_t* q, int64_t n) {
  int32_t total = 0;
  for (int64_t i = 0; i < n; ++i) total += q[i];
  return total;
}

// Tokens as integers, `stride` apart.
template <int Tokens>
struct ShortTokens {
  int64_t stride;
  float scale[Tokens];
  alignas(64) int16_t q[kMostShorts];

  // The first n of them, if they fit: `columns` is what of each token is multiplied, a multiple of 64.
  void take(const Activations* x, int32_t token, int n, int32_t cols, int64_t columns) {
    stride = columns;
    for (int t = 0; t < n; ++t) scale[t] = shorten(x->f + (token + t) * x->ldf, cols, kTopShort, columns, q + t * columns);
  }
};

// Tokens in blocks of T, some<T>(first), where so many fit; what is left of them in smaller ones, and one(token) for each of
// which not even one does.
template <int T, class Fits, class Some, class One>
void in_blocks(int32_t token, int32_t token1, const Fits& fits, const Some& some, const One& one) {
  for (; token + T <= token1 && fits(T); token += T) some.template operator()<T>(token);
  if constexpr (T > 1) return in_blocks<T / 2>(token, token1, fits, some, one);
  for (; token < token1; ++token) one(token);
}

}  // namespace
}  // namespace intaglio
