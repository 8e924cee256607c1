// The 8-bit dot of the sets that have vpdpbusd, which adds four (u8 x s8) into int32: `dpbusd` is theirs, and `dpwssd`,
// which adds two (s16 x s16).
#pragma once

namespace intaglio {
namespace {

using Dots = VI;
constexpr int kDotsPerFlush = 1 << 30;
inline Dots no_dots() { return seti(0); }
inline Dots dot(Dots d, VI codes, VI a) { return dpbusd(d, codes, a); }
inline VI flush(VI acc, Dots d) { return addi(acc, d); }
inline VI flush_scaled(VI acc, Dots d, VI scale) { return addi(acc, muli(d, scale)); }
inline VI load_scale(const uint8_t* p) { return load_u8(p); }
inline VI dot16(VI acc, VI a, VI b) { return dpwssd(acc, a, b); }
constexpr bool kExpands = true;

constexpr int32_t kOffset8 = 0;  // codes are stored as they are
using Codes8 = VI;
inline Codes8 load_codes8(const uint8_t* p) { return loadi(p); }
inline VI dot8(VI acc, Codes8 c, VI a) { return dpbusd(acc, c, a); }

}  // namespace
}  // namespace intaglio
