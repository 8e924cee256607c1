// Sums of products of codes and int8 activations: blocks of R tiles by T tokens in registers, columns streaming by.
// A vector of codes is unpacked once for T tokens. Weights and keys of coded pages lie alike and both come here.
#pragma once
#include "layout.h"

namespace intaglio {
namespace {

#define INTAGLIO_UNROLL _Pragma("GCC unroll 16")
#define INTAGLIO_INLINE inline __attribute__((always_inline))

constexpr int kVector = 4 * L;  // bytes of codes in a vector: 8 columns of 4 bits or 4 of 8

// Asks for a part of what is read next, if anything is: a few lines at a time, between products.
inline void ask_for(const uint8_t* next, int64_t from, int64_t bytes) {
  for (int64_t i = 0; next && i < bytes; i += 64) prefetch_far(next + from + i);
}

// How far ahead of itself a single token's stream asks for memory: the same place in the tiles that come next, so that each
// line is asked for once, however many tiles are read side by side; or, where these are long, a fixed way. Into the second
// cache: the first has too few places for lines under way (Zen 4 reads half again as fast so).
constexpr int64_t kMostAhead = 1 << 17, kAhead = 4096;
inline int64_t ahead_of(int64_t tiles) { return tiles <= kMostAhead ? tiles : kAhead; }

// The same for what lies behind the codes of R tiles.
template <int R>
inline void ask_for_tables(const uint8_t* tile, const Layout& l) {
  const uint8_t* next = tile + (R * l.bytes <= kMostAhead ? R * l.bytes : 0);
  for (int r = 0; r < R; ++r, next += l.bytes)
    for (int64_t at = l.zeros; at < l.bytes; at += 64) prefetch_far(next + at);
}

// Codes of R tiles, `stride` bytes apart, and q codes of T tokens, `ldq` apart, both from the same column on.
struct Streams {
  const uint8_t* w;
  int64_t stride;
  const int8_t* q;
  int64_t ldq;
};

// Adds vector v into `low` and `high`, which may be one and the same when additions are quick.
template <int T, int R>
INTAGLIO_INLINE void dot_vector(const Streams& s, int64_t v, Dots (&low)[R][T], Dots (&high)[R][T]) {
  VI a[R], b[R];
  INTAGLIO_UNROLL
  for (int r = 0; r < R; ++r) {
    const uint8_t* at = s.w + r * s.stride + v * kVector;
    if (T == 1) prefetch_far(at + ahead_of(R * s.stride));
    const VI codes = loadi(at);
    a[r] = low_nibbles(codes), b[r] = high_nibbles(codes);
  }
  INTAGLIO_UNROLL
  for (int t = 0; t < T; ++t) {
    const VI first = spread4(s.q + t * s.ldq + 8 * v);
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) low[r][t] = dot(low[r][t], a[r], first);
    const VI second = spread4(s.q + t * s.ldq + 8 * v + 4);
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) high[r][t] = dot(high[r][t], b[r], second);
  }
}

template <int T, int R, class V>
INTAGLIO_INLINE void fill(V (&d)[R][T], V value) {
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) d[i / T][i % T] = value;
}

// f<T>(t) over tokens with float activations, blocks of the largest first.
template <class F>
INTAGLIO_INLINE void by_tokens(int32_t tokens, const F& f) {
  int32_t t = 0;
  for (; t + kFloatTokens <= tokens; t += kFloatTokens) f.template operator()<kFloatTokens>(t);
  for (; t + 4 <= tokens; t += 4) f.template operator()<4>(t);
  for (; t + 2 <= tokens; t += 2) f.template operator()<2>(t);
  if (t < tokens) f.template operator()<1>(t);
}

template <int T, int R, class Flush>
INTAGLIO_INLINE void flush_all(VI (&acc)[R][T], const Dots (&d)[R][T], const Flush& flush_into) {
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) acc[i / T][i % T] = flush_into(acc[i / T][i % T], d[i / T][i % T], i / T);
}

// What adds dots to a sum and does no more.
constexpr auto plainly = [](VI a, Dots d, int) __attribute__((always_inline)) { return flush(a, d); };

// Adds the dots of vectors [v, end) into acc through `flush_into(acc, dots, r)`, as often as `Dots` needs emptying.
// A `Long` run of few sums has two chains of them; short runs overlap one another.
template <bool Long, int T, int R, class Flush>
INTAGLIO_INLINE void dot_run(const Streams& s, int64_t v, int64_t end, VI (&acc)[R][T], const Flush& flush_into) {
  Dots d[R][T];
  if constexpr (kDotsPerFlush <= 16) {
    constexpr int64_t kRun = kDotsPerFlush / 2;
    for (; v + kRun <= end; v += kRun) {
      fill(d, no_dots());
      INTAGLIO_UNROLL
      for (int i = 0; i < kRun; ++i) dot_vector(s, v + i, d, d);
      flush_all(acc, d, flush_into);
    }
    if (v == end) return;
    fill(d, no_dots());
    for (; v < end; ++v) dot_vector(s, v, d, d);
  } else if constexpr (!Long || R * T >= kChains) {
    fill(d, no_dots());
    for (; v < end; ++v) dot_vector(s, v, d, d);
  } else {
    Dots high[R][T];
    fill(d, no_dots()), fill(high, no_dots());
    for (; v < end; ++v) dot_vector(s, v, d, high);
    INTAGLIO_UNROLL
    for (int i = 0; i < R * T; ++i) d[i / T][i % T] = addi(d[i / T][i % T], high[i / T][i % T]);
  }
  flush_all(acc, d, flush_into);
}

// N sums, each with a second one if they are too few.
template <int N>
struct Chains {
  static constexpr bool kNeeded = N < kChains;
  VI sums[kNeeded ? N : 1];

  INTAGLIO_INLINE Chains() {
    INTAGLIO_UNROLL
    for (VI& s : sums) s = seti(0);
  }
  INTAGLIO_INLINE VI& of(int i, VI& first) {
    if constexpr (kNeeded) return sums[i];
    else return first;
  }
  INTAGLIO_INLINE void join(int i, VI& first) {
    if constexpr (kNeeded) first = addi(first, sums[i]);
  }
};

template <int T, int R>
INTAGLIO_INLINE void dot_vectors8(const Streams& s, int64_t vectors, VI (&acc)[R][T]) {
  Chains<R * T> odd;
  const auto add = [&](int64_t v, auto sum_of) __attribute__((always_inline)) {
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      const uint8_t* at = s.w + r * s.stride + v * kVector;
      if (T == 1) prefetch_far(at + ahead_of(R * s.stride));
      const Codes8 codes = load_codes8(at);
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t) {
        VI& sum = sum_of(r * T + t);
        sum = dot8(sum, codes, spread4(s.q + t * s.ldq + 4 * v));
      }
    }
  };
  const auto first = [&](int i) __attribute__((always_inline)) -> VI& { return acc[i / T][i % T]; };
  const auto second = [&](int i) __attribute__((always_inline)) -> VI& { return odd.of(i, acc[i / T][i % T]); };
  int64_t v = 0;
  for (; v + 2 <= vectors; v += 2) add(v, first), add(v + 1, second);
  if (v < vectors) add(v, first);
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) odd.join(i, acc[i / T][i % T]);
}

}  // namespace
}  // namespace intaglio
