// Draws one token from one row of logits. The draw is a function of (logits, settings, context): nothing is remembered
// between draws, so it depends neither on what else is in a batch nor on how many rows of a sequence a step computes.
#pragma once
#include <cstdint>

#include "row.h"

namespace intaglio {

constexpr int32_t words_of(int32_t vocab) { return (vocab + 31) / 32; }  // of a mask

// In this order: mask, bias, penalties (repetition, then frequency and presence), temperature, top-k, top-p, min-p.
// It is that of vLLM up to the temperature and that of Hugging Face's generate from the penalties on.
struct Sampling {
  float temperature;                          // 0: the largest logit, the lowest token id on ties
  float top_p, min_p;                         // 1 and 0: all
  float repetition_penalty;                   // 1: none; positive logits of tokens said are divided, others multiplied
  float presence_penalty, frequency_penalty;  // off each logit of a generated token: once, and for each time it came
  int32_t top_k;                              // 0: all; ties at the border go to the lower token id
  uint64_t seed;
};

// What else a draw depends on.
struct Context {
  int32_t position;                       // of the token whose logits these are
  const int32_t* history;                 // tokens said, the first n_prompt of them not generated
  int32_t n_history, n_prompt;
  const int32_t* bias_token;
  const float* bias;
  int32_t n_bias;
  const uint32_t* mask;                   // bit i of word i / 32 allows token i; null: all
};

// Working memory of one thread for rows of `vocab` logits.
struct SamplerScratch {
  float* logits;          // vocab
  Candidate* candidates;  // vocab
  int32_t* said;          // vocab, zero between draws
  float* maxima;          // blocks_of(vocab)
  float* sums;            // blocks_of(vocab)
};

// The token that follows, or kNotFinite.
int32_t sample(const float* logits, int32_t vocab, const Sampling& settings, const Context& context,
               const SamplerScratch& scratch);

// Where log softmax of the logits, as they are before mask, bias, penalties and temperature, is left.
struct Logprobs {
  float* logprob;      // of the drawn token
  int32_t* rank;       // of the drawn token: 1 is the likeliest; of equals the lower token id is likelier
  int32_t* top_token;  // n, the likeliest first; -1 where there are no more above -inf
  float* top_logprob;  // n
};

constexpr int32_t kMostLogprobs = 20;

void log_probabilities(const float* logits, int32_t vocab, int32_t token, int32_t n, const SamplerScratch& scratch,
                       const Logprobs& out);

}  // namespace intaglio
