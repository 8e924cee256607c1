// The step executor as Python sees it. Columns of a buffer are (buffer, offset, width); buffer -1 is the logits.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "executor.h"
#include "packed.h"

namespace nb = nanobind;

namespace intaglio {
namespace {

template <class T>
using Array1 = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Array2 = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Columns = std::tuple<int32_t, int32_t, int32_t>;

Executor::Columns columns(const Columns& c) { return {std::get<0>(c), std::get<1>(c), std::get<2>(c)}; }

Rows rows(int32_t which) {
  if (which < 0 || which > static_cast<int32_t>(Rows::kGathered)) throw std::invalid_argument("no such rows");
  return static_cast<Rows>(which);
}

int32_t length(size_t n) {
  if (n > static_cast<size_t>(INT32_MAX)) throw std::invalid_argument("an array of a step is too long");
  return static_cast<int32_t>(n);
}

template <class T>
nb::ndarray<nb::numpy, T> numpy(std::vector<T> values) {
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  nb::capsule owner(owned.get(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  std::vector<T>* kept = owned.release();
  return nb::ndarray<nb::numpy, T>(kept->data(), {kept->size()}, owner);
}

void make(Executor* self, const std::string& isa, int32_t threads, int32_t max_tokens, int32_t max_sequences,
          int32_t max_context, int32_t pages, int32_t vocab, int32_t layers, int32_t heads, int32_t kv_heads,
          int32_t head_dim, int32_t kv_bits) {
  const Kernels* kernels = find_kernels(isa.c_str());
  if (!kernels) throw std::invalid_argument("unknown instruction set '" + isa + "'");
  new (self) Executor(kernels, Limits{threads, max_tokens, max_sequences, max_context, pages, vocab, layers, heads,
                                      kv_heads, head_dim, kv_bits});
}

Request request(const Array1<int32_t>& tokens, const Array2<int32_t>& table, const Array1<int32_t>& pages,
                const Array1<int32_t>& history, const Array2<float>& settings, const Array1<uint64_t>& seeds) {
  const size_t chunks = table.shape(0);
  if (table.shape(1) != Request::kColumns || settings.shape(0) != chunks || settings.shape(1) != 4 ||
      seeds.shape(0) != chunks) {
    throw std::invalid_argument("a step's table, settings and seeds must have one row a chunk");
  }
  return {length(chunks),  length(tokens.shape(0)), length(pages.shape(0)), length(history.shape(0)), table.data(),
          tokens.data(),   pages.data(),            history.data(),         settings.data(),          seeds.data()};
}

void bind_program(nb::class_<Executor>& c) {
  c.def("add_buffer", &Executor::add_buffer, nb::arg("width"), nb::arg("floats"), nb::arg("sum_group"))
      .def("add_vector",
           [](Executor& e, Array1<float> v) { return e.add_vector(v.data(), length(v.shape(0))); })
      .def("add_matrix", [](Executor& e, const PackedMatrix& m) { return e.add_matrix(&m.m); }, nb::keep_alive<1, 2>())
      .def("add_rope", &Executor::add_rope, nb::arg("inv_freq"), nb::arg("scale"))
      .def("embed", [](Executor& e, int32_t matrix, Columns target, int32_t round_bits, float scale) {
        e.embed(matrix, columns(target), round_bits, scale);
      })
      .def("norm", [](Executor& e, Columns source, Columns target, int32_t round_bits, int32_t gain, float eps,
                      int32_t which) {
        e.norm(columns(source), columns(target), round_bits, gain, eps, rows(which));
      })
      .def("add_norm", [](Executor& e, Columns source, Columns residual, int32_t gain, float eps, float alpha) {
        e.add_norm(columns(source), columns(residual), gain, eps, alpha);
      })
      .def("linear", [](Executor& e, int32_t matrix, int32_t source, Columns target, int32_t bias, float alpha,
                        bool accumulate, int32_t which) {
        e.linear(matrix, source, columns(target), bias, alpha, accumulate, rows(which));
      })
      .def("gate", [](Executor& e, Columns gate, Columns up, Columns target, int32_t round_bits, int32_t activation) {
        e.gate(columns(gate), columns(up), columns(target), round_bits, activation);
      })
      .def("append", [](Executor& e, int32_t layer, int32_t rope, Columns q, Columns k, Columns v, int32_t q_gain,
                        int32_t k_gain, float eps) {
        e.append(layer, rope, columns(q), columns(k), columns(v), q_gain, k_gain, eps);
      })
      .def("attend", [](Executor& e, int32_t layer, Columns q, Columns target, int32_t window, float scale,
                        float softcap) { e.attend(layer, columns(q), columns(target), window, scale, softcap); })
      .def("softcap", &Executor::softcap)
      .def("sample", &Executor::sample);
}

nb::ndarray<nb::numpy, int32_t> step(Executor& e, Array1<int32_t> tokens, Array2<int32_t> table, Array1<int32_t> pages,
                                     Array1<int32_t> history, Array2<float> settings, Array1<uint64_t> seeds) {
  const Request r = request(tokens, table, pages, history, settings, seeds);
  std::vector<int32_t> drawn;
  {
    nb::gil_scoped_release release;
    drawn = e.step(r);
  }
  return numpy(std::move(drawn));
}

void score(Executor& e, Array1<int32_t> tokens, Array2<int32_t> table, Array1<int32_t> pages, Array1<int32_t> history,
           Array2<float> settings, Array1<uint64_t> seeds,
           nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu> logits) {
  const Request r = request(tokens, table, pages, history, settings, seeds);
  if (logits.shape(0) != static_cast<size_t>(r.tokens) ||
      logits.shape(1) != static_cast<size_t>(e.limits().vocab)) {
    throw std::invalid_argument("logits must be an array of (tokens, vocabulary)");
  }
  nb::gil_scoped_release release;
  e.score(r, logits.data());
}

void bind_steps(nb::class_<Executor>& c) {
  c.def("step", step, "One mixed step: a token for each chunk that asked, -2 where its logits are not finite")
      .def("score", score, "One step that fills `logits` (tokens, vocabulary) instead of sampling")
      .def("logits", [](const Executor& e, int32_t draw) {
        const float* row = e.logits_of(draw);
        return numpy(std::vector<float>(row, row + e.limits().vocab));
      })
      .def("logprob", [](const Executor& e, int32_t draw) {
        return log_probability(e.logits_of(draw), e.limits().vocab, e.token_of(draw));
      })
      .def("read_page", [](const Executor& e, int32_t page, int32_t layer, int32_t head, int32_t slot, bool is_value) {
        std::vector<float> out(static_cast<size_t>(e.limits().head_dim));
        e.read_page(page, layer, head, slot, is_value, out.data());
        return numpy(std::move(out));
      })
      .def_prop_ro("reserved_nbytes", &Executor::reserved_nbytes)
      .def_prop_ro("cache_nbytes", &Executor::cache_nbytes);
}

int32_t draw(Array1<float> logits, float temperature, int32_t top_k, float top_p, float min_p,
             float repetition_penalty, uint64_t seed, Array1<int32_t> history, int32_t position) {
  const int32_t vocab = length(logits.shape(0)), said = length(history.shape(0));
  const bool known = std::all_of(history.data(), history.data() + said, [&](int32_t t) { return t >= 0 && t < vocab; });
  if (vocab == 0 || !known || top_k < 0) throw std::invalid_argument("no logits, or tokens that have none");
  Worker w;
  w.logits = Block<float>(logits.shape(0));
  w.candidates = Block<Candidate>(logits.shape(0));
  w.seen = Block<uint64_t>(logits.shape(0) / 64 + 1);
  const Sampling settings = {temperature, top_p, min_p, repetition_penalty, top_k, seed};
  return sample(logits.data(), vocab, settings, history.data(), said, position,
                {w.logits.data(), w.candidates.data(), w.seen.data()});
}

}  // namespace
}  // namespace intaglio

void bind_executor(nb::module_& m) {
  using namespace intaglio;
  nb::class_<Executor> c(m, "Executor", "A program of fused ops over preallocated buffers");
  c.def("__init__", make, nb::kw_only(), nb::arg("isa"), nb::arg("threads"), nb::arg("max_tokens"),
        nb::arg("max_sequences"), nb::arg("max_context"), nb::arg("pages"), nb::arg("vocab"),
        nb::arg("layers"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("head_dim"), nb::arg("kv_bits"));
  bind_program(c);
  bind_steps(c);
  m.def("sample", draw, nb::arg("logits"), nb::arg("temperature"), nb::arg("top_k"), nb::arg("top_p"), nb::arg("min_p"),
        nb::arg("repetition_penalty"), nb::arg("seed"), nb::arg("history"), nb::arg("position"),
        "The token drawn from one row of logits; -2 where these are not finite");
}
