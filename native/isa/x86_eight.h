// What every x86 set does 32 bytes at a time: integers of 16 bits, and eight floats.
#pragma once
#include "x86.h"

namespace intaglio {
namespace {

using S16 = __m256i;  // 16 integers, or 32 bytes
using F8 = __m256;

inline S16 load32(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }

inline F8 load_half8(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
inline F8 setf8(float x) { return _mm256_set1_ps(x); }
inline F8 addf8(F8 a, F8 b) { return _mm256_add_ps(a, b); }
inline F8 mulf8(F8 a, F8 b) { return _mm256_mul_ps(a, b); }
inline F8 fma8(F8 a, F8 b, F8 c) { return _mm256_fmadd_ps(a, b, c); }
inline F8 twice4(F8 v) { return _mm256_permute2f128_ps(v, v, 0); }  // its first four numbers
inline float sum8(F8 v) {
  const __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}

// The bits of the largest magnitude among 16 numbers.
inline uint32_t largest_of(F8 x, F8 y) {
  const __m256i all = _mm256_set1_epi32(0x7fffffff);
  const __m256i a = _mm256_and_si256(_mm256_castps_si256(x), all), b = _mm256_and_si256(_mm256_castps_si256(y), all);
  const __m256i c = _mm256_max_epi32(a, b);
  const __m128i d = _mm_max_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
  const __m128i e = _mm_max_epi32(d, _mm_shuffle_epi32(d, 0x4e));
  return uint32_t(_mm_cvtsi128_si32(_mm_max_epi32(e, _mm_shuffle_epi32(e, 0xb1))));
}
inline __m256i as_words(F8 x, F8 y) {  // 16 small numbers, rounded
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(_mm256_cvtps_epi32(x), _mm256_cvtps_epi32(y)), 0xd8);
}

}  // namespace
}  // namespace intaglio
