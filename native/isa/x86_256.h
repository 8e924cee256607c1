// The primitives of 8 lanes: float32, int32 and the bytes of 8 rows x 4 columns. The 8-bit dot is each set's own.
#pragma once
#include "expansion.h"
#include "x86.h"
#include "x86_eight.h"

namespace intaglio {
namespace {

constexpr int L = 8;
using VF = __m256;
using VI = __m256i;

inline VF loadf(const float* p) { return _mm256_loadu_ps(p); }
inline void storef(float* p, VF v) { _mm256_storeu_ps(p, v); }
inline VF setf(float x) { return _mm256_set1_ps(x); }
inline VF addf(VF a, VF b) { return _mm256_add_ps(a, b); }
inline VF subf(VF a, VF b) { return _mm256_sub_ps(a, b); }
inline VF mulf(VF a, VF b) { return _mm256_mul_ps(a, b); }
inline VF divf(VF a, VF b) { return _mm256_div_ps(a, b); }
inline VF maxf(VF a, VF b) { return _mm256_max_ps(a, b); }
inline VF fma(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }   // a * b + c
inline VF fnma(VF a, VF b, VF c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
inline VF less(VF a, VF b, VF yes, VF no) { return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
inline VI with_bits(VI into, VI from, int32_t bits) {  // into has zeros there
  return _mm256_or_si256(into, _mm256_and_si256(from, _mm256_set1_epi32(bits)));
}
inline VF load_half(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
constexpr Expansion<8> kExpansion;
inline VF expand_half(const uint16_t* p, uint32_t mask) {  // the next of them in each lane that is set, zeros elsewhere
  const __m128i from = _mm_load_si128((const __m128i*)kExpansion.from[mask]);
  return _mm256_cvtph_ps(_mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)p), from));
}
inline VI load_u16(const uint16_t* p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)); }
inline VF gather(const float* p, VI i) { return _mm256_i32gather_ps(p, i, 4); }
constexpr int kNarrow = 8;
template <int W>
struct Picked {  // W columns of an input, and of each lane the one its index names, by the low bits
  VF part[W / 8];
  inline void load(const float* x) {
    for (int i = 0; i < W / 8; ++i) part[i] = loadf(x + 8 * i);
  }
  inline VF pick(VI i) const {
    const VF low = _mm256_permutevar8x32_ps(part[0], i);
    if constexpr (W == 8) return low;
    else return _mm256_blendv_ps(low, _mm256_permutevar8x32_ps(part[1], i), _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
  }
};
inline void store_half(uint16_t* p, VF v) { _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
inline VF load_bfloat(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline float sum(VF v) { return sum8(v); }
inline float most(VF v) {
  const __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 b = _mm_max_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}

using I8 = __m256i;
inline I8 dots(S16 a, S16 b) { return _mm256_madd_epi16(a, b); }
inline I8 addi8(I8 a, I8 b) { return _mm256_add_epi32(a, b); }
inline F8 to_float8(I8 v) { return _mm256_cvtepi32_ps(v); }

struct Table16 {  // 16 numbers of 16 bits, by their lower and upper bytes, in each half
  S16 low, high;
};
template <int Bits>
inline Table16 load_table(const int16_t* p) {  // of 2^Bits numbers, repeated
  int64_t four;
  memcpy(&four, p, 8);
  const __m256i words = Bits == 2   ? _mm256_set1_epi64x(four)
                        : Bits == 3 ? _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p))
                                    : load32(p);
  const __m256i bytes = _mm256_packus_epi16(_mm256_and_si256(words, _mm256_set1_epi16(255)), _mm256_srli_epi16(words, 8));
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
inline Shorts32 pick(const Table16& table, S16 i) {  // of bytes 0-7 and 16-23, then of 8-15 and 24-31
  const __m256i low = _mm256_shuffle_epi8(table.low, i), high = _mm256_shuffle_epi8(table.high, i);
  return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
}

// Two blocks of 16 numbers of 16 bits, and the lanes that their products leave.
struct Pair16 {
  S16 first, second;
};
struct PairF {
  F8 first, second;
};
inline Pair16 load_pair(const uint8_t* p) {  // of bytes the lower halves, and the upper ones, which stay 16 times as large
  const S16 both = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)p));
  return {_mm256_and_si256(both, _mm256_set1_epi16(15)), _mm256_and_si256(both, _mm256_set1_epi16(240))};
}
inline Pair16 less_two(Pair16 v, const int32_t* two) {  // every number of a block less one, which an int32 holds twice
  return {_mm256_sub_epi16(v.first, _mm256_set1_epi32(two[0])), _mm256_sub_epi16(v.second, _mm256_set1_epi32(two[1]))};
}
inline PairF dots_of(Pair16 v, const int16_t* first, const int16_t* second) {
  return {to_float8(dots(v.first, load32(first))), to_float8(dots(v.second, load32(second)))};
}
inline PairF set_two(const float* two) { return {setf8(two[0]), setf8(two[1])}; }
inline PairF fma_pair(PairF a, PairF b, PairF c) { return {fma8(a.first, b.first, c.first), fma8(a.second, b.second, c.second)}; }
inline float sum_pair(PairF v) { return sum8(fma8(v.second, setf8(.0625f), v.first)); }  // the second counts a sixteenth

