// What solvers spend their time with, as Python sees it.
#include <algorithm>
#include <cmath>

#include "arrays.h"
#include "centroids.h"
#include "pursuit.h"
#include "statistics.h"

namespace {

using namespace intaglio;

void require_threads(int threads) { require(threads >= 1 && threads <= 1024, "threads must be in 1..1024"); }

nb::tuple bound_pursue(Floats2 gram, Floats2 correlations, int nonzeros, int picks, int threads, int per_bin) {
  const size_t atoms = gram.shape(0);
  require(atoms >= 1 && atoms <= 65536 && gram.shape(1) == atoms, "gram must be square, of at most 65536 atoms");
  require(correlations.shape(1) == atoms, "correlations must have " + std::to_string(atoms) + " columns");
  require(per_bin >= 1 && atoms % size_t(per_bin) == 0, "atoms must be whole bins, got " + std::to_string(atoms) + " of them");
  const size_t bins = atoms / size_t(per_bin);
  require(nonzeros >= 1 && size_t(nonzeros) <= bins, "nonzeros must be in 1.." + std::to_string(bins));
  require(picks >= 1, "picks must be positive");
  require_threads(threads);
  const size_t n = correlations.shape(0);
  Codes codes{};
  {
    nb::gil_scoped_release release;
    codes = pursue(gram.data(), int32_t(atoms), correlations.data(), dim32(n), nonzeros, per_bin, picks, threads);
  }
  return nb::make_tuple(numpy(std::move(codes.index), {n, size_t(nonzeros)}), numpy(std::move(codes.value), {n, size_t(nonzeros)}));
}

nb::tuple bound_update_atoms(Floats2 atoms, Floats2 residual, Array2<uint16_t> index, Floats2 value, int steps, int threads) {
  const size_t k = atoms.shape(0), dim = atoms.shape(1), n = residual.shape(0), nonzeros = index.shape(1);
  require(residual.shape(1) == dim, "residual must have " + std::to_string(dim) + " columns");
  require(index.shape(0) == n && value.shape(0) == n && value.shape(1) == nonzeros, "index and value must have a row a signal");
  require(std::all_of(index.data(), index.data() + index.size(), [&](uint16_t i) { return i < k; }),
          "an index must be below " + std::to_string(k));
  require(steps >= 1, "steps must be positive");
  require_threads(threads);
  std::vector<float> d(atoms.data(), atoms.data() + k * dim), r(residual.data(), residual.data() + n * dim);
  Codes codes{dim32(n), dim32(nonzeros), {index.data(), index.data() + index.size()}, {value.data(), value.data() + value.size()}};
  {
    nb::gil_scoped_release release;
    update_atoms(d.data(), dim32(k), dim32(dim), r.data(), &codes, steps, threads);
  }
  return nb::make_tuple(numpy(std::move(d), {k, dim}), numpy(std::move(codes.value), {n, nonzeros}), numpy(std::move(r), {n, dim}));
}

nb::ndarray<nb::numpy, uint16_t> bound_best_pairs(Floats2 x, Floats1 cost, Floats2 scales, Floats2 zeros, int highest,
                                                  float limit) {
  const size_t inputs = x.shape(0), n = x.shape(1);
  require(inputs <= 1 << 20, "a group has at most 2^20 inputs");
  require(cost.shape(0) == inputs, "cost must have " + std::to_string(inputs) + " elements, one an input");
  const auto codes = [&](const Floats2& values, const char* name) {
    require(values.shape(0) >= 1 && values.shape(0) <= 256 && values.shape(1) == n,
            std::string(name) + " must have 1..256 rows and " + std::to_string(n) + " columns");
    return int32_t(values.shape(0));
  };
  const int32_t scale_codes = codes(scales, "scales"), zero_codes = codes(zeros, "zeros");
  require(highest >= 1 && highest <= 255, "highest must be in 1..255");
  require(limit > 0, "limit must be positive");
  std::vector<uint16_t> best;
  {
    nb::gil_scoped_release release;
    best = best_pairs(x.data(), cost.data(), int32_t(inputs), scales.data(), scale_codes, zeros.data(), zero_codes, dim32(n),
                      float(highest), limit);
  }
  return numpy(std::move(best), {n});
}

nb::ndarray<nb::numpy, float> bound_centroids(Floats2 values, Floats2 weights, int count, int threads) {
  const size_t rows = values.shape(0), n = values.shape(1);
  require(weights.shape(0) == rows && weights.shape(1) == n, "weights must have the shape of the values");
  require(count >= 1 && count <= 256, "count must be in 1..256");
  require_threads(threads);
  const int32_t r = dim32(rows), c = dim32(n);
  std::vector<float> centers;
  bool sound;
  {
    nb::gil_scoped_release release;
    sound = std::all_of(values.data(), values.data() + values.size(), [](float v) { return std::isfinite(v); }) &&
            std::all_of(weights.data(), weights.data() + weights.size(), [](float w) { return w >= 0 && std::isfinite(w); });
    if (sound) centers = centroids(values.data(), weights.data(), r, c, count, threads);
  }
  require(sound, "values must be finite, and weights finite and not negative");
  return numpy(std::move(centers), {rows, size_t(count)});
}

}  // namespace

void bind_solvers(nb::module_& m) {
  m.def("pursue", bound_pursue, nb::arg("gram"), nb::arg("correlations"), nb::arg("nonzeros"), nb::arg("picks") = 1,
        nb::arg("threads") = 1, nb::arg("per_bin") = 1,
        "Orthogonal matching pursuit, of `per_bin` atoms at most one: (index uint16, value float32), (signals, nonzeros) each");
  m.def("update_atoms", bound_update_atoms, nb::arg("atoms"), nb::arg("residual"), nb::arg("index"), nb::arg("value"),
        nb::arg("steps"), nb::arg("threads") = 1, "K-SVD's sweep over the atoms: atoms, value and residual as they are then");
  m.def("best_pairs", bound_best_pairs, nb::arg("x"), nb::arg("cost"), nb::arg("scales"), nb::arg("zeros"), nb::arg("highest"),
        nb::arg("limit"), "Of all pairs of a scale and a zero the one each output errs least with: scale * zeros + zero, uint16");
  m.def("centroids", bound_centroids, nb::arg("values"), nb::arg("weights"), nb::arg("count"), nb::arg("threads") = 1,
        "Weighted k-means of each row, the best there is: centers (rows, count), rising");
}
