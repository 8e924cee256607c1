// Scans of one row of logits. Everything walks blocks of kBlock: inside a block the loops are plain and without
// branches, so that they compile to vector code; a decision falls once a block.
#pragma once
#include <bit>
#include <cstdint>

namespace intaglio {

constexpr int32_t kBlock = 64;
constexpr int32_t blocks_of(int32_t n) { return (n + kBlock - 1) / kBlock; }

constexpr int32_t kNotFinite = -2;  // a NaN or +inf among the logits, or all -inf

struct Candidate {
  float value;
  int32_t token;
};

// The order of candidates: the larger value first, of equals the lower token.
inline bool before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// Index of the largest value, the first on ties, or kNotFinite. maxima[b] becomes the largest of block b.
int32_t find_largest(const float* x, int32_t n, float* maxima);

// The k first of the row in the order of `before`, without sorting the rest; fewer when fewer are above -inf.
// `maxima` as find_largest leaves them; `spare` holds as many floats, `out` n candidates.
int32_t find_first(const float* x, int32_t n, const float* maxima, int32_t k, float* spare, Candidate* out);

// How many come before x[token].
int32_t count_before(const float* x, int32_t n, int32_t token);

// e^x for x <= 0 with a relative error below 3e-7; 0 below -87.
inline float exp_of(float x) {
  constexpr float kLeast = -87.0f, kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = x > kLeast ? x : kLeast;
  const float shifted = clamped * 1.44269504f + kRound, n = shifted - kRound;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const float scaled = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(shifted) << 23));
  return x > kLeast ? scaled : 0.0f;
}

// out[i] = e^((x[i] - largest) / temperature), sums[b] the sum of block b; gives the sum of all. out may be x.
double soften(const float* x, int32_t n, float largest, float temperature, float* out, float* sums);

}  // namespace intaglio
