// Sixteen floats at a time in plain C++, for what is not worth an instruction set's own file: on x86 the compiler makes
// a function marked INTAGLIO_CLONES once for each width, and the loader chooses.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#if __GNUC__ >= 12  // which multiplies and adds at once, as "avx2" alone does not allow
#define INTAGLIO_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define INTAGLIO_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define INTAGLIO_CLONES
#endif

namespace intaglio {
namespace {

constexpr int32_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

#define INTAGLIO_LANES __attribute__((always_inline)) inline

INTAGLIO_LANES const Unaligned& lanes(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
INTAGLIO_LANES Unaligned& lanes(float* p) { return *reinterpret_cast<Unaligned*>(p); }

inline int32_t whole_lanes(int32_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Of n elements, a multiple of kLanes.
INTAGLIO_LANES float dot(const float* a, const float* b, int32_t n) {
  Lanes even = {}, odd = {};
  int32_t i = 0;
  for (; i + kLanes < n; i += 2 * kLanes) even += lanes(a + i) * lanes(b + i), odd += lanes(a + i + kLanes) * lanes(b + i + kLanes);
  if (i < n) even += lanes(a + i) * lanes(b + i);
  even += odd;
  float sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += even[l];
  return sum;
}

// y += a * x
INTAGLIO_LANES void add(float a, const float* x, float* y, int32_t n) {
  for (int32_t i = 0; i < n; i += kLanes) lanes(y + i) += a * lanes(x + i);
}

}  // namespace
}  // namespace intaglio
