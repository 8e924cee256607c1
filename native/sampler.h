// Draws one token from one row of logits. The draw is a function of (logits, settings, history, position):
// nothing is remembered between draws, so it does not depend on what else is in a batch.
#pragma once
#include <cstdint>

namespace intaglio {

// In this order, as in Hugging Face's generate: repetition penalty, temperature, top-k, top-p, min-p.
struct Sampling {
  float temperature;         // 0: the largest logit, the lowest token id on ties
  float top_p, min_p;        // 1 and 0: all
  float repetition_penalty;  // 1: none; positive logits of tokens in `history` are divided, others multiplied
  int32_t top_k;             // 0: all; ties at the border go to the lower token id
  uint64_t seed;
};

struct Candidate {
  float value;  // logit, then probability
  int32_t token;
};

// Working memory of one thread for rows of `vocab` logits.
struct SamplerScratch {
  float* logits;          // vocab
  Candidate* candidates;  // vocab
  uint64_t* seen;         // (vocab + 63) / 64 words, zero between draws
};

constexpr int32_t kNotFinite = -2;  // a NaN or +inf among the logits, or all -inf

// The token that follows position `position`, or kNotFinite.
int32_t sample(const float* logits, int32_t vocab, const Sampling& settings, const int32_t* history, int32_t n_history,
               int32_t position, const SamplerScratch& scratch);

// log softmax(logits)[token], before penalty and temperature.
double log_probability(const float* logits, int32_t vocab, int32_t token);

// Uniform in [0, 1), a pure function of its arguments.
double uniform(uint64_t seed, uint64_t position);

}  // namespace intaglio
