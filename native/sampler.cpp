#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace intaglio {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Number `i` of the splitmix64 generator that starts at `key`.
uint64_t next(uint64_t key, uint64_t i) {
  uint64_t x = key + (i + 1) * 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

void copy_allowed(const float* logits, int32_t vocab, const uint32_t* mask, float* out) {
  for (int32_t first = 0; first < vocab; first += 32) {
    const uint32_t word = mask[first / 32];
    const int32_t count = std::min(32, vocab - first);
    for (int32_t i = 0; i < count; ++i) out[first + i] = word >> i & 1 ? logits[first + i] : -kInfinity;
  }
}

// Each token of the history is repeated once, however often it was said; each saying of a generated one is counted.
void penalise(float* logits, const Sampling& s, const Context& c, int32_t* said) {
  constexpr int32_t kDone = -1;
  for (int32_t i = c.n_prompt; i < c.n_history; ++i) ++said[c.history[i]];
  for (int32_t i = 0; i < c.n_history; ++i) {
    const int32_t token = c.history[i], count = said[token];
    if (count == kDone) continue;
    float& x = logits[token];
    x = x > 0 ? x / s.repetition_penalty : x * s.repetition_penalty;
    x -= s.frequency_penalty * static_cast<float>(count) + (count > 0 ? s.presence_penalty : 0.0f);
    said[token] = kDone;
  }
  for (int32_t i = 0; i < c.n_history; ++i) said[c.history[i]] = 0;
}

// The logits after mask, bias and penalties: the row itself when there are none, else a copy in the scratch.
const float* adjust(const float* logits, int32_t vocab, const Sampling& s, const Context& c,
                    const SamplerScratch& scratch) {
  const bool penalties = s.repetition_penalty != 1 || s.presence_penalty != 0 || s.frequency_penalty != 0;
  const bool penalised = penalties && c.n_history > 0;
  if (!c.mask && c.n_bias == 0 && !penalised) return logits;
  if (c.mask) {
    copy_allowed(logits, vocab, c.mask, scratch.logits);
  } else {
    std::memcpy(scratch.logits, logits, static_cast<size_t>(vocab) * sizeof(float));
  }
  for (int32_t i = 0; i < c.n_bias; ++i) scratch.logits[c.bias_token[i]] += c.bias[i];
  if (penalised) penalise(scratch.logits, s, c, scratch.said);
  return scratch.logits;
}

// The candidates of at least `least`; blocks without one are told by their largest logit.
int32_t collect(const float* p, int32_t n, double least, float largest, float temperature,
                const SamplerScratch& scratch) {
  int32_t found = 0;
  for (int32_t b = 0; b < blocks_of(n); ++b) {
    if (exp_of((scratch.maxima[b] - largest) / temperature) < least) continue;
    const int32_t end = std::min(n, (b + 1) * kBlock);
    for (int32_t i = b * kBlock; i < end; ++i) {
      scratch.candidates[found] = {p[i], i};
      found += p[i] >= least && p[i] > 0;
    }
  }
  return found;
}

// The fewest candidates, in the order of `before`, that together hold `mass`; sorted as far as it takes.
int32_t keep_mass(Candidate* c, int32_t n, double mass) {
  double held = 0;
  for (int32_t done = 0, size = 64; done < n; size *= 4) {
    const int32_t end = std::min(n, done + size);
    if (end < n) std::nth_element(c + done, c + end, c + n, before);
    std::sort(c + done, c + end, before);
    for (; done < end; ++done) {
      held += c[done].value;
      if (held >= mass) return done + 1;
    }
  }
  return n;
}

int32_t keep_likely(Candidate* c, int32_t n, float least) {
  return static_cast<int32_t>(std::partition(c, c + n, [&](const Candidate& a) { return a.value >= least; }) - c);
}

// A race in which everyone arrives after an exponential time of his rate: he wins with his share of all rates.
// A runner's luck is a function of the key and his number alone. So candidates may come in any order, and a model whose
// probabilities differ by a total variation of d draws the same token with probability (1 - d) / (1 + d) at least:
// drafts live on that (Daliri, Musco, Suresh 2024, "Coupling without Communication").
class Race {
 public:
  explicit Race(uint64_t key) : key_(key) {}
  void enter(float rate, int32_t number) {
    if (rate <= 0) return;
    const double speed = rate / -std::log(uniform(key_, number));
    if (speed > best_) {
      best_ = speed;
      winner_ = number;
    }
  }
  int32_t winner() const { return winner_; }

 private:
  static double uniform(uint64_t key, int32_t number) {  // in (0, 1), neither end: 52 bits and a half
    return (static_cast<double>(next(key, static_cast<uint64_t>(number)) >> 12) + 0.5) * 0x1.0p-52;
  }

  uint64_t key_;
  double best_ = -1;
  int32_t winner_ = 0;
};

int32_t draw(const Candidate* c, int32_t n, uint64_t key) {
  Race race(key);
  for (int32_t i = 0; i < n; ++i) race.enter(c[i].value, c[i].token);
  return race.winner();
}

// Among all tokens: a race of the blocks, then one in the block that won.
int32_t draw_from_all(const float* p, int32_t n, const float* sums, uint64_t key) {
  Race blocks(~key);
  for (int32_t b = 0; b < blocks_of(n); ++b) blocks.enter(sums[b], b);
  Race race(key);
  const int32_t first = blocks.winner() * kBlock, end = std::min(n, first + kBlock);
  for (int32_t i = first; i < end; ++i) race.enter(p[i], i);
  return race.winner();
}

}  // namespace

