#include "row.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace intaglio {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kLanes = 16;  // independent partial results: what lets the compiler use vectors

// Calls body(block, first, count) for each block.
template <class F>
void each_block(int32_t n, F body) {
  for (int32_t b = 0; b < blocks_of(n); ++b) body(b, b * kBlock, std::min(kBlock, n - b * kBlock));
}

// The largest of one block; `broken` grows where there is a NaN or +inf.
float block_maximum(const float* x, int32_t n, int32_t& broken) {
  float most[kLanes];
  int32_t bad[kLanes] = {};
  std::fill_n(most, kLanes, -kInfinity);
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int32_t j = 0; j < kLanes; ++j) {
      bad[j] |= !(x[i + j] < kInfinity);
      most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
    }
  }
  for (; i < n; ++i) {
    bad[0] |= !(x[i] < kInfinity);
    most[0] = x[i] > most[0] ? x[i] : most[0];
  }
  for (int32_t j = 0; j < kLanes; ++j) broken |= bad[j];
  return *std::max_element(most, most + kLanes);
}

void soften_block(const float* x, int32_t n, float largest, float temperature, float* y) {
  for (int32_t i = 0; i < n; ++i) y[i] = exp_of((x[i] - largest) / temperature);
}

float sum_block(const float* y) {
  float lane[kLanes] = {};
  for (int32_t i = 0; i < kBlock; i += kLanes) {
    for (int32_t j = 0; j < kLanes; ++j) lane[j] += y[i + j];
  }
  float sum = 0;
  for (int32_t j = 0; j < kLanes; ++j) sum += lane[j];
  return sum;
}

// A value that at least k of the row reach: the k-th largest of the blocks' maxima.
float lower_bound_of_kth(const float* maxima, int32_t blocks, int32_t k, float* spare) {
  if (k >= blocks) return -kInfinity;
  std::copy(maxima, maxima + blocks, spare);
  std::nth_element(spare, spare + (k - 1), spare + blocks, std::greater<>());
  return spare[k - 1];
}

}  // namespace

int32_t find_largest(const float* x, int32_t n, float* maxima) {
  int32_t broken = 0, at = -1;
  float best = -kInfinity;
  each_block(n, [&](int32_t b, int32_t first, int32_t count) {
    maxima[b] = block_maximum(x + first, count, broken);
    if (maxima[b] > best) {
      best = maxima[b];
      at = first;
    }
  });
  if (broken || at < 0) return kNotFinite;
  return static_cast<int32_t>(std::find(x + at, x + n, best) - x);
}

int32_t find_first(const float* x, int32_t n, const float* maxima, int32_t k, float* spare, Candidate* out) {
  const float bound = lower_bound_of_kth(maxima, blocks_of(n), k, spare);
  int32_t found = 0;
  each_block(n, [&](int32_t b, int32_t first, int32_t count) {
    if (maxima[b] < bound || maxima[b] == -kInfinity) return;
    for (int32_t i = first; i < first + count; ++i) {
      out[found] = {x[i], i};
      found += x[i] >= bound && x[i] > -kInfinity;
    }
  });
  if (k < found) {
    std::nth_element(out, out + k, out + found, before);
    found = k;
  }
  std::sort(out, out + found, before);
  return found;
}

int32_t count_before(const float* x, int32_t n, int32_t token) {
  const float value = x[token];
  int32_t larger = 0, equal = 0;
  for (int32_t i = 0; i < n; ++i) larger += x[i] > value;
  for (int32_t i = 0; i < token; ++i) equal += x[i] == value;
  return larger + equal;
}

double soften(const float* x, int32_t n, float largest, float temperature, float* out, float* sums) {
  double total = 0;
  each_block(n, [&](int32_t b, int32_t first, int32_t count) {
    float y[kBlock] = {};  // between x and out, which may be the same
    soften_block(x + first, count, largest, temperature, y);
    std::copy(y, y + count, out + first);
    total += sums[b] = sum_block(y);
  });
  return total;
}

}  // namespace intaglio
