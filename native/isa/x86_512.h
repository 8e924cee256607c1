// The primitives of 16 lanes.
#pragma once
#include "half.h"
#include "x86.h"
#include "x86_eight.h"

namespace intaglio {
namespace {

constexpr int L = 16;
using VF = __m512;
using VI = __m512i;

inline VF loadf(const float* p) { return _mm512_loadu_ps(p); }
inline void storef(float* p, VF v) { _mm512_storeu_ps(p, v); }
inline VF setf(float x) { return _mm512_set1_ps(x); }
inline VF addf(VF a, VF b) { return _mm512_add_ps(a, b); }
inline VF subf(VF a, VF b) { return _mm512_sub_ps(a, b); }
inline VF mulf(VF a, VF b) { return _mm512_mul_ps(a, b); }
inline VF divf(VF a, VF b) { return _mm512_div_ps(a, b); }
inline VF maxf(VF a, VF b) { return _mm512_max_ps(a, b); }
inline VF fma(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
inline VF fnma(VF a, VF b, VF c) { return _mm512_fnmadd_ps(a, b, c); }
inline VF less(VF a, VF b, VF yes, VF no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
inline VI loadi(const void* p) { return _mm512_loadu_si512(p); }
inline void storei(void* p, VI v) { _mm512_storeu_si512(p, v); }
inline VI seti(int32_t x) { return _mm512_set1_epi32(x); }
inline VI addi(VI a, VI b) { return _mm512_add_epi32(a, b); }
inline VI subi(VI a, VI b) { return _mm512_sub_epi32(a, b); }
inline VI muli(VI a, VI b) { return _mm512_mullo_epi32(a, b); }
inline VI mul16(VI a, VI b) { return _mm512_mullo_epi16(a, b); }
inline VI andi(VI a, VI b) { return _mm512_and_si512(a, b); }
inline VI ori(VI a, VI b) { return _mm512_or_si512(a, b); }
inline VI maxi(VI a, VI b) { return _mm512_max_epi32(a, b); }
inline VI mini(VI a, VI b) { return _mm512_min_epi32(a, b); }
template <int N>
inline VI shr(VI a) { return _mm512_srli_epi32(a, N); }
template <int N>
inline VI shl(VI a) { return _mm512_slli_epi32(a, N); }
inline VI twice16(VI a) { return _mm512_or_si512(a, _mm512_slli_epi32(a, 16)); }  // a small number in both halves of its lane
inline VF as_float(VI v) { return _mm512_castsi512_ps(v); }
inline VI as_int(VF v) { return _mm512_castps_si512(v); }
inline VI low_nibbles(VI v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline VI high_nibbles(VI v) { return _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15)); }
inline VI spread4(const int8_t* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm512_set1_epi32(x);
}

#ifdef INTAGLIO_SIMDE
inline VF permute(VI i, VF v) {
  int32_t n[L];
  float x[L], y[L];
  storei(n, i), storef(x, v);
  for (int k = 0; k < L; ++k) y[k] = x[n[k] & 15];
  return loadf(y);
}
#else
inline VF permute(VI i, VF v) { return _mm512_permutexvar_ps(i, v); }
#endif
constexpr int kNarrow = 16;
template <int W>
struct Picked {  // W columns of an input, and of each lane the one its index names, by the low bits
  static_assert(W == L);
  VF x;
  inline void load(const float* p) { x = loadf(p); }
  inline VF pick(VI i) const { return permute(i, x); }
};

#ifdef INTAGLIO_SIMDE  // what Debian's SIMDe lacks, lane by lane
inline void store_i16(int16_t* p, VI v) {
  int32_t x[L];
  storei(x, v);
  for (int i = 0; i < L; ++i) p[i] = int16_t(x[i]);
}
inline VI madd16(VI a, VI b) { return simde_mm512_madd_epi16(a, b); }
inline float sum(VF v) {
  float x[L], total = 0;
  storef(x, v);
  for (int i = 0; i < L; ++i) total += x[i];
  return total;
}
inline float most(VF v) {
  float x[L];
  storef(x, v);
  for (int i = 1; i < L; ++i) x[0] = x[i] > x[0] ? x[i] : x[0];
  return x[0];
}
inline VF to_float(VI v) {
  int32_t n[L];
  float x[L];
  storei(n, v);
  for (int i = 0; i < L; ++i) x[i] = float(n[i]);
  return loadf(x);
}
inline VI to_int(VF v) {
  float x[L];
  int32_t n[L];
  storef(x, v);
  for (int i = 0; i < L; ++i) n[i] = int32_t(__builtin_rintf(x[i]));
  return loadi(n);
}
template <class To, class From>
inline VI widen(const void* p, int n) {
  From from[64];
  To to[64];
  memcpy(from, p, size_t(n) * sizeof(From));
  for (int i = 0; i < n; ++i) to[i] = To(from[i]);
  return loadi(to);
}
inline VI load_u8(const uint8_t* p) { return widen<int32_t, uint8_t>(p, 16); }
inline VI load_i8(const int8_t* p) { return widen<int32_t, int8_t>(p, 16); }
inline VI load_u8_pairs(const uint8_t* p) { return widen<int16_t, uint8_t>(p, 32); }
inline VF load_bfloat(const uint16_t* p) { return as_float(shl<16>(widen<int32_t, uint16_t>(p, 16))); }
inline VI load_u16(const uint16_t* p) { return widen<int32_t, uint16_t>(p, 16); }
inline VF gather(const float* p, VI i) {
  int32_t n[L];
  float x[L];
  storei(n, i);
  for (int k = 0; k < L; ++k) x[k] = p[n[k]];
  return loadf(x);
}
inline VF load_half(const uint16_t* p) {
  float x[L];
  for (int i = 0; i < L; ++i) x[i] = half_to_float(p[i]);
  return loadf(x);
}
inline VF expand_half(const uint16_t* p, uint32_t mask) {
  float x[L];
  for (int i = 0; i < L; ++i) x[i] = mask >> i & 1 ? half_to_float(*p++) : 0;
  return loadf(x);
}
inline void store_half(uint16_t* p, VF v) {
  float x[L];
  storef(x, v);
  for (int i = 0; i < L; ++i) p[i] = float_to_half(x[i]);
}
inline void store_i8(int8_t* p, VI v) {
  int32_t x[L];
  storei(x, v);
  for (int i = 0; i < L; ++i) p[i] = int8_t(x[i]);
}
inline VI spread_pair(const int32_t* p) { return seti(int32_t(uint32_t(p[1]) << 16 | uint32_t(uint16_t(p[0])))); }
inline VI pick16(VI table, VI i) {
  int16_t from[32], to[32];
  uint16_t at[32];
  storei(from, table), storei(at, i);
  for (int k = 0; k < 32; ++k) to[k] = from[at[k] & 31];
  return loadi(to);
}
#else
inline VI pick16(VI table, VI i) { return _mm512_permutexvar_epi16(i, table); }
inline void store_i16(int16_t* p, VI v) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(v)); }  // of small numbers
inline VI madd16(VI a, VI b) { return _mm512_madd_epi16(a, b); }
inline VI spread_pair(const int32_t* p) {  // two numbers of 16 bits as the halves of every lane
  int64_t x;
  memcpy(&x, p, 8);
  const VI both = _mm512_set1_epi64(x);
  return _mm512_packs_epi32(both, both);
}
inline float sum(VF v) { return _mm512_reduce_add_ps(v); }
inline float most(VF v) { return _mm512_reduce_max_ps(v); }
inline VF to_float(VI v) { return _mm512_cvtepi32_ps(v); }
inline VI to_int(VF v) { return _mm512_cvtps_epi32(v); }
#define INTAGLIO_HAS_EXPONENT
struct Exponent {  // t as a whole number and a rest of at most a half
  VF whole, rest;

