// The kernels as Python sees them: numpy arrays in and out, every shape and type checked before a pointer is taken.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <time.h>

#include <algorithm>
#include <cstring>
#include <memory>
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

double processor_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// Processor seconds of each of `repeats` calls of the kernel alone: others on the machine disturb these least.
std::vector<double> seconds(const PackedMatrix& w, Floats2 x, int repeats) {
  require(x.shape(1) == size_t(w.m.cols), "x must have " + std::to_string(w.m.cols) + " columns");
  std::vector<float> y(x.shape(0) * size_t(w.m.rows));
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


// K and V of one sequence in pages of one layer, for tests of writing, reading and attending.
struct Pages {
  const Kernels* k;
  PageLayout layout;
  int32_t count;
  std::vector<std::unique_ptr<void, AlignedDelete>> pages;
  std::vector<void*> keys, values;

  Pages(const Pages&) = delete;

  Pages(int heads, int dim, int bits, int n, const std::string& isa) : k(kernels(isa)), layout{heads, dim, bits}, count(n) {
    require(heads > 0 && dim > 0 && dim <= 4096 && n > 0, "pages need heads, channels (at most 4096) and a count");
    require(bits == 16 || bits == 8 || bits == 4, "pages have 16, 8 or 4 bits, got " + std::to_string(bits));
    for (int i = 0; i < 2 * n; ++i) {
      pages.push_back(aligned_bytes(k->page_bytes(&layout)));
      std::memset(pages.back().get(), 0xff, k->page_bytes(&layout));  // a kernel must not count on zeros
      (i < n ? keys : values).push_back(pages.back().get());
    }
  }

  void check_token(int token) const {
    require(token >= 0 && token < count * kPage, "token " + std::to_string(token) + " lies beyond the pages");
  }

  void write(int token, Floats2 key, Floats2 value) {
    check_token(token);
    check_table(std::optional(key), layout.kv_heads, layout.head_dim, "key");
    check_table(std::optional(value), layout.kv_heads, layout.head_dim, "value");
    for (int32_t h = 0; h < layout.kv_heads; ++h) {
      const int64_t at = int64_t(h) * layout.head_dim;
      k->page_write(&layout, keys[size_t(token / kPage)], h, token % kPage, key.data() + at, 0);
      k->page_write(&layout, values[size_t(token / kPage)], h, token % kPage, value.data() + at, 1);
    }
  }

  nb::tuple read(int token) const {
    check_token(token);
    const size_t heads = size_t(layout.kv_heads), dim = size_t(layout.head_dim);
    std::vector<float> key(heads * dim), value(heads * dim);
    for (int32_t h = 0; h < layout.kv_heads; ++h) {
      k->page_read(&layout, keys[size_t(token / kPage)], h, token % kPage, &key[size_t(h) * dim], 0);
      k->page_read(&layout, values[size_t(token / kPage)], h, token % kPage, &value[size_t(h) * dim], 1);
    }
    return nb::make_tuple(numpy(std::move(key), {heads, dim}), numpy(std::move(value), {heads, dim}));
  }

  // q (queries, rep, dim) at `position` on; out of the same shape, and (queries, rep, 2) of maxima and sums.
  nb::tuple attend(nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu> q, int kv_head, int position,
                   float scale, int window, float softcap, int key_begin, int key_end, bool unfinished) const {
    const size_t queries = q.shape(0), rep = q.shape(1), dim = q.shape(2), width = rep * dim;
    require(dim == size_t(layout.head_dim) && kv_head >= 0 && kv_head < layout.kv_heads && window >= 0,
            "q, kv_head or window does not fit the pages");
    const int64_t end = int64_t(position) + int64_t(queries);
    require(position >= 0 && end <= int64_t(count) * kPage, "the queries lie beyond the pages");
    require(key_begin >= 0 && key_end <= end, "keys must lie in 0..position + queries");
    std::vector<float> out(queries * width), partial(queries * rep * 2);
    const auto scratch = aligned_bytes(k->attend_scratch(&layout, dim32(queries), dim32(rep)));
    const Attend a{&layout, kv_head, dim32(rep), dim32(queries), position, window, scale, softcap, q.data(),
                   int64_t(width), keys.data(), values.data(), key_begin, key_end < 0 ? int32_t(end) : key_end,
                   out.data(), int64_t(width), unfinished ? partial.data() : nullptr, scratch.get()};
    k->attend(&a);
    return nb::make_tuple(numpy(std::move(out), {queries, rep, dim}), numpy(std::move(partial), {queries, rep, 2}));
  }
};

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
      .def("__init__", pack_into, nb::arg("kind"), nb::arg("cols"), nb::arg("parts").noconvert(), nb::arg("isa") = "",
           nb::arg("threads") = 1)
      .def("linear", linear, nb::arg("x"), nb::arg("bias") = nb::none(), nb::arg("alpha") = 1.0f,
           nb::arg("onto") = nb::none(), "y (tokens, rows) = [onto +] alpha * (W x + bias), float32")
      .def("accumulate", accumulate, nb::arg("q"), "The exact int32 of W's integers times q (tokens, cols) int8")
      .def("seconds", seconds, nb::arg("x"), nb::arg("repeats"), "Times of `linear` alone, for benchmarks")
      .def("row", row, nb::arg("row"), "One row of W, float32")
      .def_prop_ro("kind", [](const PackedMatrix& w) { return w.m.kind; })
      .def_prop_ro("rows", [](const PackedMatrix& w) { return w.m.rows; })
      .def_prop_ro("cols", [](const PackedMatrix& w) { return w.m.cols; })
      .def_prop_ro("group", [](const PackedMatrix& w) { return w.m.group; })
      .def_prop_ro("nbytes", [](const PackedMatrix& w) { return w.bytes; })
      .def_prop_ro("isa", [](const PackedMatrix& w) { return w.k->name; });
}

