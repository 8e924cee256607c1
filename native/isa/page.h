// How one token's K or V of one head becomes page codes (kernels.h): shared, so that all sets write equal codes.
#pragma once
#include <math.h>
#include "source.h"

namespace intaglio {
namespace {

// Codes with scales and zeros, not plain float32 or float16.
inline bool is_coded(const PageLayout* l) { return l->bits < 16; }

struct PageCode {
  uint16_t scale, zero;  // float16
  float s, z;            // their values
};

// The smallest step that keeps z = -min/s a normal float16 number when all values are far from zero.
constexpr float kWidestOffset = 1.0f / 32768;
constexpr float kSmallestHalf = 1.0f / (1 << 24);  // below it a step would be 0, and small constants be lost

// Of a vector whose values lie in [low, high]; not `finite`: some value is infinite or not a number.
inline PageCode page_code(float low, float high, bool finite, int32_t bits) {
  PageCode c{0x7e00, 0, NAN, 0};  // not a number: what cannot be coded must be seen downstream
  if (!finite) return c;
  const float widest = (fabsf(low) > fabsf(high) ? fabsf(low) : fabsf(high)) * kWidestOffset;
  const float narrowest = widest > kSmallestHalf ? widest : kSmallestHalf;
  const float s = (high - low) / float((1 << bits) - 1);
  c.scale = float_to_half(s > narrowest ? s : narrowest);
  c.s = half_to_float(c.scale);
  c.zero = float_to_half(-low / c.s);
  c.z = half_to_float(c.zero);
  return c;
}

inline uint32_t page_quantum(const PageCode& c, float x, int32_t bits) {
  if (!(c.s > 0)) return 0;
  const float v = rintf(x / c.s + c.z), top = float((1 << bits) - 1);
  return v > 0 ? uint32_t(v < top ? v : top) : 0;  // a NaN is not > 0
}

}  // namespace
}  // namespace intaglio
