#include "centroids.h"

#include <algorithm>
#include <limits>

#include "lanes.h"
#include "together.h"

namespace intaglio {
namespace {

constexpr int32_t kEight = 8;
typedef double Eight __attribute__((vector_size(8 * kEight)));
typedef double UnalignedEight __attribute__((vector_size(8 * kEight), aligned(8), may_alias));
typedef int64_t Places __attribute__((vector_size(8 * kEight)));

INTAGLIO_LANES const UnalignedEight& eight(const double* p) { return *reinterpret_cast<const UnalignedEight*>(p); }

// Sums over the first 0, 1, 2, ... of a row's distinct numbers: of weights, times the numbers, times their squares. An interval
// [i, j) then errs by what its squares exceed its mean's. Eight more than are in use may be read.
struct Sums {
  std::vector<double> mass, moment, square;

  void reserve(int32_t n) {
    for (auto* sum : {&mass, &moment, &square}) sum->assign(size_t(n + 1 + kEight), 0.0);
  }
  double error(int32_t j) const { return square[size_t(j)] - moment[size_t(j)] * moment[size_t(j)] / mass[size_t(j)]; }
};

struct Least {
  double error;
  int32_t at;
};

// Where the last of several intervals of the first j numbers had best begin: i in [begin, end), with before[i] the error of
// those in front of it. The first of equals. Most ranges are short: lanes would mostly wait for one another.
INTAGLIO_CLONES Least last_interval(const double* before, const Sums& sums, int32_t begin, int32_t end, int32_t j) {
  const double *mass = sums.mass.data(), *moment = sums.moment.data(), *square = sums.square.data();
  const auto err = [=](const auto& w, const auto& wx, const auto& wxx, auto& error) __attribute__((always_inline)) {
    const auto m = mass[j] - w, first = moment[j] - wx;
    const auto shared = m > 0 ? first * first / m : 0 * m;  // weights that others drown out sum to nothing
    error += (square[j] - wxx) - shared;
  };
  Least found{std::numeric_limits<double>::infinity(), begin};
  if (end - begin <= kEight / 2) {
    for (int32_t i = begin; i < end; ++i) {
      double error = before[i];
      err(mass[i], moment[i], square[i], error);
      if (error < found.error) found = {error, i};
    }
    return found;
  }
  Eight least = Eight{} + found.error;
  Places at = Places{} + begin, place = {begin, begin + 1, begin + 2, begin + 3, begin + 4, begin + 5, begin + 6, begin + 7};
  for (int32_t i = begin; i < end; i += kEight, place += kEight) {
    const Eight w = eight(mass + i), wx = eight(moment + i), wxx = eight(square + i);  // read here: they lie anywhere
    Eight error = eight(before + i);
    err(w, wx, wxx, error);
    const Places better = (error < least) & (place < end);
    least = better ? error : least, at = better ? place : at;
  }
  for (int l = 0; l < kEight; ++l)
    if (least[l] < found.error || (least[l] == found.error && at[l] < found.at)) found = {least[l], int32_t(at[l])};
  return found;
}

// One row after another.
class Row {
 public:
  Row(int32_t n, int32_t count) : count_(count), begins_(size_t(count) * size_t(n + 1)) {
    sorted_.reserve(size_t(n));
    sums_.reserve(n);
    for (auto* error : {&before_, &error_}) error->assign(size_t(n + 1 + kEight), 0.0);
  }

  void fit(const float* values, const float* weights, int32_t n, float* centers) {
    sort(values, weights, n);
    if (numbers() <= count_) {
      for (int32_t c = 0; c < count_; ++c)
        centers[c] = sorted_.empty() ? 0.0f : sorted_[size_t(std::min(c, numbers() - 1))].value;
      return;
    }
    add_up();
    divide();
    for (int32_t c = count_ - 1, end = numbers(); c >= 0; --c) {
      const int32_t begin = c ? begins(c)[end] : 0;
      centers[c] = mean(begin, end);
      end = begin;
    }
  }

 private:
  struct Number {
    float value;
    double weight;
  };

  int32_t numbers() const { return int32_t(sorted_.size()); }
  int32_t* begins(int32_t cluster) { return begins_.data() + size_t(cluster) * (begins_.size() / size_t(count_)); }

  // What weighs something, equal numbers once.
  void sort(const float* values, const float* weights, int32_t n) {
    sorted_.clear();
    for (int32_t i = 0; i < n; ++i)
      if (weights[i] > 0) sorted_.push_back({values[i], weights[i]});
    std::sort(sorted_.begin(), sorted_.end(), [](const Number& a, const Number& b) { return a.value < b.value; });
    size_t kept = 0;
    for (size_t i = 1; i < sorted_.size(); ++i)
      if (sorted_[i].value == sorted_[kept].value) sorted_[kept].weight += sorted_[i].weight;
      else sorted_[++kept] = sorted_[i];
    if (!sorted_.empty()) sorted_.resize(kept + 1);
  }

  // Around the middle number, so that squares do not cancel.
  void add_up() {
    const double middle = sorted_[sorted_.size() / 2].value;
    for (size_t i = 0; i < sorted_.size(); ++i) {
      const double w = sorted_[i].weight, v = sorted_[i].value - middle;
      sums_.mass[i + 1] = sums_.mass[i] + w, sums_.moment[i + 1] = sums_.moment[i] + w * v;
      sums_.square[i + 1] = sums_.square[i] + w * v * v;
    }
  }

  // One interval more at a time; of the last only the whole row is asked for.
  void divide() {
    for (int32_t j = 1; j <= numbers(); ++j) error_[size_t(j)] = sums_.error(j);
    for (int32_t c = 1; c < count_; ++c) {
      std::swap(before_, error_);
      const bool last = c + 1 == count_;
      conquer(c, last ? numbers() : c + 1, numbers(), c, numbers() - 1);
    }
  }

  // The errors of the first j of [low, high], whose last interval begins in [from, to]; every one in front has a number.
  void conquer(int32_t c, int32_t low, int32_t high, int32_t from, int32_t to) {
    while (low <= high) {
      const int32_t j = low + (high - low) / 2;
      const Least found = last_interval(before_.data(), sums_, from, std::min(to, j - 1) + 1, j);
      error_[size_t(j)] = found.error, begins(c)[j] = found.at;
      conquer(c, low, j - 1, from, found.at);
      low = j + 1, from = found.at;
    }
  }

  float mean(int32_t begin, int32_t end) const {
    double mass = 0, moment = 0;
    for (int32_t i = begin; i < end; ++i) mass += sorted_[size_t(i)].weight, moment += sorted_[size_t(i)].weight * sorted_[size_t(i)].value;
    return float(moment / mass);
  }

  int32_t count_;
  std::vector<Number> sorted_;
  Sums sums_;
  std::vector<double> before_, error_;  // of the first j numbers, in one interval less, and in as many as there are so far
  std::vector<int32_t> begins_;         // (count, n + 1): where the last of so many intervals of the first j begins
};

}  // namespace

std::vector<float> centroids(const float* values, const float* weights, int32_t rows, int32_t n, int32_t count, int threads) {
  std::vector<float> centers(size_t(rows) * size_t(count));
  one_by_one(rows, threads, [&] {
    return [&, row = Row(n, count)](int32_t r) mutable {
      row.fit(values + int64_t(r) * n, weights + int64_t(r) * n, n, centers.data() + int64_t(r) * count);
    };
  });
  return centers;
}

}  // namespace intaglio
