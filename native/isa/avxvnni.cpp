// AVX-VNNI: vpdpbusd on 8 lanes.
#include "x86_256.h"

namespace intaglio {
namespace {

#ifdef INTAGLIO_SIMDE
inline VI dpbusd(VI acc, VI u, VI s) { return simde_mm256_dpbusd_epi32(acc, u, s); }
inline VI dpwssd(VI acc, VI a, VI b) { return simde_mm256_dpwssd_epi32(acc, a, b); }
#else
inline VI dpbusd(VI acc, VI u, VI s) { return _mm256_dpbusd_avx_epi32(acc, u, s); }
inline VI dpwssd(VI acc, VI a, VI b) { return _mm256_dpwssd_avx_epi32(acc, a, b); }
#endif
constexpr int kChains = 10;  // sums that keep the 8-bit dot busy: it takes five cycles and two begin in each
constexpr int kTokens = 4, kTiles = 1, kFloatTokens = 6, kCodedTiles = 1;  // 16 registers

}  // namespace
}  // namespace intaglio

#include "vnni.h"
#define INTAGLIO_NAME "avxvnni"
#define INTAGLIO_TABLE kAvxVnni
#include "body/table.h"
