// What every x86 set does 32 bytes at a time: integers of 16 bits, the eight lanes that products of neighbours among them
// leave, and tables of 16 numbers that bytes pick from.
#pragma once
#include "x86.h"

namespace intaglio {
namespace {

using S16 = __m256i;  // 16 integers, or 32 bytes
using I8 = __m256i;
using F8 = __m256;

inline S16 load32(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline S16 load_bytes16(const uint8_t* p) { return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)p)); }
inline S16 low_codes(S16 v) { return _mm256_and_si256(v, _mm256_set1_epi16(15)); }
inline S16 high_codes(S16 v) { return _mm256_srli_epi16(v, 4); }  // of bytes
inline I8 dots(S16 a, S16 b) { return _mm256_madd_epi16(a, b); }
inline I8 addi8(I8 a, I8 b) { return _mm256_add_epi32(a, b); }

inline F8 to_float8(I8 v) { return _mm256_cvtepi32_ps(v); }
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

struct Bytes16 {  // 16 numbers of 16 bits, by their lower and upper bytes, in each half
  S16 low, high;
};
inline Bytes16 as_bytes(F8 x, F8 y) {  // of small numbers, rounded
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x), _mm256_cvtps_epi32(y));  // 0-3 8-11 | 4-7 12-15
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
  const __m256i bytes = _mm256_packus_epi16(_mm256_and_si256(ordered, _mm256_set1_epi16(255)), _mm256_srli_epi16(ordered, 8));
  return {_mm256_permute4x64_epi64(bytes, 0x88), _mm256_permute4x64_epi64(bytes, 0xdd)};
}
template <int N>
inline S16 nibbles(S16 v) { return _mm256_and_si256(_mm256_srli_epi16(v, N), _mm256_set1_epi8(15)); }  // of bytes, from bit N on
template <int N>
inline S16 bits_of(S16 v, int8_t mask) {  // the same, of as many as the mask has
  return _mm256_and_si256(_mm256_srli_epi16(v, N), _mm256_set1_epi8(mask));
}
inline S16 both_of(S16 a, S16 b) { return _mm256_or_si256(a, b); }
struct Shorts32 {
  S16 first, second;
};
inline Shorts32 pick(const Bytes16& table, S16 i) {  // of bytes 0-7 and 16-23, then of 8-15 and 24-31
  const __m256i low = _mm256_shuffle_epi8(table.low, i), high = _mm256_shuffle_epi8(table.high, i);
  return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
}

}  // namespace
}  // namespace intaglio
