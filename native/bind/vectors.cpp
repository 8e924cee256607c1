// Functions of one token's vector, for tests.
#include "arrays.h"

namespace intaglio {
namespace {

nb::tuple quantize(Floats2 x, int sum_group, const std::string& isa) {
  require(sum_group > 0 && x.shape(1) > 0, "sum_group and the width of x must be positive");
  const Kernels* k = kernels(isa);
  const size_t n = x.shape(0), cols = x.shape(1), ld = size_t(padded(int64_t(cols)));
  const size_t groups = (cols + size_t(sum_group) - 1) / size_t(sum_group);
  std::vector<int8_t> q(n * ld, 1);  // not zero: the padding is the kernel's to write
  std::vector<float> scale(n);
  std::vector<int32_t> sums(n * groups);
  for (size_t t = 0; t < n; ++t)
    k->quantize(x.data() + t * cols, dim32(cols), sum_group, &q[t * ld], &scale[t], &sums[t * groups]);
  return nb::make_tuple(numpy(std::move(q), {n, ld}), numpy(std::move(scale), {n}), numpy(std::move(sums), {n, groups}));
}

nb::tuple quantize_groups(Floats2 x, const Rounded& how, const std::string& isa) {
  const Rounding r = rounding(how);
  const Kernels* k = kernels(isa);
  const size_t n = x.shape(0), cols = x.shape(1), ld = size_t(padded(int64_t(cols)));
  require(cols > 0, "x must have columns");
  const size_t groups = (cols + size_t(r.size) - 1) / size_t(r.size);
  std::vector<int8_t> q(n * ld, 1);  // not zero: the padding is the kernel's to write
  std::vector<float> scale(n * groups);
  std::vector<int32_t> sums(n * groups);
  for (size_t t = 0; t < n; ++t)
    k->quantize_groups(x.data() + t * cols, dim32(cols), &r, &q[t * ld], &scale[t * groups], &sums[t * groups]);
  return nb::make_tuple(numpy(std::move(q), {n, ld}), numpy(std::move(scale), {n, groups}), numpy(std::move(sums), {n, groups}));
}

void require_length(const Floats1& x, size_t n, const char* name) {
  require(x.shape(0) == n, std::string(name) + " must have " + std::to_string(n) + " elements");
}

nb::ndarray<nb::numpy, float> rms_norm(Floats1 x, std::optional<Floats1> weight, float eps, const std::string& isa) {
  if (weight) require_length(*weight, x.shape(0), "weight");
  std::vector<float> out(x.shape(0));
  kernels(isa)->rms_norm(x.data(), weight ? weight->data() : nullptr, dim32(out.size()), eps, out.data());
  return numpy(std::move(out), {out.size()});
}

nb::ndarray<nb::numpy, float> gate(Floats1 g, Floats1 u, int activation, const std::string& isa) {
  require_length(u, g.shape(0), "u");
  require(activation >= 0 && activation <= 2, "activation is 0 (silu), 1 (gelu_tanh) or 2 (gelu)");
  std::vector<float> out(g.shape(0));
  kernels(isa)->gate(g.data(), u.data(), dim32(out.size()), activation, out.data());
  return numpy(std::move(out), {out.size()});
}

nb::ndarray<nb::numpy, float> rope(Floats1 head, Floats1 cos, Floats1 sin, const std::string& isa) {
  require(head.shape(0) % 2 == 0, "a head has an even number of channels");
  require_length(cos, head.shape(0) / 2, "cos");
  require_length(sin, head.shape(0) / 2, "sin");
  std::vector<float> out(head.data(), head.data() + head.shape(0));
  kernels(isa)->rope(out.data(), cos.data(), sin.data(), dim32(out.size()));
  return numpy(std::move(out), {out.size()});
}

nb::ndarray<nb::numpy, float> axpy(float a, Floats1 x, Floats1 y, const std::string& isa) {
  require_length(y, x.shape(0), "y");
  std::vector<float> out(y.data(), y.data() + y.shape(0));
  kernels(isa)->axpy(a, x.data(), dim32(out.size()), out.data());
  return numpy(std::move(out), {out.size()});
}

nb::ndarray<nb::numpy, float> softcap(Floats1 x, float cap, const std::string& isa) {
  std::vector<float> out(x.data(), x.data() + x.shape(0));
  kernels(isa)->softcap(out.data(), dim32(out.size()), cap);
  return numpy(std::move(out), {out.size()});
}

}  // namespace

void bind_vectors(nb::module_& m) {
  m.def("quantize", quantize, nb::arg("x"), nb::arg("sum_group"), nb::arg("isa") = "");
  m.def("quantize_groups", quantize_groups, nb::arg("x"), nb::arg("rounding"), nb::arg("isa") = "");
  m.def("rms_norm", rms_norm, nb::arg("x"), nb::arg("weight"), nb::arg("eps"), nb::arg("isa") = "");
  m.def("gate", gate, nb::arg("g"), nb::arg("u"), nb::arg("activation"), nb::arg("isa") = "");
  m.def("rope", rope, nb::arg("head"), nb::arg("cos"), nb::arg("sin"), nb::arg("isa") = "");
  m.def("axpy", axpy, nb::arg("a"), nb::arg("x"), nb::arg("y"), nb::arg("isa") = "");
  m.def("softcap", softcap, nb::arg("x"), nb::arg("cap"), nb::arg("isa") = "");
}

}  // namespace intaglio
