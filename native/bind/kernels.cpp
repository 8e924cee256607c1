// Packed matrices and their products as Python sees them.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>

#include <algorithm>

#include "arrays.h"
#include "ops.h"
#include "roof.h"
#include "step.h"

namespace intaglio {

void bind_pages(nb::module_& m);
void bind_vectors(nb::module_& m);

namespace {

std::vector<std::string> isas() {
  const Kernels* list[8];
  std::vector<std::string> names;
  for (int32_t i = 0, n = supported_kernels(list, 8); i < n; ++i) names.emplace_back(list[i]->name);
  return names;
}

// One part: (bits, group, codes, scale, zero, group_scale). Plain kinds give their values' bytes as codes; a zero that is
// a float16 comes as its 16 bits.
using Zeros = std::variant<Bytes2, Array2<uint16_t>>;
using Part = std::tuple<int, int, Bytes2, std::optional<Floats2>, std::optional<Zeros>, std::optional<Bytes2>>;

int64_t code_row_bytes(int kind, int bits, int64_t cols) {
  if (kind == kF32) return 4 * cols;
  if (kind == kF16 || kind == kBF16) return 2 * cols;
  return (cols * bits + 7) / 8;
}

void set_zero(Source* s, const Zeros& zero, int64_t groups) {
  std::visit([&](const auto& z) { check_table(std::optional(z), s->rows, groups, "zero"); }, zero);
  if (const auto* bytes = std::get_if<Bytes2>(&zero)) s->zero = bytes->data();
  else s->half_zero = std::get<Array2<uint16_t>>(zero).data();
}

Source source(int kind, int cols, const Part& part) {
  const auto& [bits, group, codes, scale, zero, group_scale] = part;
  require(kind >= kF32 && kind <= kW4A8Group, "unknown kind of matrix " + std::to_string(kind));
  require(cols > 0 && group > 0 && (kind <= kBF16 || (bits >= 1 && bits <= 8)), "cols, group and bits must be positive");
  const int64_t rows = dim32(codes.shape(0)), groups = (int64_t(cols) + group - 1) / group;
  check_table(std::optional(codes), rows, code_row_bytes(kind, bits, cols), "codes");
  check_table(scale, rows, has_half_zeros(kind) || kind == kW4A8Group ? groups : 1, "scale");
  check_table(group_scale, rows, groups, "group_scale");
  Source s{kind, int32_t(rows), cols, bits, group, codes.data(), nullptr, nullptr, nullptr, nullptr};
  if (scale) s.scale = scale->data();
  if (zero) set_zero(&s, *zero, groups);
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

// The bytes of an element of each array a kind is made of.
const std::vector<int>& piece_widths(int kind) {
  static const std::vector<int> none, csr = {4, 2, 2}, lookup = {1, 2}, bsr4 = {4, 2, 1, 2, 1}, bsr16 = {4, 2, 2};
  static const std::vector<int> even_rows = {2, 2}, block_diagonal = {2}, nm = {1, 2}, nm8 = {1, 1, 4}, bilevel = {1, 1, 2}, bitmask = {1, 2};
  static const std::vector<int> trits = {1, 2}, groups = {1, 1, 1, 2};
  switch (kind) {
    case kCsr: return csr;
    case kLookup: return lookup;
    case kBsr4: return bsr4;
    case kBsr16: return bsr16;
    case kEvenRows: return even_rows;
    case kBlockDiagonal: return block_diagonal;
    case kNm: return nm;
    case kNm8: return nm8;
    case kBilevel3:
    case kBilevel4: return bilevel;
    case kBitmask: return bitmask;
    case kTrits: return trits;
    case kGroups: return groups;
    default: return none;
  }
}

using Piece = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// A structure of its arrays; what each must be is the kind's affair, its bytes are checked here.
PackedMatrix structured(int kind, int rows, int cols, int group, const std::vector<Piece>& arrays, const std::string& isa) {
  const std::vector<int>& widths = piece_widths(kind);
  require(arrays.size() == widths.size(), "kind " + std::to_string(kind) + " is made of " + std::to_string(widths.size()) +
                                              " arrays, got " + std::to_string(arrays.size()));
  Pieces p{kind, rows, cols, group, {}, {}};
  for (size_t i = 0; i < arrays.size(); ++i) {
    require(int(arrays[i].itemsize()) == widths[i], "array " + std::to_string(i) + " must have elements of " +
                                                        std::to_string(widths[i]) + " bytes");
    p.array[i] = arrays[i].data(), p.length[i] = int64_t(arrays[i].shape(0));
  }
  const Kernels* k = kernels(isa);
  nb::gil_scoped_release release;
  return lay_matrix(k, p);
}

// Activations of the rows of x for one matrix, padded to 64 columns and quantized when its kind asks for it. They begin
// with a line of the cache, as an executor's do: kernels are slower when they do not.
struct Inputs {
  Block<float> f;
  Block<int8_t> q;
  std::vector<float> scale;
  std::vector<int32_t> sums;
  Activations a{};
};

void set_pointers(Inputs& in, int64_t cols, int32_t sum_group) {
  const int64_t ld = padded(cols), groups = (cols + sum_group - 1) / sum_group;
  in.a = {in.f.data(), ld, in.q.data(), ld, in.scale.data(), in.sums.data(), groups, sum_group};
}

void prepare(Inputs& in, const PackedMatrix& w, const Floats2& x, const std::optional<Rounded>& how = {}) {
  const size_t n = x.shape(0), cols = x.shape(1), ld = size_t(padded(int64_t(cols)));
  if (!is_int8(w.m.kind)) {
    in.f = Block<float>(n * ld);
    for (size_t t = 0; t < n; ++t) std::copy_n(x.data() + t * cols, cols, in.f.data() + t * ld);
  } else {
    const size_t groups = (cols + size_t(w.m.group) - 1) / size_t(w.m.group);
    const Rounding r = how ? rounding(*how) : Rounding{w.m.group, 8, 0, 8, 1.0f};
    const bool each = reads_groups(w.m.kind);  // group has its scale
    require(!each || r.size == w.m.group, "activations must be rounded in the matrix's groups of " + std::to_string(w.m.group));
    in.q = Block<int8_t>(n * ld), in.scale.resize(each ? n * groups : n), in.sums.resize(n * groups);
    for (size_t t = 0; t < n && each; ++t)
      w.k->quantize_groups(x.data() + t * cols, w.m.cols, &r, &in.q[t * ld], &in.scale[t * groups], &in.sums[t * groups]);
    for (size_t t = 0; t < n && !each; ++t)
      w.k->quantize(x.data() + t * cols, w.m.cols, w.m.group, &in.q[t * ld], &in.scale[t], &in.sums[t * groups]);
  }
  set_pointers(in, int64_t(cols), is_int8(w.m.kind) ? w.m.group : w.m.cols);
}

nb::ndarray<nb::numpy, float> linear(const PackedMatrix& w, Floats2 x, std::optional<Floats1> bias, float alpha,
                                     std::optional<Floats2> onto, std::optional<Rounded> rounding) {
  require(x.shape(1) == size_t(w.m.cols), "x must have " + std::to_string(w.m.cols) + " columns");
  require(!bias || bias->shape(0) == size_t(w.m.rows), "bias must have " + std::to_string(w.m.rows) + " elements");
  check_table(onto, int64_t(x.shape(0)), w.m.rows, "onto");
  const size_t n = x.shape(0), rows = size_t(w.m.rows);
  std::vector<float> y(n * rows);
  if (onto) std::copy_n(onto->data(), n * rows, y.data());
  {
    nb::gil_scoped_release release;
    Inputs in;
    prepare(in, w, x, rounding);
    const Output out{y.data(), int64_t(rows), bias ? bias->data() : nullptr, alpha, onto ? 1 : 0};
    w.k->linear(&w.m, &in.a, 0, dim32(n), 0, w.m.rows, &out);
  }
  return numpy(std::move(y), {n, rows});
}

// Processor seconds of each of `repeats` calls of the kernel alone: others on the machine disturb these least.
std::vector<double> seconds(const PackedMatrix& w, Floats2 x, int repeats) {
  require(x.shape(1) == size_t(w.m.cols), "x must have " + std::to_string(w.m.cols) + " columns");
  const Block<float> y(x.shape(0) * size_t(w.m.rows));
  std::vector<double> times;
  nb::gil_scoped_release release;
  Inputs in;
  prepare(in, w, x);
  const Output out{y.data(), w.m.rows, nullptr, 1, 0};
  for (int i = 0; i < repeats; ++i) {
    const double start = processor_seconds();
    w.k->linear(&w.m, &in.a, 0, dim32(x.shape(0)), 0, w.m.rows, &out);
    times.push_back(processor_seconds() - start);
  }
  return times;
}

// The exact integers of given codes q, before any float; q is summed over `sum_group` columns (0: the matrix's group).
nb::ndarray<nb::numpy, int32_t> accumulate(const PackedMatrix& w, Array2<int8_t> q, int sum_group) {
  require(is_int8(w.m.kind) && w.m.kind < kW4A8Group, "this kind has no integer accumulator");
  require(q.shape(1) == size_t(w.m.cols), "q must have " + std::to_string(w.m.cols) + " columns");
  const size_t n = q.shape(0), cols = q.shape(1), ld = size_t(padded(int64_t(cols)));
  if (sum_group == 0) sum_group = w.m.group;
  require(sum_group > 0 && w.m.group % sum_group == 0, "sum_group must divide the matrix's group");
  const size_t groups = (cols + size_t(sum_group) - 1) / size_t(sum_group), rows = size_t(w.m.rows);
  Inputs in;
  in.q = Block<int8_t>(n * ld), in.sums.resize(n * groups), in.scale.resize(n);
  for (size_t t = 0; t < n; ++t)
    for (size_t i = 0; i < cols; ++i) {
      const int8_t v = q.data()[t * cols + i];
      require(v != -128, "activation codes lie in -127..127");
      in.q[t * ld + i] = v;
      in.sums[t * groups + i / size_t(sum_group)] += v;
    }
  set_pointers(in, int64_t(cols), sum_group);
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


nb::ndarray<nb::numpy, float> decode_source(int kind, int cols, const Part& part) {
  const Source s = source(kind, cols, part);
  std::vector<float> w;
  {
    nb::gil_scoped_release release;
    w = decode(s);
  }
  return numpy(std::move(w), {size_t(s.rows), size_t(s.cols)});
}

// Both ceilings ask the same of their arguments.
template <class F>
double ceiling(const std::string& isa, int threads, double seconds, const F& measure) {
  const Kernels* k = kernels(isa);
  require(threads >= 1 && threads <= 1024, "threads must be in 1..1024");
  require(seconds > 0 && seconds <= 60, "seconds must be in (0, 60]");
  nb::gil_scoped_release release;
  return measure(k);
}

double bandwidth(const std::string& isa, int threads, size_t nbytes, double seconds) {
  require(nbytes >= size_t(threads) * 4096, "reading takes at least 4096 bytes a thread");
  return ceiling(isa, threads, seconds, [&](const Kernels* k) { return read_bandwidth(k, threads, nbytes, seconds); });
}

double dot_peak(const std::string& isa, int threads, double seconds) {
  return ceiling(isa, threads, seconds, [&](const Kernels* k) { return int8_peak(k, threads, seconds); });
}

void bind_matrix(nb::module_& m) {
  nb::class_<PackedMatrix>(m, "Matrix", "A matrix repacked for one instruction set")
      .def("__init__", pack_into, nb::arg("kind"), nb::arg("cols"), nb::arg("parts").noconvert(), nb::arg("isa") = "",
           nb::arg("threads") = 1)
      .def("linear", linear, nb::arg("x"), nb::arg("bias") = nb::none(), nb::arg("alpha") = 1.0f,
           nb::arg("onto") = nb::none(), nb::arg("rounding") = nb::none(), "y (tokens, rows) = [onto +] alpha * (W x + bias), float32")
      .def("accumulate", accumulate, nb::arg("q"), nb::arg("sum_group") = 0,
           "The exact int32 of W's integers times q (tokens, cols) int8")
      .def("seconds", seconds, nb::arg("x"), nb::arg("repeats"), "Times of `linear` alone, for benchmarks")
      .def("cuts", [](const PackedMatrix& w, int threads) { return row_cuts(w.k, &w.m, threads, grain_of(w.k, w.m.kind)); },
           nb::arg("threads"), "Where an executor of so many threads cuts the rows: pieces that are read in equal times")
      .def("row", row, nb::arg("row"), "One row of W, float32")
      .def_prop_ro("kind", [](const PackedMatrix& w) { return w.m.kind; })
      .def_prop_ro("rows", [](const PackedMatrix& w) { return w.m.rows; })
      .def_prop_ro("cols", [](const PackedMatrix& w) { return w.m.cols; })
      .def_prop_ro("group", [](const PackedMatrix& w) { return w.m.group; })
      .def_prop_ro("nbytes", [](const PackedMatrix& w) { return w.m.bytes; })
      .def_prop_ro("isa", [](const PackedMatrix& w) { return w.k->name; });
}

}  // namespace
}  // namespace intaglio

void bind_kernels(nb::module_& m) {
  using namespace intaglio;
  m.def("isas", isas, "Instruction sets of this build that this processor runs, best first");
  m.def("decode", decode_source, nb::arg("kind"), nb::arg("cols"), nb::arg("part").noconvert(), "The float32 matrix of one part");
  m.def("structured", structured, nb::arg("kind"), nb::arg("rows"), nb::arg("cols"), nb::arg("group"),
        nb::arg("arrays").noconvert(), nb::arg("isa") = "", "A matrix of a structured kind, of its arrays");
  m.def("read_bandwidth", bandwidth, nb::arg("isa"), nb::arg("threads"), nb::arg("nbytes"), nb::arg("seconds"),
        "Bytes a second that so many threads read of a buffer of `nbytes`");
  m.def("int8_peak", dot_peak, nb::arg("isa"), nb::arg("threads"), nb::arg("seconds"),
        "Multiply-adds a second of 8-bit integers that stay in the first cache");
  bind_matrix(m);
  bind_pages(m);
  bind_vectors(m);
}
