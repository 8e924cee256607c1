#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace intaglio {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

uint64_t mix(uint64_t x) {  // the finaliser of splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Index of the largest value, the first on ties; kNotFinite when there is none to speak of.
int32_t argmax(const float* x, int32_t n) {
  float best = -kInfinity;
  int32_t at = kNotFinite;
  bool broken = false;
  for (int32_t i = 0; i < n; ++i) {
    broken |= !(x[i] < kInfinity);  // NaN or +inf
    if (x[i] > best) {
      best = x[i];
      at = i;
    }
  }
  return broken ? kNotFinite : at;
}

// Each token of the history counts once, however often it was said.
void penalise(float* logits, const int32_t* history, int32_t n, float penalty, uint64_t* seen) {
  for (int32_t i = 0; i < n; ++i) {
    const int32_t token = history[i];
    const uint64_t bit = 1ULL << (token & 63);
    if (seen[token >> 6] & bit) continue;
    seen[token >> 6] |= bit;
    logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
  }
  for (int32_t i = 0; i < n; ++i) seen[history[i] >> 6] = 0;
}

bool before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// The k largest logits of the row, in no order; all finite ones when k is 0.
int32_t keep_top_k(const float* logits, int32_t vocab, int32_t k, Candidate* out) {
  int32_t n = 0;
  for (int32_t i = 0; i < vocab; ++i) {
    if (logits[i] > -kInfinity) out[n++] = {logits[i], i};
  }
  if (k == 0 || k >= n) return n;
  std::nth_element(out, out + k, out + n, before);
  return k;
}

// Turns logits into unnormalised probabilities (largest: 1) and returns their sum.
double soften(Candidate* c, int32_t n, float largest, float temperature) {
  double sum = 0;
  for (int32_t i = 0; i < n; ++i) {
    c[i].value = static_cast<float>(std::exp((static_cast<double>(c[i].value) - largest) / temperature));
    sum += c[i].value;
  }
  return sum;
}

// The fewest candidates, largest first, that together hold `top_p` of `sum`; they are left sorted.
int32_t keep_top_p(Candidate* c, int32_t n, double sum, float top_p) {
  // All candidates below (1 - top_p) / n of the sum hold less than 1 - top_p together: none can be needed.
  const double floor = (1.0 - top_p) * sum / n;
  n = static_cast<int32_t>(std::partition(c, c + n, [&](const Candidate& a) { return a.value >= floor; }) - c);
  std::sort(c, c + n, before);
  double mass = 0;
  for (int32_t i = 0; i < n; ++i) {
    mass += c[i].value;
    if (mass >= top_p * sum) return i + 1;
  }
  return n;
}

int32_t keep_min_p(Candidate* c, int32_t n, float min_p) {
  return static_cast<int32_t>(std::partition(c, c + n, [&](const Candidate& a) { return a.value >= min_p; }) - c);
}

int32_t draw(const Candidate* c, int32_t n, double point) {
  double sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += c[i].value;
  double left = point * sum;
  for (int32_t i = 0; i < n; ++i) {
    left -= c[i].value;
    if (left < 0) return c[i].token;
  }
  return c[n - 1].token;
}

}  // namespace

double uniform(uint64_t seed, uint64_t position) {
  const uint64_t bits = mix(mix(seed + 0x9e3779b97f4a7c15ULL) + (position + 1) * 0x9e3779b97f4a7c15ULL);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

int32_t sample(const float* logits, int32_t vocab, const Sampling& s, const int32_t* history, int32_t n_history,
               int32_t position, const SamplerScratch& scratch) {
  if (s.repetition_penalty != 1.0f && n_history > 0) {
    std::memcpy(scratch.logits, logits, static_cast<size_t>(vocab) * sizeof(float));
    penalise(scratch.logits, history, n_history, s.repetition_penalty, scratch.seen);
    logits = scratch.logits;
  }
  const int32_t best = argmax(logits, vocab);
  if (best < 0 || s.temperature == 0) return best;
  Candidate* c = scratch.candidates;
  int32_t n = keep_top_k(logits, vocab, s.top_k, c);
  const double sum = soften(c, n, logits[best], s.temperature);
  if (s.top_p < 1) n = keep_top_p(c, n, sum, s.top_p);
  if (s.min_p > 0) n = keep_min_p(c, n, s.min_p);
  return draw(c, n, uniform(s.seed, static_cast<uint64_t>(position)));
}

double log_probability(const float* logits, int32_t vocab, int32_t token) {
  const double largest = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int32_t i = 0; i < vocab; ++i) sum += std::exp(logits[i] - largest);
  return logits[token] - largest - std::log(sum);
}

}  // namespace intaglio
