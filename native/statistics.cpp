#include "statistics.h"

#include <algorithm>
#include <limits>

#include "lanes.h"

namespace intaglio {
namespace {

typedef int32_t Indices __attribute__((vector_size(4 * kLanes)));

constexpr float kRounds = 12582912;  // 1.5 * 2^23: what is added to it becomes whole, to the nearest

// kLanes columns of `rows`, what is missing of them repeated from the last.
INTAGLIO_LANES void columns(const float* from, int32_t rows, int32_t n, int32_t at, float* to) {
  for (int32_t r = 0; r < rows; ++r)
    for (int32_t l = 0; l < kLanes; ++l) to[r * kLanes + l] = from[int64_t(r) * n + std::min(at + l, n - 1)];
}

struct Group {
  const float *cost, *x, *scales, *zeros;  // of sixteen outputs each but for cost
  int32_t inputs, scale_codes, zero_codes;
  float highest, limit;
};

// What the i-th weight of sixteen outputs adds to their cost, in squares of their scales, as exact (inputs, 16) and `bound` are.
INTAGLIO_LANES void add_cost(const Group& g, const float* exact, int32_t i, const Lanes& zero, const Lanes& bound, Lanes& sum) {
  const Lanes least = {}, most = least + g.highest, e = lanes(exact + i * kLanes);
  Lanes code = e + zero;
  code = code > least ? code : least;
  code = code < most ? code : most;
  code = (code + kRounds) - kRounds;
  const Lanes missed = code - zero - e, cost = missed * missed * g.cost[i];
  sum += cost < bound ? cost : bound;
}

INTAGLIO_CLONES void search(const Group& g, float* exact, int32_t* best) {
  Lanes least = Lanes{} + std::numeric_limits<float>::infinity();
  Indices found = {};
  for (int32_t s = 0; s < g.scale_codes; ++s) {
    const Lanes scale = lanes(g.scales + s * kLanes), square = scale * scale, bound = g.limit / square;
    for (int32_t i = 0; i < g.inputs; ++i) lanes(exact + i * kLanes) = lanes(g.x + i * kLanes) / scale;
    for (int32_t z = 0; z < g.zero_codes; ++z) {
      const Lanes zero = lanes(g.zeros + z * kLanes);
      Lanes even = {}, odd = {};
      int32_t i = 0;
      for (; i + 2 <= g.inputs; i += 2) add_cost(g, exact, i, zero, bound, even), add_cost(g, exact, i + 1, zero, bound, odd);
      if (i < g.inputs) add_cost(g, exact, i, zero, bound, even);
      const Lanes cost = square * (even + odd);
      const Indices better = cost < least, pair = Indices{} + (s * g.zero_codes + z);
      least = better ? cost : least, found = better ? pair : found;
    }
  }
  std::memcpy(best, &found, sizeof found);
}

}  // namespace

std::vector<uint16_t> best_pairs(const float* x, const float* cost, int32_t inputs, const float* scales, int32_t scale_codes,
                                 const float* zeros, int32_t zero_codes, int32_t n, float highest, float limit) {
  std::vector<uint16_t> best(static_cast<size_t>(n));
  std::vector<float> own(size_t(2 * inputs + scale_codes + zero_codes) * kLanes);
  float *in = own.data(), *exact = in + inputs * kLanes, *scale = exact + inputs * kLanes, *zero = scale + scale_codes * kLanes;
  const Group group{cost, in, scale, zero, inputs, scale_codes, zero_codes, highest, limit};
  for (int32_t at = 0; at < n; at += kLanes) {
    columns(x, inputs, n, at, in), columns(scales, scale_codes, n, at, scale), columns(zeros, zero_codes, n, at, zero);
    int32_t pair[kLanes];
    search(group, exact, pair);
    std::copy_n(pair, std::min(kLanes, n - at), best.begin() + at);
  }
  return best;
}

}  // namespace intaglio
