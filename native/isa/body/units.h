// How codes that multiply floats lie: units of 32-bit words, one lane's of a vector each, of quads of neighbouring columns. A
// quad has a code in each byte of a word, the first in the lowest; quads share a word's bytes, from their lowest bits on.
//
//   8 bits  1 word of 1 quad     4 bits  1 word of 2     2 bits  1 word of 4
//   3 bits  3 words of 2 quads; of two more, the lower bits in what is left at the top of the first words' bytes and the
//           third bit in that of the last's (no bit is lost, as in MiLo's packing, 2504.02658)
#pragma once
#include "../structures.h"

namespace intaglio {
namespace {

constexpr bool has_units(int32_t kind) { return has_half_zeros(kind) || is_bilevel(kind); }

constexpr int unit_bits(int32_t kind) {
  return kind == kW2 ? 2 : kind == kW3 || kind == kBilevel3 ? 3 : kind == kW8 ? 8 : 4;
}
constexpr int unit_words(int bits) { return bits == 3 ? 3 : 1; }
constexpr int unit_columns(int bits) { return 32 * unit_words(bits) / bits; }
constexpr int unit_quads(int bits) { return unit_columns(bits) / 4; }
constexpr int word_quads(int bits) { return 8 / bits; }
constexpr int kSpareQuad = 6;  // the first of two, of a unit of 3 bits

// The code of column k in lane n.
inline uint32_t unit_code(int bits, const uint8_t* codes, int64_t k, int32_t n) {
  const int64_t unit = k / unit_columns(bits);
  const int quad = int(k % unit_columns(bits)) / 4;
  const auto byte = [&](int word) { return uint32_t(codes[((unit * unit_words(bits) + word) * L + n) * 4 + k % 4]); };
  if (bits == 3 && quad >= kSpareQuad)
    return (byte(quad - kSpareQuad) >> 6 & 3) | (byte(2) >> quad & 1) << 2;
  return byte(quad / word_quads(bits)) >> quad % word_quads(bits) * bits & ((1u << bits) - 1);
}

// Four codes side by side, each in its byte.
template <int Bits>
inline uint32_t spread_codes(uint32_t x) {
  if constexpr (Bits == 2) return (x & 3) | (x & 0xc) << 6 | (x & 0x30) << 12 | (x & 0xc0) << 18;
  if constexpr (Bits == 3) return (x & 7) | (x & 0x38) << 5 | (x & 0x1c0) << 10 | (x & 0xe00) << 15;
  if constexpr (Bits == 4) return (x & 0xf) | (x & 0xf0) << 4 | (x & 0xf00) << 8 | (x & 0xf000) << 12;
  return x;
}

// The two quads of 8 codes of a row, from column k on; zeros past its end.
template <int Bits>
inline void quads_of(const Source& s, const uint8_t* from, int64_t k, uint32_t* two) {
  if (s.bits == Bits && k + 8 <= s.cols) {
    uint64_t codes = 0;
    memcpy(&codes, from + k / 8 * Bits, Bits);
    two[0] = spread_codes<Bits>(uint32_t(codes & ((uint64_t(1) << 4 * Bits) - 1))), two[1] = spread_codes<Bits>(uint32_t(codes >> 4 * Bits));
    return;
  }
  two[0] = two[1] = 0;
  for (int j = 0; j < 8 && k + j < s.cols; ++j) two[j / 4] |= code_at(from, k + j, s.bits) << j % 4 * 8;
}

template <int Bits>
inline void pack_units(const Source& s, const uint8_t* from, int32_t n, uint8_t* to) {
  constexpr int kQuads = unit_quads(Bits) < 2 ? 2 : unit_quads(Bits), kWords = kQuads * unit_words(Bits) / unit_quads(Bits);
  for (int64_t k = 0; k < s.cols; k += 4 * kQuads) {
    uint32_t quad[kQuads], word[kWords] = {};
    for (int i = 0; i < kQuads; i += 2) quads_of<Bits>(s, from, k + 4 * i, quad + i);
    for (int i = 0; i < kWords * word_quads(Bits); ++i) word[i / word_quads(Bits)] |= quad[i] << i % word_quads(Bits) * Bits;
    for (int i = 0; Bits == 3 && i < 2; ++i) {
      word[i] |= (quad[kSpareQuad + i] & 0x03030303) << 6;
      word[kWords - 1] |= (quad[kSpareQuad + i] & 0x04040404) << (4 + i);
    }
    for (int i = 0; i < kWords && k + i * 4 * word_quads(Bits) < round_up(s.cols, unit_columns(Bits)); ++i, to += 4 * L)
      memcpy(to + 4 * n, &word[i], 4);
  }
}

inline void pack_units(int bits, const Source& s, const uint8_t* from, int32_t n, uint8_t* to) {
  switch (bits) {
    case 2: return pack_units<2>(s, from, n, to);
    case 3: return pack_units<3>(s, from, n, to);
    case 4: return pack_units<4>(s, from, n, to);
    default: return pack_units<8>(s, from, n, to);
  }
}

}  // namespace
}  // namespace intaglio
