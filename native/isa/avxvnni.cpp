// AVX-VNNI: vpdpbusd adds four (u8 x s8) into int32, on 8 lanes.
#include "x86_256.h"

namespace intaglio {
namespace {

#ifdef INTAGLIO_SIMDE
inline VI dpbusd(VI acc, VI u, VI s) { return simde_mm256_dpbusd_epi32(acc, u, s); }
#else
inline VI dpbusd(VI acc, VI u, VI s) { return _mm256_dpbusd_avx_epi32(acc, u, s); }
#endif

using Dots = VI;
constexpr int kDotsPerFlush = 1 << 30;
inline Dots no_dots() { return _mm256_setzero_si256(); }
inline Dots dot(Dots d, VI codes, VI a) { return dpbusd(d, codes, a); }
inline VI flush(VI acc, Dots d) { return addi(acc, d); }
inline VI flush_scaled(VI acc, Dots d, VI scale) { return addi(acc, muli(d, scale)); }
inline VI load_scale(const uint8_t* p) { return load_u8(p); }
constexpr bool kExpands = true;

constexpr int32_t kOffset8 = 0;  // codes are stored as they are
using Codes8 = VI;
inline Codes8 load_codes8(const uint8_t* p) { return loadi(p); }
inline VI dot8(VI acc, Codes8 c, VI a) { return dpbusd(acc, c, a); }

constexpr int kTokens = 4, kTiles = 1, kFloatTokens = 6;

}  // namespace
}  // namespace intaglio

#define INTAGLIO_NAME "avxvnni"
#define INTAGLIO_TABLE kAvxVnni
#include "body/table.h"
