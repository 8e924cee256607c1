#include "request.h"

#include <cmath>

#include "sampler.h"
#include "step.h"

namespace intaglio {
namespace {

bool allows_any(const uint32_t* mask, int32_t vocab) {
  for (int32_t w = 0; w < vocab / 32; ++w) {
    if (mask[w]) return true;
  }
  return vocab % 32 && mask[vocab / 32] & ((1u << vocab % 32) - 1);
}

}  // namespace

void check_range(const char* what, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) refuse(what, " must be in ", low, "..", high, ", got ", value);
}

const Limits& checked(const Limits& l) {
  check_range("threads", l.threads, 1, 1024);
  check_range("max_tokens", l.max_tokens, 1, 1 << 16);
  check_range("max_sequences", l.max_sequences, 1, 1 << 14);
  check_range("max_draws", l.max_draws, 1, 1 << 20);
  check_range("max_context", l.max_context, 1, 1 << 24);
  check_range("pages", l.pages, 1, 1 << 24);
  check_range("vocab", l.vocab, 1, 1 << 24);
  check_range("layers", l.layers, 1, 1 << 12);
  check_range("head_dim", l.head_dim, 1, 1 << 12);
  check_range("kv_heads", l.kv_heads, 1, 1 << 12);
  if (l.heads < 1 || l.heads % l.kv_heads) refuse(l.heads, " heads cannot share ", l.kv_heads, " KV heads evenly");
  if (l.kv_bits != 4 && l.kv_bits != 8 && l.kv_bits != 16 && l.kv_bits != 32) {
    refuse("KV bits must be 4, 8, 16 or 32, got ", l.kv_bits);
  }
  return l;
}

void RequestCheck::operator()(const Request& r) {
  ++requests_;
  check_lengths(r);
  each_chunk(r, [&](int32_t i, const int32_t* row, const Offsets& at) { check_chunk(r, i, row, at); });
}

void RequestCheck::check_lengths(const Request& r) const {
  check_range("chunks in a step", r.chunks, 1, limits_.max_sequences);
  check_range("tokens in a step", r.tokens, 1, limits_.max_tokens);
  int64_t tokens = 0, pages = 0, history = 0, biases = 0, masks = 0, draws = 0;
  for (int32_t i = 0; i < r.chunks; ++i) {
    const int32_t* row = r.table + i * Request::kColumns;
    check_range("tokens in a chunk", row[Request::kCount], 1, limits_.max_tokens);
    check_range("pages of a chunk", row[Request::kPages], 1, limits_.pages);
    check_range("history of a chunk", row[Request::kHistory], 0, 1 << 30);
    check_range("biases of a chunk", row[Request::kBiases], 0, 1 << 24);
    check_range("draws of a chunk", row[Request::kDraws], 0, row[Request::kCount]);
    check_range("masks of a chunk", row[Request::kMasks], 0, row[Request::kDraws]);
    tokens += row[Request::kCount];
    pages += row[Request::kPages];
    history += row[Request::kHistory];
    biases += row[Request::kBiases];
    masks += row[Request::kMasks];
    draws += row[Request::kDraws];
  }
  check_range("draws in a step", draws, 0, limits_.max_draws);
  if (tokens != r.tokens || pages != r.pages || history != r.history || biases != r.biases || masks != r.masks) {
    refuse("a step's table disagrees with its arrays");
  }
}

void RequestCheck::check_pages(int32_t chunk, int32_t position, int32_t count, const int32_t* pages, int32_t n) {
  if (n < divide_up(position + count, kPage)) {
    refuse("chunk ", chunk, ": positions up to ", position + count - 1, " need ", divide_up(position + count, kPage),
           " pages, got ", n);
  }
  for (int32_t j = 0; j < n; ++j) {
    if (pages[j] < 0 || pages[j] >= limits_.pages) {
      refuse("chunk ", chunk, ": page id ", pages[j], " is not in 0..", limits_.pages - 1);
    }
  }
  for (int32_t j = position / kPage; j < divide_up(position + count, kPage); ++j) {
    if (written_[pages[j]] == requests_) {
      refuse("chunk ", chunk, ": page ", pages[j], " would be written twice in one step");
    }
    written_[pages[j]] = requests_;
  }
}

