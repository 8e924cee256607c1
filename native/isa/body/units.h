// How codes that multiply floats lie: units of 32-bit words, one lane's of a vector each, of pairs of neighbouring columns,
// the even one in a word's lower half and the odd one in its upper, from the lowest bits on.
//
//   8 bits  2 words of 2 pairs     4 bits  1 word of 4 pairs     2 bits  1 word of 8 pairs
//   3 bits  3 words of 5 pairs, and the sixteenth pair in the bits left at the top of their halves, its lowest bit in the first
//           (no bit is lost, as in MiLo's packing, 2504.02658)
#pragma once
#include "../structures.h"

namespace intaglio {
namespace {

constexpr bool has_units(int32_t kind) { return has_half_zeros(kind) || is_bilevel(kind); }

constexpr int unit_bits(int32_t kind) {
  return kind == kW2 ? 2 : kind == kW3 || kind == kBilevel3 ? 3 : kind == kW8 ? 8 : 4;
}
constexpr int unit_words(int bits) { return bits == 3 ? 3 : bits == 8 ? 2 : 1; }
constexpr int unit_columns(int bits) { return 32 * unit_words(bits) / bits; }
constexpr int word_pairs(int bits) { return 16 / bits; }
constexpr int kSparePair = 15;  // of a unit of 3 bits

// The code of column k in lane n.
inline uint32_t unit_code(int bits, const uint8_t* codes, int64_t k, int32_t n) {
  const int64_t unit = k / unit_columns(bits);
  const int pair = int(k % unit_columns(bits)) / 2, half = k % 2 ? 16 : 0, per = word_pairs(bits);
  const auto word = [&](int i) {
    uint32_t word;
    memcpy(&word, codes + ((unit * unit_words(bits) + i) * L + n) * 4, 4);
    return word >> half;
  };
  if (bits == 3 && pair == kSparePair) return (word(0) >> 15 & 1) | (word(1) >> 14 & 2) | (word(2) >> 13 & 4);
  return word(pair / per) >> pair % per * bits & ((1u << bits) - 1);
}

// Every second of 8 fields, side by side.
template <int Bits>
inline uint64_t every_second(uint64_t x) {
  constexpr uint64_t kOne = (uint64_t(1) << Bits) - 1, kTwo = (uint64_t(1) << 2 * Bits) - 1, kFour = (uint64_t(1) << 4 * Bits) - 1;
  x &= kOne * (1 | uint64_t(1) << 2 * Bits | uint64_t(1) << 4 * Bits | uint64_t(1) << 6 * Bits);
  x = (x | x >> Bits) & kTwo * (1 | uint64_t(1) << 4 * Bits);
  return (x | x >> 2 * Bits) & kFour;
}

// The even and the odd ones of 8 codes of a row, from column k on; zeros past its end.
struct Halves {
  uint64_t even = 0, odd = 0;
};

template <int Bits>
inline Halves halves_of(const Source& s, const uint8_t* from, int64_t k) {
  Halves h;
  if (s.bits == Bits && k + 8 <= s.cols) {
    uint64_t codes = 0;
    memcpy(&codes, from + k / 8 * Bits, Bits);
    return {every_second<Bits>(codes), every_second<Bits>(codes >> Bits)};
  }
  for (int j = 0; j < 8 && k + j < s.cols; ++j)
    (j % 2 ? h.odd : h.even) |= uint64_t(code_at(from, k + j, s.bits)) << j / 2 * Bits;
  return h;
}

// Word i of a unit's half, of all its codes side by side.
template <int Bits>
inline uint32_t half_word(uint64_t codes, int i) {
  if (Bits == 3) return uint32_t((codes >> 15 * i & 0x7fff) | (codes >> (45 + i) & 1) << 15);
  return uint32_t(codes >> 16 * i & 0xffff);
}

template <int Bits>
inline void pack_units(const Source& s, const uint8_t* from, int32_t n, uint8_t* to) {
  for (int64_t k = 0; k < s.cols; k += unit_columns(Bits)) {
    Halves all;
    for (int i = 0; i < unit_columns(Bits) / 8; ++i) {
      const Halves h = halves_of<Bits>(s, from, k + 8 * i);
      all.even |= h.even << 4 * Bits * i, all.odd |= h.odd << 4 * Bits * i;
    }
    for (int i = 0; i < unit_words(Bits); ++i, to += 4 * L) {
      const uint32_t word = half_word<Bits>(all.even, i) | half_word<Bits>(all.odd, i) << 16;
      memcpy(to + 4 * n, &word, 4);
    }
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