void bind_pages(nb::module_& m) {
  nb::class_<Pages>(m, "Pages", "Keys and values of one sequence, as one layer's pages")
      .def(nb::init<int, int, int, int, const std::string&>(), nb::arg("kv_heads"), nb::arg("head_dim"), nb::arg("bits"),
           nb::arg("count"), nb::arg("isa") = "")
      .def("write", &Pages::write, nb::arg("token"), nb::arg("key"), nb::arg("value"))
      .def("read", &Pages::read, nb::arg("token"))
      .def("attend", &Pages::attend, nb::arg("q"), nb::arg("kv_head"), nb::arg("position"), nb::arg("scale"),
           nb::arg("window") = 0, nb::arg("softcap") = 0.0f, nb::arg("key_begin") = 0, nb::arg("key_end") = -1,
           nb::arg("unfinished") = false)
      .def_prop_ro("page_bytes", [](const Pages& p) { return p.k->page_bytes(&p.layout); });
}

void bind_vectors(nb::module_& m) {
  m.def("quantize", quantize, nb::arg("x"), nb::arg("sum_group"), nb::arg("isa") = "");
  m.def("rms_norm", rms_norm, nb::arg("x"), nb::arg("weight"), nb::arg("eps"), nb::arg("isa") = "");
  m.def("gate", gate, nb::arg("g"), nb::arg("u"), nb::arg("activation"), nb::arg("isa") = "");
  m.def("rope", rope, nb::arg("head"), nb::arg("cos"), nb::arg("sin"), nb::arg("isa") = "");
  m.def("axpy", axpy, nb::arg("a"), nb::arg("x"), nb::arg("y"), nb::arg("isa") = "");
  m.def("softcap", softcap, nb::arg("x"), nb::arg("cap"), nb::arg("isa") = "");
}

}  // namespace
}  // namespace intaglio

void bind_kernels(nb::module_& m) {
  using namespace intaglio;
  m.def("isas", isas, "Instruction sets of this build that this processor runs, best first");
  m.def("decode", decode_source, nb::arg("kind"), nb::arg("cols"), nb::arg("part").noconvert(), "The float32 matrix of one part");
  bind_matrix(m);
  bind_pages(m);
  bind_vectors(m);
}