void RequestCheck::check_tokens(int32_t chunk, const char* what, const int32_t* ids, int32_t n) const {
  for (int32_t j = 0; j < n; ++j) {
    if (ids[j] < 0 || ids[j] >= limits_.vocab) {
      refuse("chunk ", chunk, ": ", what, " ", ids[j], " is not in 0..", limits_.vocab - 1);
    }
  }
}

void RequestCheck::check_chunk(const Request& r, int32_t i, const int32_t* row, const Offsets& at) {
  const int32_t count = row[Request::kCount], position = row[Request::kPosition];
  if (position < 0 || position > limits_.max_context - count) {
    refuse("chunk ", i, ": positions ", position, "..", int64_t{position} + count - 1, " are not in 0..",
           limits_.max_context - 1, " (max_context ", limits_.max_context, ")");
  }
  check_pages(i, position, count, r.page_ids + at.page, row[Request::kPages]);
  check_tokens(i, "token id", r.token_ids + at.token, count);
  check_draws(r, i, row, at);
}

void RequestCheck::check_draws(const Request& r, int32_t i, const int32_t* row, const Offsets& at) const {
  check_tokens(i, "token id", r.history_ids + at.history, row[Request::kHistory]);
  check_tokens(i, "token id of a bias", r.bias_ids + at.bias, row[Request::kBiases]);
  const auto check = [&](bool ok, const char* sentence, auto given) {
    if (!ok) refuse("chunk ", i, ": ", sentence, ", got ", given);
  };
  const float* s = r.settings + i * Request::kSettings;
  const float presence = s[Request::kPresence], frequency = s[Request::kFrequency];
  const float temperature = s[Request::kTemperature], top_p = s[Request::kTopP], min_p = s[Request::kMinP];
  const float repetition = s[Request::kRepetition];
  check(temperature >= 0 && std::isfinite(temperature), "temperature must be 0 or more", temperature);
  check(top_p > 0 && top_p <= 1, "top_p must be in (0, 1]", top_p);
  check(min_p >= 0 && min_p <= 1, "min_p must be in [0, 1]", min_p);
  check(repetition > 0 && std::isfinite(repetition), "repetition_penalty must be above 0", repetition);
  check(std::isfinite(presence), "presence_penalty must be a number", presence);
  check(std::isfinite(frequency), "frequency_penalty must be a number", frequency);
  check(row[Request::kTopK] >= 0, "top_k must be 0 or more", row[Request::kTopK]);
  const int32_t history = row[Request::kHistory], draws = row[Request::kDraws], masks = row[Request::kMasks];
  check(history == 0 || history >= draws, "the history must hold the tokens it draws after", history);
  const int32_t prompt = row[Request::kPrompt], logprobs = row[Request::kLogprobs];
  check(prompt >= 0 && prompt <= history, "the prompt must be a part of the history", prompt);
  check(logprobs >= -1 && logprobs <= kMostLogprobs, "logprobs must be in 0..20", logprobs);
  check(masks == 0 || masks == draws, "there must be a mask for every draw or none", masks);
  for (int32_t j = 0; j < row[Request::kBiases]; ++j) {
    check(std::isfinite(r.bias_values[at.bias + j]), "a bias must be a number", r.bias_values[at.bias + j]);
  }
  for (int32_t j = 0; j < masks; ++j) {
    if (!allows_any(r.mask_words + static_cast<int64_t>(at.mask + j) * words_of(limits_.vocab), limits_.vocab)) {
      refuse("chunk ", i, ": the mask of draw ", j, " allows no token");
    }
  }
}

}  // namespace intaglio
