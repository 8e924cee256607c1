// NEON with the dot product extension (armv8.2-a): sdot adds four (s8 x s8) into int32, on 4 lanes. 4-bit codes are
// small enough to be signed; 8-bit ones are stored less 128.
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef INTAGLIO_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/arm/neon.h>
#else
#include <arm_neon.h>
#endif

#include "expansion.h"
#include "half.h"

namespace intaglio {
namespace {

constexpr int L = 4;
using VF = float32x4_t;
using VI = int32x4_t;

inline VF loadf(const float* p) { return vld1q_f32(p); }
inline void storef(float* p, VF v) { vst1q_f32(p, v); }
inline VF setf(float x) { return vdupq_n_f32(x); }
inline VF addf(VF a, VF b) { return vaddq_f32(a, b); }
inline VF subf(VF a, VF b) { return vsubq_f32(a, b); }
inline VF mulf(VF a, VF b) { return vmulq_f32(a, b); }
inline VF maxf(VF a, VF b) { return vmaxq_f32(a, b); }
inline VF fma(VF a, VF b, VF c) { return vfmaq_f32(c, a, b); }
inline VF fnma(VF a, VF b, VF c) { return vfmaq_f32(c, vnegq_f32(a), b); }
inline VF less(VF a, VF b, VF yes, VF no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
inline float sum(VF v) { return vaddvq_f32(v); }
inline float most(VF v) { return vmaxvq_f32(v); }
inline VF load_bfloat(const uint16_t* p) { return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(p)), 16)); }
#ifdef INTAGLIO_SIMDE  // what Debian's SIMDe lacks, lane by lane
inline VF divf(VF a, VF b) {
  float x[L], y[L];
  storef(x, a), storef(y, b);
  for (int i = 0; i < L; ++i) x[i] /= y[i];
  return loadf(x);
}
inline VI to_int(VF v) {
  float x[L];
  int32_t n[L];
  storef(x, v);
  for (int i = 0; i < L; ++i) n[i] = int32_t(__builtin_rintf(x[i]));
  return vld1q_s32(n);
}
inline VF load_half(const uint16_t* p) {
  float x[L];
  for (int i = 0; i < L; ++i) x[i] = half_to_float(p[i]);
  return loadf(x);
}
inline VF halves(uint8x8_t v) {
  uint8_t bytes[8];
  uint16_t x[L];
  return vst1_u8(bytes, v), memcpy(x, bytes, 8), load_half(x);
}
inline void store_half(uint16_t* p, VF v) {
  float x[L];
  storef(x, v);
  for (int i = 0; i < L; ++i) p[i] = float_to_half(x[i]);
}
#else
inline VF divf(VF a, VF b) { return vdivq_f32(a, b); }
inline VI to_int(VF v) { return vcvtnq_s32_f32(v); }
inline void store_half(uint16_t* p, VF v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
inline VF load_half(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline VF halves(uint8x8_t v) { return vcvt_f32_f16(vreinterpret_f16_u8(v)); }
#endif

constexpr Expansion<4> kExpansion;
inline VF expand_half(const uint16_t* p, uint32_t mask) {  // the next of them in each lane that is set, zeros elsewhere
  return halves(vtbl1_u8(vld1_u8((const uint8_t*)p), vld1_u8(kExpansion.from[mask])));
}

inline VI loadi(const void* p) { return vreinterpretq_s32_u8(vld1q_u8((const uint8_t*)p)); }
inline void storei(void* p, VI v) { vst1q_u8((uint8_t*)p, vreinterpretq_u8_s32(v)); }
inline VI seti(int32_t x) { return vdupq_n_s32(x); }
inline VI load_u16(const uint16_t* p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }
inline VF gather(const float* p, VI i) {
  int32_t n[L];
  float x[L];
  storei(n, i);
  for (int k = 0; k < L; ++k) x[k] = p[n[k]];
  return loadf(x);
}
constexpr int kNarrow = 8;
template <int W>
struct Picked {  // W columns of an input, and of each lane the one its index names, by the low bits
  uint8x16_t bytes[W / 4];
  void load(const float* x) {
    for (int i = 0; i < W / 4; ++i) bytes[i] = vld1q_u8((const uint8_t*)(x + 4 * i));
  }
  VF pick(VI i) const {  // a table of bytes: the four of column c are 4c .. 4c + 3
    const int32x4_t four = vmulq_s32(vandq_s32(i, vdupq_n_s32(W - 1)), vdupq_n_s32(0x04040404));
    const uint8x16_t at = vreinterpretq_u8_s32(vaddq_s32(four, vdupq_n_s32(0x03020100)));
    if constexpr (W == 8) {
      const uint8x16x2_t table = {{bytes[0], bytes[1]}};
      return vreinterpretq_f32_u8(vqtbl2q_u8(table, at));
    } else {
      const uint8x16x4_t table = {{bytes[0], bytes[1], bytes[2], bytes[3]}};
      return vreinterpretq_f32_u8(vqtbl4q_u8(table, at));
    }
  }
};
inline VI addi(VI a, VI b) { return vaddq_s32(a, b); }
inline VI subi(VI a, VI b) { return vsubq_s32(a, b); }
inline VI muli(VI a, VI b) { return vmulq_s32(a, b); }
inline VI madd16(VI a, VI b) {
  const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
  return vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_s16(vget_high_s16(x), vget_high_s16(y)));
}
inline VI mul16(VI a, VI b) {
  return vreinterpretq_s32_s16(vmulq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}
inline VI andi(VI a, VI b) { return vandq_s32(a, b); }
inline VI ori(VI a, VI b) { return vorrq_s32(a, b); }
inline VI with_bits(VI into, VI from, int32_t bits) { return vbslq_s32(vdupq_n_u32(uint32_t(bits)), from, into); }
inline VI maxi(VI a, VI b) { return vmaxq_s32(a, b); }
inline VI mini(VI a, VI b) { return vminq_s32(a, b); }
template <int N>
inline VI shr(VI a) {
  if constexpr (N == 0) return a;
  else return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), N));
}
template <int N>
inline VI shl(VI a) {
  return vshlq_n_s32(a, N);
}
inline VI twice16(VI a) { return vorrq_s32(a, vshlq_n_s32(a, 16)); }
inline VF to_float(VI v) { return vcvtq_f32_s32(v); }
inline VF as_float(VI v) { return vreinterpretq_f32_s32(v); }
inline VI as_int(VF v) { return vreinterpretq_s32_f32(v); }
inline uint8x8_t four_bytes(const void* p) {
  uint32_t x;
  memcpy(&x, p, 4);
  return vreinterpret_u8_u32(vdup_n_u32(x));
}
inline VI load_u8(const uint8_t* p) {
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four_bytes(p)))));
}
inline VI load_i8(const int8_t* p) { return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(four_bytes(p))))); }
inline VI load_u8_pairs(const uint8_t* p) { return vreinterpretq_s32_u16(vmovl_u8(vld1_u8(p))); }
inline VI spread_pair(const int32_t* p) {  // two numbers of 16 bits as the halves of every lane
  return vdupq_n_s32(int32_t(uint32_t(p[1]) << 16 | uint32_t(uint16_t(p[0]))));
}
inline void store_i8(int8_t* p, VI v) {
  const int16x4_t a = vmovn_s32(v);
  const uint32_t x = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(a, a))), 0);
  memcpy(p, &x, 4);
}
inline void store_i16(int16_t* p, VI v) { vst1_s16(p, vmovn_s32(v)); }  // of small numbers
inline VI low_nibbles(VI v) { return vandq_s32(v, vdupq_n_s32(0x0f0f0f0f)); }
inline VI high_nibbles(VI v) { return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(v), 4)); }
inline VI spread4(const int8_t* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return vdupq_n_s32(x);
}
inline void prefetch(const void* p) { __builtin_prefetch(p); }
inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }  // into the second cache