  inline explicit Exponent(VF t) : whole(_mm512_roundscale_ps(t, 0)), rest(_mm512_reduce_ps(t, 0)) {}
  inline VF raise(VF x) const { return _mm512_scalef_ps(x, whole); }  // x * 2^whole
};
inline VI load_u8(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
inline VI load_i8(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }
inline VI load_u8_pairs(const uint8_t* p) { return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)p)); }
inline VF load_bfloat(const uint16_t* p) {
  return as_float(shl<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p))));
}
inline VI load_u16(const uint16_t* p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)); }
inline VF gather(const float* p, VI i) { return _mm512_i32gather_ps(i, p, 4); }
inline VF load_half(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline VF expand_half(const uint16_t* p, uint32_t mask) {  // the next of them in each lane that is set, zeros elsewhere
  return _mm512_maskz_expand_ps(__mmask16(mask), load_half(p));
}
inline void store_half(uint16_t* p, VF v) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
inline void store_i8(int8_t* p, VI v) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(v)); }
#endif

#define INTAGLIO_WORD_TABLES  // of lookup.h
using Table16 = VI;  // twice 16 numbers of 16 bits, by which words pick with their lower bits
template <int Bits>
inline Table16 load_table(const int16_t* p) {  // of 2^Bits numbers, repeated
  int64_t four;
  memcpy(&four, p, 8);
  return Bits == 2   ? _mm512_set1_epi64(four)
         : Bits == 3 ? _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)p))
                     : _mm512_broadcast_i64x4(load32(p));
}
inline VI choose(VI bits, VI yes, VI no) { return _mm512_ternarylogic_epi32(bits, yes, no, 0xca); }
inline VI with_bits(VI into, VI from, int32_t bits) { return choose(seti(bits), from, into); }  // into has zeros there
template <int N>
inline VI shr16(VI a) { return _mm512_srli_epi16(a, N); }
template <int M, int N>
inline VI shr16_halves(VI a) {  // by M in the lower half, by N in the upper
  return _mm512_srlv_epi16(a, _mm512_inserti64x4(_mm512_set1_epi16(M), _mm256_set1_epi16(N), 1));
}
inline VI twice32(const uint8_t* p) { return _mm512_broadcast_i64x4(load32(p)); }  // 32 bytes in either half