inline VI loadi(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline void storei(void* p, VI v) { _mm256_storeu_si256((__m256i*)p, v); }
inline VI seti(int32_t x) { return _mm256_set1_epi32(x); }
inline VI set16(int32_t x) { return _mm256_set1_epi16((short)x); }
inline VI addi(VI a, VI b) { return _mm256_add_epi32(a, b); }
inline VI subi(VI a, VI b) { return _mm256_sub_epi32(a, b); }
inline VI muli(VI a, VI b) { return _mm256_mullo_epi32(a, b); }
inline VI madd16(VI a, VI b) { return _mm256_madd_epi16(a, b); }  // pairs of int16, added into int32
inline VI mul16(VI a, VI b) { return _mm256_mullo_epi16(a, b); }
inline VI andi(VI a, VI b) { return _mm256_and_si256(a, b); }
inline VI ori(VI a, VI b) { return _mm256_or_si256(a, b); }
inline VI maxi(VI a, VI b) { return _mm256_max_epi32(a, b); }
inline VI mini(VI a, VI b) { return _mm256_min_epi32(a, b); }
template <int N>
inline VI shr(VI a) { return _mm256_srli_epi32(a, N); }
template <int N>
inline VI shl(VI a) { return _mm256_slli_epi32(a, N); }
inline VI twice16(VI a) { return _mm256_or_si256(a, _mm256_slli_epi32(a, 16)); }  // a small number in both halves of its lane
inline VF to_float(VI v) { return _mm256_cvtepi32_ps(v); }
inline VI to_int(VF v) { return _mm256_cvtps_epi32(v); }  // nearest even
inline VF as_float(VI v) { return _mm256_castsi256_ps(v); }
inline VI as_int(VF v) { return _mm256_castps_si256(v); }
inline VI load_u8(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
inline VI load_u8_pairs(const uint8_t* p) { return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)p)); }
inline VI spread_pair(const int32_t* p) {  // two numbers of 16 bits as the halves of every lane
  int64_t x;
  memcpy(&x, p, 8);
  const VI both = _mm256_set1_epi64x(x);
  return _mm256_packs_epi32(both, both);
}
inline void store_i8(int8_t* p, VI v) {  // the low bytes of 8 lanes that hold small numbers
  const __m128i a = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(a, a));
}
inline void store_i16(int16_t* p, VI v) {  // of small numbers
  _mm_storeu_si128((__m128i*)p, _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}
inline VI load_i8(const int8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
inline VI low_nibbles(VI v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
inline VI high_nibbles(VI v) { return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15)); }
inline VI spread4(const int8_t* p) {  // the same 4 bytes in every lane
  int32_t x;
  memcpy(&x, p, 4);
  return _mm256_set1_epi32(x);
}

}  // namespace
}  // namespace intaglio
