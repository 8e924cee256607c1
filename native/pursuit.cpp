#include "pursuit.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "lanes.h"

namespace intaglio {
namespace {

constexpr float kSpanned = 1e-5f;  // an atom with less of its square outside the chosen ones adds nothing to them
constexpr int32_t kColumns = 4 * kLanes;

// What is known of one signal while its atoms are chosen. L L^T is the Gram matrix of the chosen atoms; rows of L are
// zero from their diagonal on, so that sums may run over whole lanes.
struct Chosen {
  int32_t atoms, per_bin, width;         // width: atoms, in whole kColumns
  int32_t stride;                        // of a row of L
  std::vector<float> left, factor, diagonal, y, fit;
  std::vector<int32_t> index;
  std::vector<uint8_t> closed;

  Chosen(int32_t atoms, int32_t nonzeros, int32_t per_bin)
      : atoms(atoms), per_bin(per_bin), width((atoms + kColumns - 1) / kColumns * kColumns), stride(whole_lanes(nonzeros)),
        left(size_t(width)), factor(size_t(nonzeros) * size_t(stride)), diagonal(size_t(stride)), y(size_t(stride)),
        fit(size_t(stride)), closed(size_t(atoms)) {}

  void start(const float* correlations) {
    std::copy_n(correlations, atoms, left.begin());
    std::fill(closed.begin(), closed.end(), 0);
    std::fill(y.begin(), y.end(), 0.0f);
    index.clear();
  }
};

int32_t next_atom(const Chosen& c) {
  int32_t best = -1;
  float most = -1;
  for (int32_t a = 0; a < c.atoms; ++a) {
    const float found = std::fabs(c.left[size_t(a)]);
    if (!c.closed[size_t(a)] && (best < 0 || found > most)) best = a, most = found;
  }
  return best;
}

// One more row of L, and of y = L^-1 correlations.
INTAGLIO_LANES void take(Chosen& c, const float* gram, const float* correlations, int32_t atom) {
  const int32_t n = int32_t(c.index.size());
  const float* with = gram + int64_t(atom) * c.width;
  float* row = c.factor.data() + int64_t(n) * c.stride;
  std::fill_n(row, n, 0.0f);
  for (int32_t i = 0; i < n; ++i)
    row[i] = (with[c.index[size_t(i)]] - dot(c.factor.data() + int64_t(i) * c.stride, row, whole_lanes(i))) / c.diagonal[size_t(i)];
  const float rest = with[atom] - dot(row, row, whole_lanes(n));
  const bool spanned = !(rest > kSpanned);
  if (spanned) std::fill_n(row, n, 0.0f);
  c.diagonal[size_t(n)] = spanned ? std::numeric_limits<float>::infinity() : std::sqrt(rest);  // then all over it is 0
  c.y[size_t(n)] = (correlations[atom] - dot(row, c.y.data(), whole_lanes(n))) / c.diagonal[size_t(n)];
  c.index.push_back(atom);
  std::fill_n(c.closed.begin() + atom / c.per_bin * c.per_bin, c.per_bin, uint8_t(1));
}

// The coefficients of least squares: L^T fit = y.
INTAGLIO_LANES void refit(Chosen& c) {
  std::copy(c.y.begin(), c.y.end(), c.fit.begin());
  for (int32_t i = int32_t(c.index.size()) - 1; i >= 0; --i) {
    const float v = c.fit[size_t(i)] /= c.diagonal[size_t(i)];
    add(-v, c.factor.data() + int64_t(i) * c.stride, c.fit.data(), whole_lanes(i));
  }
}

// Correlations of what the chosen atoms leave.
INTAGLIO_LANES void leave(Chosen& c, const float* gram, const float* correlations) {
  std::copy_n(correlations, c.atoms, c.left.begin());
  for (int32_t at = 0; at < c.width; at += kColumns) {
    float* left = c.left.data() + at;
    Lanes a = lanes(left), b = lanes(left + kLanes), d = lanes(left + 2 * kLanes), e = lanes(left + 3 * kLanes);
    for (size_t i = 0; i < c.index.size(); ++i) {
      const float* g = gram + int64_t(c.index[i]) * c.width + at;
      const float v = c.fit[i];
      a -= v * lanes(g), b -= v * lanes(g + kLanes), d -= v * lanes(g + 2 * kLanes), e -= v * lanes(g + 3 * kLanes);
    }
    lanes(left) = a, lanes(left + kLanes) = b, lanes(left + 2 * kLanes) = d, lanes(left + 3 * kLanes) = e;
  }
}

INTAGLIO_CLONES void pursue_one(Chosen& c, const float* gram, const float* correlations, int32_t nonzeros, int32_t picks) {
  c.start(correlations);
  while (int32_t(c.index.size()) < nonzeros) {
    for (int32_t i = 0; i < picks && int32_t(c.index.size()) < nonzeros; ++i) take(c, gram, correlations, next_atom(c));
    refit(c);
    if (int32_t(c.index.size()) < nonzeros) leave(c, gram, correlations);
  }
}

void write(const Chosen& c, uint16_t* index, float* value) {
  std::vector<int32_t> order(c.index.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = int32_t(i);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return c.index[size_t(a)] < c.index[size_t(b)]; });
  for (size_t i = 0; i < order.size(); ++i)
    index[i] = uint16_t(c.index[size_t(order[i])]), value[i] = c.fit[size_t(order[i])];
}

// Rows of `from` (rows, cols) at a stride of whole lanes, or of more.
std::vector<float> spread(const float* from, int32_t rows, int32_t cols, int32_t stride) {
  std::vector<float> to(size_t(rows) * size_t(stride));
  for (int32_t r = 0; r < rows; ++r) std::copy_n(from + int64_t(r) * cols, cols, to.begin() + int64_t(r) * stride);
  return to;
}

}  // namespace

Codes pursue(const float* gram, int32_t atoms, const float* correlations, int32_t n, int32_t nonzeros, int32_t per_bin,
             int32_t picks, int threads) {
  Codes codes{n, nonzeros, std::vector<uint16_t>(size_t(n) * size_t(nonzeros)), std::vector<float>(size_t(n) * size_t(nonzeros))};
  const auto wide = spread(gram, atoms, atoms, Chosen(atoms, 1, 1).width);
  std::atomic<int32_t> next{0};
  const auto work = [&] {
    Chosen chosen(atoms, nonzeros, per_bin);
    for (int32_t i; (i = next.fetch_add(1)) < n;) {
      pursue_one(chosen, wide.data(), correlations + int64_t(i) * atoms, nonzeros, picks);
      write(chosen, codes.index.data() + int64_t(i) * nonzeros, codes.value.data() + int64_t(i) * nonzeros);
    }
  };
  std::vector<std::jthread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  others.clear();  // joins
  return codes;
}

}  // namespace intaglio
