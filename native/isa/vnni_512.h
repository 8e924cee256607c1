// AVX-512-VNNI: vpdpbusd on 16 lanes; 32 registers hold larger blocks.
#pragma once
#include "x86_512.h"

namespace intaglio {
namespace {

inline VI dpbusd(VI acc, VI u, VI s) { return _mm512_dpbusd_epi32(acc, u, s); }
inline VI dpwssd(VI acc, VI a, VI b) { return _mm512_dpwssd_epi32(acc, a, b); }
constexpr int kChains = 10;  // sums that keep the 8-bit dot busy: it takes five cycles and two begin in each
constexpr int kTokens = 8, kTiles = 2, kFloatTokens = 8, kCodedTiles = 2;

}  // namespace
}  // namespace intaglio

#include "vnni.h"