int32_t sample(const float* logits, int32_t vocab, const Sampling& s, const Context& context,
               const SamplerScratch& scratch) {
  const float* x = adjust(logits, vocab, s, context, scratch);
  const int32_t best = find_largest(x, vocab, scratch.maxima);
  if (best < 0 || s.temperature == 0) return best;
  const float largest = x[best];
  const uint64_t key = next(next(0, s.seed), static_cast<uint64_t>(context.position));
  Candidate* c = scratch.candidates;
  int32_t n;
  double sum = 0;
  if (s.top_k > 0 && s.top_k < vocab) {
    n = find_first(x, vocab, scratch.maxima, s.top_k, scratch.sums, c);
    for (int32_t i = 0; i < n; ++i) sum += c[i].value = exp_of((c[i].value - largest) / s.temperature);
  } else {
    sum = soften(x, vocab, largest, s.temperature, scratch.logits, scratch.sums);
    if (s.top_p == 1 && s.min_p == 0) return draw_from_all(scratch.logits, vocab, scratch.sums, key);
    // All tokens below (1 - top_p) / vocab of the sum hold less than 1 - top_p together: none can be needed.
    const double least = s.top_p < 1 ? (1.0 - s.top_p) * sum / vocab : s.min_p;
    n = collect(scratch.logits, vocab, least, largest, s.temperature, scratch);
  }
  if (s.top_p < 1) n = keep_mass(c, n, s.top_p * sum);
  if (s.min_p > 0) n = keep_likely(c, n, s.min_p);
  return draw(c, n, key);
}

void log_probabilities(const float* logits, int32_t vocab, int32_t token, int32_t n, const SamplerScratch& scratch,
                       const Logprobs& out) {
  std::fill_n(out.top_token, n, -1);
  std::fill_n(out.top_logprob, n, -kInfinity);
  *out.logprob = std::numeric_limits<float>::quiet_NaN();
  *out.rank = 0;
  const int32_t best = find_largest(logits, vocab, scratch.maxima);
  if (best < 0 || token < 0) return;
  const int32_t found = n == 0 ? 0 : find_first(logits, vocab, scratch.maxima, n, scratch.sums, scratch.candidates);
  const double sum = soften(logits, vocab, logits[best], 1.0f, scratch.logits, scratch.sums);
  const double total = logits[best] + std::log(sum);
  *out.logprob = static_cast<float>(logits[token] - total);
  *out.rank = 1 + count_before(logits, vocab, token);
  for (int32_t i = 0; i < found; ++i) {
    out.top_token[i] = scratch.candidates[i].token;
    out.top_logprob[i] = static_cast<float>(scratch.candidates[i].value - total);
  }
}

}  // namespace intaglio
