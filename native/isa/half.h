// float16 and bfloat16 in plain integer arithmetic, so every instruction set rounds alike (nearest even).
#pragma once
#include <stdint.h>
#include <string.h>

namespace intaglio {
namespace {

inline uint32_t float_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

inline float bits_float(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

inline float power_of_two(int32_t n) { return bits_float(uint32_t(127 + n) << 23); }  // -126 <= n <= 127

// The bits of 2^-120: a token with nothing larger counts as zeros, for 127 over it would not be a number.
constexpr uint32_t kSmallestToken = 0x03800000;

inline bool is_finite(float x) { return (float_bits(x) & 0x7f800000u) != 0x7f800000u; }

inline float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31) return bits_float(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float value = float(mantissa) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -value : value;
  }
  return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

inline uint16_t float_to_half(float x) {
  const uint32_t u = float_bits(x), sign = (u >> 16) & 0x8000;
  const uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return uint16_t(sign | 0x7e00);
  if (a >= 0x477ff000u) return uint16_t(sign | 0x7c00);  // rounds to 65536 or more
  if (a < 0x38800000u) {  // subnormal: adding 0.5 puts the unit of 2^-24 at the last mantissa bit
    const float shifted = bits_float(a) + 0.5f;
    return uint16_t(sign | (float_bits(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = a + 0xfffu + ((a >> 13) & 1);
  return uint16_t(sign | ((rounded - 0x38000000u) >> 13));
}

inline float bfloat_to_float(uint16_t h) { return bits_float(uint32_t(h) << 16); }

}  // namespace
}  // namespace intaglio
