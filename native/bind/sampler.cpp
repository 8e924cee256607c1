// The sampler alone, on one row of logits, for tests and measurements.
#include "sampler.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>

#include "arrays.h"
#include "step.h"

namespace intaglio {
namespace {

// Working memory for one call.
struct Memory {
  explicit Memory(size_t vocab)
      : logits(vocab), candidates(vocab), said(vocab), maxima(vocab / kBlock + 1), sums(vocab / kBlock + 1) {}

  SamplerScratch scratch() const {
    return {logits.data(), candidates.data(), said.data(), maxima.data(), sums.data()};
  }

  Block<float> logits;
  Block<Candidate> candidates;
  Block<int32_t> said;
  Block<float> maxima, sums;
};

void check_tokens(const Array1<int32_t>& tokens, int32_t vocab) {
  const int32_t* ids = tokens.data();
  require(std::all_of(ids, ids + tokens.shape(0), [&](int32_t t) { return t >= 0 && t < vocab; }),
          "tokens that have no logits");
}

int32_t draw(const Array1<float>& logits, float temperature, int32_t top_k, float top_p, float min_p,
             float repetition_penalty, float presence_penalty, float frequency_penalty, uint64_t seed,
             const Array1<int32_t>& history, int32_t prompt, int32_t position, const Array1<int32_t>& bias_ids,
             const Array1<float>& biases, const std::optional<Array1<uint32_t>>& mask) {
  const int32_t vocab = dim32(logits.shape(0)), said = dim32(history.shape(0));
  check_tokens(history, vocab);
  check_tokens(bias_ids, vocab);
  require(vocab > 0 && top_k >= 0 && prompt >= 0 && prompt <= said, "no logits, or settings out of range");
  require(bias_ids.shape(0) == biases.shape(0), "every bias needs a token");
  require(!mask || mask->shape(0) == static_cast<size_t>(words_of(vocab)), "a mask has a bit for every token");
  const Sampling settings = {temperature,      top_p,             min_p, repetition_penalty,
                             presence_penalty, frequency_penalty, top_k, seed};
  const Context context = {position,        history.data(), said,
                           prompt,          bias_ids.data(), biases.data(),
                           dim32(biases.shape(0)), mask ? mask->data() : nullptr};
  return sample(logits.data(), vocab, settings, context, Memory(logits.shape(0)).scratch());
}

nb::tuple logprobs(const Array1<float>& logits, int32_t token, int32_t n) {
  const int32_t vocab = dim32(logits.shape(0));
  require(token >= 0 && token < vocab && n >= 0 && n <= kMostLogprobs, "a token without logits, or n not in 0..20");
  float logprob = 0;
  int32_t rank = 0;
  const auto count = static_cast<size_t>(n);
  std::vector<int32_t> tokens(count);
  std::vector<float> values(count);
  log_probabilities(logits.data(), vocab, token, n, Memory(logits.shape(0)).scratch(),
                    {&logprob, &rank, tokens.data(), values.data()});
  return nb::make_tuple(logprob, rank, numpy(std::move(tokens), {count}), numpy(std::move(values), {count}));
}

}  // namespace
}  // namespace intaglio

void bind_sampler(nb::module_& m) {
  using namespace intaglio;
  m.def("sample", draw, nb::arg("logits"), nb::arg("temperature"), nb::arg("top_k"), nb::arg("top_p"), nb::arg("min_p"),
        nb::arg("repetition_penalty"), nb::arg("presence_penalty"), nb::arg("frequency_penalty"), nb::arg("seed"),
        nb::arg("history"), nb::arg("prompt"), nb::arg("position"), nb::arg("bias_ids"), nb::arg("biases"),
        nb::arg("mask").none() = nb::none(), "The token drawn from one row of logits; -2 where these are not finite");
  m.def("logprobs", logprobs, nb::arg("logits"), nb::arg("token"), nb::arg("n"),
        "Log probability and rank of the token, and the n likeliest tokens with their log probabilities");
}
