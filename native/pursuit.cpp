#include "pursuit.h"

#include <algorithm>
#include <cmath>

#include "lanes.h"
#include "together.h"

namespace intaglio {
namespace {

constexpr float kSpanned = 1e-5f;  // an atom with less of its square outside the chosen ones adds nothing to them
constexpr int32_t kColumns = 4 * kLanes;
constexpr int32_t kSide = 8;  // atoms that are taken together, for each of which solving alone would only wait

typedef float Side __attribute__((vector_size(4 * kSide)));  // a number of each of them
typedef float UnalignedSide __attribute__((vector_size(4 * kSide), aligned(4), may_alias));

INTAGLIO_LANES UnalignedSide& side(float* p) { return *reinterpret_cast<UnalignedSide*>(p); }

// What is known of one signal while its atoms are chosen. L L^T is the Gram matrix of the chosen atoms; rows of L are
// zero from their diagonal on, so that sums may run over whole lanes.
struct Chosen {
  int32_t atoms, per_bin, width;         // width: atoms, in whole kColumns
  int32_t stride;                        // of a row of L
  std::vector<float> left, size, factor, inverse, y, fit, rows;  // size: of `left`, -1 of closed atoms; inverse: of the diagonal
  std::vector<int32_t> index;

  Chosen(int32_t atoms, int32_t nonzeros, int32_t per_bin)
      : atoms(atoms), per_bin(per_bin), width((atoms + kColumns - 1) / kColumns * kColumns), stride(whole_lanes(nonzeros)),
        left(size_t(width)), size(size_t(width), -1.0f), factor(size_t(nonzeros) * size_t(stride)), inverse(size_t(stride)),
        y(size_t(stride)), fit(size_t(stride)), rows(size_t(nonzeros) * kSide) {}

  void start(const float* correlations) {
    std::copy_n(correlations, atoms, left.begin());
    std::fill_n(size.begin(), atoms, 0.0f);
    index.clear();
  }
  void close_bin_of(int32_t atom) {
    std::fill_n(size.begin() + atom / per_bin * per_bin, per_bin, -1.0f);
  }
};

INTAGLIO_LANES void measure(Chosen& c) {
  for (int32_t a = 0; a < c.atoms; ++a) c.size[size_t(a)] = c.size[size_t(a)] < 0 ? -1.0f : std::fabs(c.left[size_t(a)]);
}

// The first of the largest; the first that is open where none is a number.
INTAGLIO_LANES int32_t next_atom(const Chosen& c) {
  Lanes most = -1.0f - Lanes{};
  for (int32_t a = 0; a < c.width; a += kLanes) {
    const Lanes v = lanes(c.size.data() + a);
    most = v > most ? v : most;
  }
  float top = -1;
  for (int l = 0; l < kLanes; ++l) top = std::max(top, most[l]);
  const auto open = [&](float size) { return top < 0 ? !(size < 0) : size == top; };
  return int32_t(std::find_if(c.size.begin(), c.size.end(), open) - c.size.begin());
}

// The part of the next rows of L that stands below what is known of it.
INTAGLIO_LANES void solve(Chosen& c, const float* gram, const int32_t* atom, int32_t count) {
  const int32_t n = int32_t(c.index.size());
  for (int32_t i = 0; i < n; ++i) {
    const float* row = c.factor.data() + int64_t(i) * c.stride;
    float* x = c.rows.data();
    Side sum[4] = {};
    int32_t j = 0;
    for (; j + 4 <= i; j += 4, x += 4 * kSide)
      for (int k = 0; k < 4; ++k) sum[k] += row[j + k] * side(x + k * kSide);
    for (; j < i; ++j, x += kSide) sum[0] += row[j] * side(x);
    Side with = {};
    for (int32_t p = 0; p < count; ++p) with[p] = gram[int64_t(atom[p]) * c.width + c.index[size_t(i)]];
    side(x) = (with - (sum[0] + sum[1]) - (sum[2] + sum[3])) * c.inverse[size_t(i)];
  }
}

// So many more rows of L, and of y = L^-1 correlations.
INTAGLIO_LANES void take(Chosen& c, const float* gram, const float* correlations, const int32_t* atom, int32_t count) {
  const int32_t n = int32_t(c.index.size());
  solve(c, gram, atom, count);
  Side rest[kSide] = {}, known = {};  // what their products with one another, and with the signal, are beside those rows
  for (int32_t p = 0; p < count; ++p) {
    known[p] = correlations[atom[p]];
    for (int32_t q = 0; q < count; ++q) rest[p][q] = gram[int64_t(atom[p]) * c.width + atom[q]];
  }
  for (int32_t i = 0; i < n; ++i) {
    const Side x = side(c.rows.data() + int64_t(i) * kSide);
    known -= c.y[size_t(i)] * x;
    for (int32_t p = 0; p < count; ++p) rest[p] -= x[p] * x;
  }
  for (int32_t p = 0; p < count; ++p) {
    float* row = c.factor.data() + int64_t(n + p) * c.stride;
    for (int32_t i = 0; i < n; ++i) row[i] = c.rows[size_t(i) * kSide + size_t(p)];
    float square = rest[p][p], found = known[p];
    for (int32_t q = 0; q < p; ++q) {
      const float* other = c.factor.data() + int64_t(n + q) * c.stride;
      float v = rest[p][q];
      for (int32_t k = n; k < n + q; ++k) v -= row[k] * other[k];
      v *= c.inverse[size_t(n + q)];
      row[n + q] = v, square -= v * v, found -= v * c.y[size_t(n + q)];
    }
    const bool spanned = !(square > kSpanned);
    if (spanned) std::fill_n(row, n + p, 0.0f);
    const float inverse = spanned ? 0.0f : 1 / std::sqrt(square);
    c.inverse[size_t(n + p)] = inverse, c.y[size_t(n + p)] = found * inverse;
    c.index.push_back(atom[p]);
  }
}

// The coefficients of least squares: L^T fit = y.
INTAGLIO_LANES void refit(Chosen& c) {
  std::copy(c.y.begin(), c.y.end(), c.fit.begin());
  for (int32_t i = int32_t(c.index.size()) - 1; i >= 0; --i) {
    const float v = c.fit[size_t(i)] *= c.inverse[size_t(i)];
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
  for (int32_t left = nonzeros; left > 0;) {
    measure(c);
    for (int32_t more = std::min(picks, left); more > 0;) {
      const int32_t count = std::min(more, kSide);
      int32_t atom[kSide];
      for (int32_t p = 0; p < count; ++p) c.close_bin_of(atom[p] = next_atom(c));
      take(c, gram, correlations, atom, count);
      more -= count, left -= count;
    }
    refit(c);
    if (left > 0) leave(c, gram, correlations);
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
  one_by_one(n, threads, [&] {
    return [&, chosen = Chosen(atoms, nonzeros, per_bin)](int32_t i) mutable {
      pursue_one(chosen, wide.data(), correlations + int64_t(i) * atoms, nonzeros, picks);
      write(chosen, codes.index.data() + int64_t(i) * nonzeros, codes.value.data() + int64_t(i) * nonzeros);
    };
  });
  return codes;
}

}  // namespace intaglio
