// The step executor as Python sees it. Columns of a buffer are (buffer, offset, width); buffer -1 is the logits.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"
#include "executor.h"
#include "packed.h"

namespace nb = nanobind;

namespace intaglio {
namespace {

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

void make(Executor* self, const std::string& isa, int32_t threads, int32_t max_tokens, int32_t max_sequences,
          int32_t max_draws, int32_t max_context, int32_t pages, int32_t vocab, int32_t layers, int32_t heads,
          int32_t kv_heads, int32_t head_dim, int32_t kv_bits, bool pin_threads) {
  const Kernels* kernels = find_kernels(isa.c_str());
  if (!kernels) throw std::invalid_argument("unknown instruction set '" + isa + "'");
  new (self) Executor(kernels, Limits{threads, max_tokens, max_sequences, max_draws, max_context, pages, vocab, layers,
                                      heads, kv_heads, head_dim, kv_bits, pin_threads});
}

// tokens, table, pages, history, tokens and values of the biases, masks, settings, seeds: see Request.
using Arrays = std::tuple<Array1<int32_t>, Array2<int32_t>, Array1<int32_t>, Array1<int32_t>, Array1<int32_t>,
                          Array1<float>, Array2<uint32_t>, Array2<float>, Array1<uint64_t>>;

Request request(const Executor& e, const Arrays& arrays) {
  const auto& [tokens, table, pages, history, bias_ids, biases, masks, settings, seeds] = arrays;
  const size_t chunks = table.shape(0);
  if (table.shape(1) != Request::kColumns || settings.shape(0) != chunks || settings.shape(1) != Request::kSettings ||
      seeds.shape(0) != chunks) {
    throw std::invalid_argument("a step's table, settings and seeds must have one row a chunk");
  }
  if (bias_ids.shape(0) != biases.shape(0)) throw std::invalid_argument("a step must have a value for every bias");
  if (masks.shape(0) && masks.shape(1) != static_cast<size_t>(words_of(e.limits().vocab))) {
    refuse("a mask must have ", words_of(e.limits().vocab), " words of 32 bits, got ", masks.shape(1));
  }
  return {length(chunks),          length(tokens.shape(0)), length(pages.shape(0)), length(history.shape(0)),
          length(biases.shape(0)), length(masks.shape(0)),  table.data(),           tokens.data(),
          pages.data(),            history.data(),          bias_ids.data(),        biases.data(),
          masks.data(),            settings.data(),         seeds.data()};
}

int32_t add_reading(Executor& e, const std::optional<Rounded>& how, const std::optional<Array1<uint16_t>>& order,
                    int32_t few, int32_t of) {
  Reading r{how.has_value(), {}, {}, few, of};
  if (how) r.rounding = rounding(*how);
  if (order) r.order.assign(order->data(), order->data() + order->shape(0));
  return e.add_reading(std::move(r));
}

void bind_program(nb::class_<Executor>& c) {
  c.def("add_buffer", &Executor::add_buffer, nb::arg("width"), nb::arg("floats"), nb::arg("sum_group"),
        nb::arg("local"), nb::arg("scales") = false)
      .def("add_reading", add_reading, nb::arg("rounding").none(), nb::arg("order").none(), nb::arg("few") = 0,
           nb::arg("of") = 0)
      .def("add_vector",
           [](Executor& e, Array1<float> v) { return e.add_vector(v.data(), length(v.shape(0))); })
      .def("add_matrix", [](Executor& e, const PackedMatrix& m) { return e.add_matrix(&m.m); }, nb::keep_alive<1, 2>())
      .def("add_rope", &Executor::add_rope, nb::arg("inv_freq"), nb::arg("scale"))
      .def("embed", [](Executor& e, int32_t matrix, Columns target, int32_t reading, float scale) {
        e.embed(matrix, columns(target), reading, scale);
      })
      .def("norm", [](Executor& e, Columns source, Columns target, int32_t reading, int32_t gain, float eps,
                      int32_t which) {
        e.norm(columns(source), columns(target), reading, gain, eps, rows(which));
      })
      .def("add_norm", [](Executor& e, Columns source, Columns residual, int32_t gain, float eps, float alpha,
                          int32_t which) {
        e.add_norm(columns(source), columns(residual), gain, eps, alpha, rows(which));
      })
      .def("linear", [](Executor& e, int32_t matrix, int32_t source, Columns target, int32_t bias, float alpha,
                        bool accumulate, int32_t which) {
        e.linear(matrix, source, columns(target), bias, alpha, accumulate, rows(which));
      })
      .def("gate", [](Executor& e, Columns gate, Columns up, Columns target, int32_t reading, int32_t activation,
                      int32_t which) {
        e.gate(columns(gate), columns(up), columns(target), reading, activation, rows(which));
      })
      .def("append", [](Executor& e, int32_t layer, int32_t rope, Columns q, Columns k, Columns v, int32_t q_gain,
                        int32_t k_gain, float eps) {
        e.append(layer, rope, columns(q), columns(k), columns(v), q_gain, k_gain, eps);
      })
      .def("attend", [](Executor& e, int32_t layer, Columns q, Columns target, int32_t window, float scale,
                        float softcap) { e.attend(layer, columns(q), columns(target), window, scale, softcap); })
      .def("hidden", [](Executor& e, Columns source, int32_t gain, float eps, int32_t which) {
        e.hidden(columns(source), gain, eps, rows(which));
      })
      .def("softcap", &Executor::softcap)
      .def("sample", &Executor::sample);
}

nb::ndarray<nb::numpy, int32_t> step(Executor& e, const Arrays& arrays) {
  const Request r = request(e, arrays);
  int32_t n;
  {
    nb::gil_scoped_release release;
    n = e.step(r);
  }
  const int32_t* token = e.draws().token;
  return numpy(std::vector<int32_t>(token, token + n), {static_cast<size_t>(n)});
}

using Table = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void check_shape(const Table& table, int32_t tokens, int32_t width, const char* sentence) {
  if (table.shape(0) != static_cast<size_t>(tokens) || table.shape(1) != static_cast<size_t>(width)) {
    throw std::invalid_argument(sentence);
  }
}

void score(Executor& e, const Arrays& arrays, Table logits) {
  const Request r = request(e, arrays);
  check_shape(logits, r.tokens, e.limits().vocab, "logits must be an array of (tokens, vocabulary)");
  nb::gil_scoped_release release;
  e.score(r, logits.data());
}

void hidden_rows(Executor& e, const Arrays& arrays, Table rows) {
  const Request r = request(e, arrays);
  check_shape(rows, r.tokens, e.hidden_width(), "rows must be an array of (tokens, what the head reads)");
  nb::gil_scoped_release release;
  e.hidden(r, rows.data());
}

nb::tuple logprobs(const Executor& e, int32_t draw, int32_t n) {
  check_range("logprobs", n, 0, kMostLogprobs);
  e.logits_of(draw);  // refuses draws that were not made
  const Logprobs l = e.draws().logprobs(draw);
  const auto count = static_cast<size_t>(n);
  return nb::make_tuple(*l.logprob, *l.rank, numpy(std::vector<int32_t>(l.top_token, l.top_token + n), {count}),
                        numpy(std::vector<float>(l.top_logprob, l.top_logprob + n), {count}));
}

void bind_steps(nb::class_<Executor>& c) {
  c.def("step", step, "One mixed step: a token for each draw, -2 where its logits are not finite")
      .def("score", score, "One step that fills `logits` (tokens, vocabulary) instead of sampling")
      .def("hidden_rows", hidden_rows, "One step that fills `rows` (tokens, hidden) with what the head reads")
      .def("logits", [](const Executor& e, int32_t draw) {
        const float* row = e.logits_of(draw);
        const auto vocab = static_cast<size_t>(e.limits().vocab);
        return numpy(std::vector<float>(row, row + vocab), {vocab});
      })
      .def("logprobs", logprobs, "Of one draw: log probability and rank of its token, and the n likeliest with theirs")
      .def("read_page", [](const Executor& e, int32_t page, int32_t layer, int32_t head, int32_t slot, bool is_value) {
        const auto dim = static_cast<size_t>(e.limits().head_dim);
        std::vector<float> out(dim);
        e.read_page(page, layer, head, slot, is_value, out.data());
        return numpy(std::move(out), {dim});
      })
      .def_prop_ro("reserved_nbytes", &Executor::reserved_nbytes)
      .def_prop_ro("cache_nbytes", &Executor::cache_nbytes);
}

}  // namespace
}  // namespace intaglio

void bind_executor(nb::module_& m) {
  using namespace intaglio;
  nb::class_<Executor> c(m, "Executor", "A program of fused ops over preallocated buffers");
  c.def("__init__", make, nb::kw_only(), nb::arg("isa"), nb::arg("threads"), nb::arg("max_tokens"),
        nb::arg("max_sequences"), nb::arg("max_draws"), nb::arg("max_context"), nb::arg("pages"), nb::arg("vocab"),
        nb::arg("layers"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("head_dim"), nb::arg("kv_bits"),
        nb::arg("pin_threads") = false);
  bind_program(c);
  bind_steps(c);
}
