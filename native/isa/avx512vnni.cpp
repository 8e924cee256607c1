// AVX-512-VNNI: vpdpbusd adds four (u8 x s8) into int32, on 16 lanes; 32 registers hold larger blocks.
#include "x86_512.h"

namespace intaglio {
namespace {

using Dots = VI;
constexpr int kDotsPerFlush = 1 << 30;
inline Dots no_dots() { return _mm512_setzero_si512(); }
inline Dots dot(Dots d, VI codes, VI a) { return _mm512_dpbusd_epi32(d, codes, a); }
inline VI flush(VI acc, Dots d) { return addi(acc, d); }
inline VI flush_scaled(VI acc, Dots d, VI scale) { return addi(acc, muli(d, scale)); }
inline VI load_scale(const uint8_t* p) { return load_u8(p); }
constexpr bool kExpands = true;

constexpr int32_t kOffset8 = 0;
using Codes8 = VI;
inline Codes8 load_codes8(const uint8_t* p) { return loadi(p); }
inline VI dot8(VI acc, Codes8 c, VI a) { return _mm512_dpbusd_epi32(acc, c, a); }

constexpr int kTokens = 8, kTiles = 1, kFloatTokens = 8;

}  // namespace
}  // namespace intaglio

#define INTAGLIO_NAME "avx512vnni"
#define INTAGLIO_TABLE kAvx512Vnni
#include "body/table.h"
