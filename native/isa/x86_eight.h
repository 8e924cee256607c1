// What every x86 set does 32 bytes at a time: integers of 16 bits, and eight floats.
#pragma once
#include "x86.h"

namespace intaglio {
namespace {

using S16 = __m256i;  // 16 integers, or 32 bytes
using F8 = __m256;

inline S16 load32(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline F8 setf8(float x) { return _mm256_set1_ps(x); }
inline F8 addf8(F8 a, F8 b) { return _mm256_add_ps(a, b); }
inline F8 fma8(F8 a, F8 b, F8 c) { return _mm256_fmadd_ps(a, b, c); }
inline float sum8(F8 v) {
  const __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}

}  // namespace
}  // namespace intaglio
