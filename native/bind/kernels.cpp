// The kernels as Python sees them: numpy arrays in and out, every shape and type checked before a pointer is taken.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "packed.h"

namespace nb = nanobind;

namespace intaglio {
namespace {

template <class T>
using Array1 = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Array2 = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes2 = Array2<uint8_t>;
using Floats1 = Array1<float>;
using Floats2 = Array2<float>;

void require(bool ok, const std::string& sentence) {
  if (!ok) throw std::invalid_argument(sentence);
}

const Kernels* kernels(const std::string& isa) {
  const Kernels* k = find_kernels(isa.c_str());
  if (k) return k;
  const Kernels* list[8];
  std::string known;
  for (int32_t i = 0, n = supported_kernels(list, 8); i < n; ++i) known += std::string(i ? ", " : "") + list[i]->name;
  throw std::invalid_argument("this build and processor run " + known + "; not '" +
                              (isa.empty() ? "the value of INTAGLIO_ISA" : isa) + "'");
}

std::vector<std::string> isas() {
  const Kernels* list[8];
  std::vector<std::string> names;
  for (int32_t i = 0, n = supported_kernels(list, 8); i < n; ++i) names.emplace_back(list[i]->name);
  return names;
}

// Moves a vector into a numpy array of the given shape.
template <class T>
nb::ndarray<nb::numpy, T> numpy(std::vector<T>&& values, std::initializer_list<size_t> shape) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::ndarray<nb::numpy, T>(owned->data(), shape.size(), shape.begin(), owner);
}

int32_t dim32(size_t n) {
  require(n <= size_t(INT32_MAX), "a dimension may be at most 2^31 - 1");
  return int32_t(n);
}

// One part: (bits, group, codes, scale, zero, group_scale). Plain kinds give their values' bytes as codes.
using Part = std::tuple<int, int, Bytes2, std::optional<Floats2>, std::optional<Bytes2>, std::optional<Bytes2>>;

template <class A>
void check_table(const std::optional<A>& table, int64_t rows, int64_t columns, const char* name) {
  if (!table) return;
  require(int64_t(table->shape(0)) == rows && int64_t(table->shape(1)) == columns,
          std::string(name) + " must have shape (" + std::to_string(rows) + ", " + std::to_string(columns) + "), got (" +
              std::to_string(table->shape(0)) + ", " + std::to_string(table->shape(1)) + ")");
}

int64_t code_row_bytes(int kind, int bits, int64_t cols) {
  if (kind == kF32) return 4 * cols;
  if (kind == kF16 || kind == kBF16) return 2 * cols;
  return (cols * bits + 7) / 8;
}

Source source(int kind, int cols, const Part& part) {
  const auto& [bits, group, codes, scale, zero, group_scale] = part;
  require(kind >= kF32 && kind <= kW4A8Group, "unknown kind of matrix " + std::to_string(kind));
  require(cols > 0 && group > 0 && (kind <= kBF16 || (bits >= 1 && bits <= 8)), "cols, group and bits must be positive");
  const int64_t rows = dim32(codes.shape(0)), groups = (int64_t(cols) + group - 1) / group;
  check_table(std::optional(codes), rows, code_row_bytes(kind, bits, cols), "codes");
  check_table(scale, rows, kind == kW4 || kind == kW8 || kind == kW4A8Group ? groups : 1, "scale");
  check_table(zero, rows, groups, "zero");
  check_table(group_scale, rows, groups, "group_scale");
  Source s{kind, int32_t(rows), cols, bits, group, codes.data(), nullptr, nullptr, nullptr};
  if (scale) s.scale = scale->data();
  if (zero) s.zero = zero->data();
  if (group_scale) s.group_scale = group_scale->data();
  check_source(s);
  return s;
}

void pack_into(PackedMatrix* self, int kind, int cols, const std::vector<Part>& parts, const std::string& isa,
               int threads) {
  std::vector<Source> sources;
  for (const Part& part : parts) sources.push_back(source(kind, cols, part));
  const Kernels* k = kernels(isa);
  nb::gil_scoped_release release;
  new (self) PackedMatrix(pack_matrix(k, sources, threads));
}

// Activations of the rows of x for one matrix, padded to 64 columns and quantized when its kind asks for it.
struct Inputs {
  std::vector<float> f, scale;
  std::vector<int8_t> q;
  std::vector<int32_t> sums;
  Activations a{};
};

int64_t padded(int64_t cols) { return (cols + 63) / 64 * 64; }

void set_pointers(Inputs& in, int64_t cols, int32_t sum_group) {
  const int64_t ld = padded(cols), groups = (cols + sum_group - 1) / sum_group;
  in.a = {in.f.empty() ? nullptr : in.f.data(), ld,     in.q.empty() ? nullptr : in.q.data(), ld, in.scale.data(),
          in.sums.data(),                       groups, sum_group};
}

void prepare(Inputs& in, const PackedMatrix& w, const Floats2& x) {
  const size_t n = x.shape(0), cols = x.shape(1), ld = size_t(padded(int64_t(cols)));
  if (w.m.kind < kW8A8) {
    in.f.resize(n * ld);
    for (size_t t = 0; t < n; ++t) std::copy_n(x.data() + t * cols, cols, in.f.data() + t * ld);
  } else {
    const size_t groups = (cols + size_t(w.m.group) - 1) / size_t(w.m.group);
    in.q.resize(n * ld), in.scale.resize(n), in.sums.resize(n * groups);
    for (size_t t = 0; t < n; ++t)
      w.k->quantize(x.data() + t * cols, w.m.cols, w.m.group, &in.q[t * ld], &in.scale[t], &in.sums[t * groups]);
  }
  set_pointers(in, int64_t(cols), w.m.group);
}

nb::ndarray<nb::numpy, float> linear(const PackedMatrix& w, Floats2 x, std::optional<Floats1> bias, float alpha,
                                     std::optional<Floats2> onto) {
  require(x.shape(1) == size_t(w.m.cols), "x must have " + std::to_string(w.m.cols) + " columns");
  require(!bias || bias->shape(0) == size_t(w.m.rows), "bias must have " + std::to_string(w.m.rows) + " elements");
  check_table(onto, int64_t(x.shape(0)), w.m.rows, "onto");
  const size_t n = x.shape(0), rows = size_t(w.m.rows);
  std::vector<float> y(n * rows);
  if (onto) std::copy_n(onto->data(), n * rows, y.data());
  {
    nb::gil_scoped_release release;
    Inputs in;
    prepare(in, w, x);
    const Output out{y.data(), int64_t(rows), bias ? bias->data() : nullptr, alpha, onto ? 1 : 0};
    w.k->linear(&w.m, &in.a, 0, dim32(n), 0, w.m.rows, &out);
  }
  return numpy(std::move(y), {n, rows});
}

// The exact integers of given codes q, before any float.
nb::ndarray<nb::numpy, int32_t> accumulate(const PackedMatrix& w, Array2<int8_t> q) {
  require(w.m.kind >= kW8A8 && w.m.kind != kW4A8Group, "this kind has no integer accumulator");
  require(q.shape(1) == size_t(w.m.cols), "q must have " + std::to_string(w.m.cols) + " columns");
  const size_t n = q.shape(0), cols = q.shape(1), ld = size_t(padded(int64_t(cols)));
  const size_t groups = (cols + size_t(w.m.group) - 1) / size_t(w.m.group), rows = size_t(w.m.rows);
  Inputs in;
  in.q.resize(n * ld), in.sums.resize(n * groups), in.scale.resize(n);
  for (size_t t = 0; t < n; ++t)
    for (size_t i = 0; i < cols; ++i) {
      const int8_t v = q.data()[t * cols + i];
      require(v != -128, "activation codes lie in -127..127");
      in.q[t * ld + i] = v;
      in.sums[t * groups + i / size_t(w.m.group)] += v;
    }
  set_pointers(in, int64_t(cols), w.m.group);
  std::vector<int32_t> acc(n * rows);
  w.k->accumulate(&w.m, &in.a, 0, dim32(n), 0, w.m.rows, acc.data(), int64_t(rows));
  return numpy(std::move(acc), {n, rows});
}

nb::ndarray<nb::numpy, float> row(const PackedMatrix& w, int r) {
  require(r >= 0 && r < w.m.rows, "row " + std::to_string(r) + " of " + std::to_string(w.m.rows));
  std::vector<float> out(size_t(w.m.cols));
  w.k->row(&w.m, r, out.data());
  return numpy(std::move(out), {out.size()});
}


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

nb::ndarray<nb::numpy, float> decode_source(int kind, int cols, const Part& part) {
  const Source s = source(kind, cols, part);
  return numpy(decode(s), {size_t(s.rows), size_t(s.cols)});
}

void bind_matrix(nb::module_& m) {
  nb::class_<PackedMatrix>(m, "Matrix", "A matrix repacked for one instruction set")
      .def("__init__", pack_into, nb::arg("kind"), nb::arg("cols"), nb::arg("parts"), nb::arg("isa") = "",
           nb::arg("threads") = 1)
      .def("linear", linear, nb::arg("x"), nb::arg("bias") = nb::none(), nb::arg("alpha") = 1.0f,
           nb::arg("onto") = nb::none(), "y (tokens, rows) = [onto +] alpha * (W x + bias), float32")
      .def("accumulate", accumulate, nb::arg("q"), "The exact int32 of W's integers times q (tokens, cols) int8")
      .def("row", row, nb::arg("row"), "One row of W, float32")
      .def_prop_ro("kind", [](const PackedMatrix& w) { return w.m.kind; })
      .def_prop_ro("rows", [](const PackedMatrix& w) { return w.m.rows; })
      .def_prop_ro("cols", [](const PackedMatrix& w) { return w.m.cols; })
      .def_prop_ro("group", [](const PackedMatrix& w) { return w.m.group; })
      .def_prop_ro("nbytes", [](const PackedMatrix& w) { return w.bytes; })
      .def_prop_ro("isa", [](const PackedMatrix& w) { return w.k->name; });
}

}  // namespace
}  // namespace intaglio

void bind_kernels(nb::module_& m) {
  using namespace intaglio;
  m.def("isas", isas, "Instruction sets of this build that this processor runs, best first");
  m.def("quantize", quantize, nb::arg("x"), nb::arg("sum_group"), nb::arg("isa") = "");
  m.def("decode", decode_source, nb::arg("kind"), nb::arg("cols"), nb::arg("part"), "The float32 matrix of one part");
  bind_matrix(m);
}
