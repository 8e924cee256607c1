// AVX2: vpmaddubsw adds pairs of (u8 x s8) into 16 bits. A 4-bit code times an activation gives at most
// 2 * 15 * 127 = 3810 a pair, so 8 of them add up in 16 bits; then vpmaddwd widens and applies the group scale at once.
#include "x86_256.h"

namespace intaglio {
namespace {

using Dots = __m256i;  // 16 x int16
constexpr int kDotsPerFlush = 8;
inline Dots no_dots() { return _mm256_setzero_si256(); }
inline Dots dot(Dots d, VI codes, VI a) { return _mm256_add_epi16(d, _mm256_maddubs_epi16(codes, a)); }
inline VI flush(VI acc, Dots d) { return addi(acc, madd16(d, set16(1))); }
inline VI flush_scaled(VI acc, Dots d, VI scale) { return addi(acc, madd16(d, scale)); }
inline VI load_scale(const uint8_t* p) { return twice16(load_u8(p)); }
inline VI dot16(VI acc, VI a, VI b) { return addi(acc, madd16(a, b)); }
constexpr bool kExpands = false;  // codes of 8 bits are slower here than those of 4

// 8-bit codes would saturate as unsigned operands; |w| <= 128 times a with w's sign stays within 32512 a pair.
constexpr int32_t kOffset8 = 128;  // what is stored is code - 128
struct Codes8 {
  VI w, magnitude;
};
inline Codes8 load_codes8(const uint8_t* p) {
  const VI w = loadi(p);
  return {w, _mm256_abs_epi8(w)};
}
inline VI dot8(VI acc, Codes8 c, VI a) {
  return addi(acc, madd16(_mm256_maddubs_epi16(c.magnitude, _mm256_sign_epi8(a, c.w)), set16(1)));
}

constexpr int kChains = 2;  // sums that keep the 8-bit dot busy: it ends in an addition of one cycle
constexpr int kTokens = 4, kTiles = 2, kFloatTokens = 6, kCodedTiles = 1;  // 16 registers

}  // namespace
}  // namespace intaglio

#define INTAGLIO_NAME "avx2"
#define INTAGLIO_TABLE kAvx2
#include "body/table.h"
