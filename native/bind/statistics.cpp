// Choosing coded statistics as Python sees it.
#include "statistics.h"

#include "arrays.h"

namespace {

using namespace intaglio;

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

}  // namespace

void bind_statistics(nb::module_& m) {
  m.def("best_pairs", bound_best_pairs, nb::arg("x"), nb::arg("cost"), nb::arg("scales"), nb::arg("zeros"), nb::arg("highest"),
        nb::arg("limit"), "Of all pairs of a scale and a zero the one each output errs least with: scale * zeros + zero, uint16");
}