// 32 bytes at a time: integers of 16 bits, eight lanes that products of them leave, and tables that bytes pick from.
struct S16 {  // 16 integers, or 32 bytes
  int16x8_t a, b;
};
struct I8 {
  int32x4_t a, b;
};
struct F8 {
  float32x4_t a, b;
};
inline S16 load32(const void* p) {
  const auto* at = static_cast<const uint8_t*>(p);
  return {vreinterpretq_s16_u8(vld1q_u8(at)), vreinterpretq_s16_u8(vld1q_u8(at + 16))};
}
inline int32x4_t dots8(int16x8_t a, int16x8_t b) {
  return vmlal_s16(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vget_high_s16(a), vget_high_s16(b));
}
inline I8 dots(S16 a, S16 b) { return {dots8(a.a, b.a), dots8(a.b, b.b)}; }
inline I8 addi8(I8 a, I8 b) { return {vaddq_s32(a.a, b.a), vaddq_s32(a.b, b.b)}; }

inline F8 to_float8(I8 v) { return {vcvtq_f32_s32(v.a), vcvtq_f32_s32(v.b)}; }
inline F8 setf8(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline F8 addf8(F8 a, F8 b) { return {vaddq_f32(a.a, b.a), vaddq_f32(a.b, b.b)}; }
inline F8 fma8(F8 a, F8 b, F8 c) { return {vfmaq_f32(c.a, a.a, b.a), vfmaq_f32(c.b, a.b, b.b)}; }
inline float sum8(F8 v) { return vaddvq_f32(vaddq_f32(v.a, v.b)); }

struct Pair16 {  // two blocks of 16 numbers of 16 bits
  S16 first, second;
};
struct PairF {  // and the lanes that their products leave
  F8 first, second;
};
inline Pair16 load_pair(const uint8_t* p) {  // of bytes the lower halves, and the upper ones, which stay 16 times as large
  const int16x8_t a = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p))), b = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p + 8)));
  const int16x8_t low = vdupq_n_s16(15), high = vdupq_n_s16(240);
  return {{vandq_s16(a, low), vandq_s16(b, low)}, {vandq_s16(a, high), vandq_s16(b, high)}};
}
inline Pair16 less_two(Pair16 v, const int32_t* two) {  // every number of a block less one, which an int32 holds twice
  const int16x8_t a = vreinterpretq_s16_s32(vdupq_n_s32(two[0])), b = vreinterpretq_s16_s32(vdupq_n_s32(two[1]));
  return {{vsubq_s16(v.first.a, a), vsubq_s16(v.first.b, a)}, {vsubq_s16(v.second.a, b), vsubq_s16(v.second.b, b)}};
}
inline PairF dots_of(Pair16 v, const int16_t* first, const int16_t* second) {
  return {to_float8(dots(v.first, load32(first))), to_float8(dots(v.second, load32(second)))};
}
inline PairF set_two(const float* two) { return {setf8(two[0]), setf8(two[1])}; }
inline PairF fma_pair(PairF a, PairF b, PairF c) { return {fma8(a.first, b.first, c.first), fma8(a.second, b.second, c.second)}; }
inline float sum_pair(PairF v) { return sum8(fma8(v.second, setf8(.0625f), v.first)); }  // the second counts a sixteenth