// Two blocks of 16 numbers of 16 bits, two of the first, two of the second and so on, and the lanes that their products leave.
using Pair16 = VI;
using PairF = VF;
inline Pair16 load_pair(const uint8_t* p) {  // of bytes the lower halves, and the upper ones, which stay 16 times as large
  const VI twice = _mm512_set_epi8(-1, 15, -1, 14, -1, 15, -1, 14, -1, 13, -1, 12, -1, 13, -1, 12,  //
                                   -1, 11, -1, 10, -1, 11, -1, 10, -1, 9, -1, 8, -1, 9, -1, 8,      //
                                   -1, 7, -1, 6, -1, 7, -1, 6, -1, 5, -1, 4, -1, 5, -1, 4,          //
                                   -1, 3, -1, 2, -1, 3, -1, 2, -1, 1, -1, 0, -1, 1, -1, 0);
  const VI bytes = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)p));
  return andi(_mm512_shuffle_epi8(bytes, twice), _mm512_set1_epi64(0x00f000f0000f000f));
}
inline VI set_both(const void* two) {  // of 32 bits each
  int64_t x;
  memcpy(&x, two, 8);
  return _mm512_set1_epi64(x);
}
inline Pair16 less_two(Pair16 v, const int32_t* two) {  // every number of a block less one, which an int32 holds twice
  return _mm512_sub_epi16(v, set_both(two));
}
inline PairF dots_of(Pair16 v, const int16_t* first, const int16_t* second) {
  const VI in_turn = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const VI a = _mm512_castsi256_si512(load32(first)), b = _mm512_castsi256_si512(load32(second));
  return to_float(madd16(v, _mm512_permutex2var_epi32(a, in_turn, b)));
}
inline PairF set_two(const float* two) { return as_float(set_both(two)); }
inline PairF fma_pair(PairF a, PairF b, PairF c) { return fma(a, b, c); }
inline float sum_pair(PairF v) {  // the second counts a sixteenth
  constexpr float shares[] = {1, .0625f};
  return sum(mulf(v, set_two(shares)));
}

}  // namespace
}  // namespace intaglio