struct Table16 {  // 16 numbers of 16 bits, by their lower and upper bytes
  uint8x16_t low, high;
};
template <int Bits>
inline Table16 load_table(const int16_t* p) {  // of 2^Bits numbers, repeated
  const int16x8_t first = Bits == 2 ? vcombine_s16(vld1_s16(p), vld1_s16(p)) : vld1q_s16(p);
  const uint16x8_t c = vreinterpretq_u16_s16(first), d = Bits == 4 ? vreinterpretq_u16_s16(vld1q_s16(p + 8)) : c;
  return {vcombine_u8(vmovn_u16(c), vmovn_u16(d)), vcombine_u8(vmovn_u16(vshrq_n_u16(c, 8)), vmovn_u16(vshrq_n_u16(d, 8)))};
}
template <int N>
inline S16 bits_of(S16 v, int8_t mask) {  // of bytes, from bit N on, as many as the mask has
  const auto of = [&](int16x8_t x) {
    uint8x16_t bytes = vreinterpretq_u8_s16(x);
    if constexpr (N > 0) bytes = vshrq_n_u8(bytes, N);
    return vreinterpretq_s16_u8(vandq_u8(bytes, vdupq_n_u8(uint8_t(mask))));
  };
  return {of(v.a), of(v.b)};
}
template <int N>
inline S16 nibbles(S16 v) { return bits_of<N>(v, 15); }
inline S16 both_of(S16 a, S16 b) { return {vorrq_s16(a.a, b.a), vorrq_s16(a.b, b.b)}; }
struct Shorts32 {
  S16 first, second;
};
inline Shorts32 pick(const Table16& table, S16 i) {  // of bytes 0-7 and 16-23, then of 8-15 and 24-31
  const uint8x16_t a = vreinterpretq_u8_s16(i.a), b = vreinterpretq_u8_s16(i.b);
  const uint8x16_t la = vqtbl1q_u8(table.low, a), ha = vqtbl1q_u8(table.high, a);
  const uint8x16_t lb = vqtbl1q_u8(table.low, b), hb = vqtbl1q_u8(table.high, b);
  return {{vreinterpretq_s16_u8(vzip1q_u8(la, ha)), vreinterpretq_s16_u8(vzip1q_u8(lb, hb))},
          {vreinterpretq_s16_u8(vzip2q_u8(la, ha)), vreinterpretq_s16_u8(vzip2q_u8(lb, hb))}};
}

using Dots = VI;
constexpr int kDotsPerFlush = 1 << 30;
constexpr bool kExpands = false;  // its bytes are signed
inline Dots no_dots() { return seti(0); }
inline Dots dot(Dots d, VI codes, VI a) { return vdotq_s32(d, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(a)); }
inline VI flush(VI acc, Dots d) { return addi(acc, d); }
inline VI flush_scaled(VI acc, Dots d, VI scale) { return vmlaq_s32(acc, d, scale); }
inline VI dot16(VI acc, VI a, VI b) { return addi(acc, madd16(a, b)); }
inline VI load_scale(const uint8_t* p) { return load_u8(p); }

constexpr int32_t kOffset8 = 128;
using Codes8 = VI;
inline Codes8 load_codes8(const uint8_t* p) { return loadi(p); }
inline VI dot8(VI acc, Codes8 c, VI a) { return dot(acc, c, a); }

constexpr int kChains = 10;  // sums that keep the 8-bit dot busy: it takes five cycles and two begin in each
constexpr int kTokens = 8, kTiles = 1, kFloatTokens = 8, kCodedTiles = 2;

}  // namespace
}  // namespace intaglio

#define INTAGLIO_NAME "neon"
#define INTAGLIO_TABLE kNeon
#include "body/table.h"
