#include "request.h"

#include <cmath>

#include "step.h"

namespace intaglio {

void check_range(const char* what, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) refuse(what, " must be in ", low, "..", high, ", got ", value);
}

const Limits& checked(const Limits& l) {
  check_range("threads", l.threads, 1, 1024);
  check_range("max_tokens", l.max_tokens, 1, 1 << 16);
  check_range("max_sequences", l.max_sequences, 1, 1 << 14);
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
  each_chunk(r, [&](int32_t i, int32_t first, int32_t page, int32_t history) {
    check_chunk(r, i, first, page, history);
  });
}

void RequestCheck::check_lengths(const Request& r) const {
  check_range("chunks in a step", r.chunks, 1, limits_.max_sequences);
  check_range("tokens in a step", r.tokens, 1, limits_.max_tokens);
  int64_t tokens = 0, pages = 0, history = 0;
  for (int32_t i = 0; i < r.chunks; ++i) {
    const int32_t* row = r.table + i * Request::kColumns;
    check_range("tokens in a chunk", row[Request::kCount], 1, limits_.max_tokens);
    check_range("pages of a chunk", row[Request::kPages], 1, limits_.pages);
    check_range("history of a chunk", row[Request::kHistory], 0, 1 << 30);
    tokens += row[Request::kCount];
    pages += row[Request::kPages];
    history += row[Request::kHistory];
  }
  if (tokens != r.tokens || pages != r.pages || history != r.history) {
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

void RequestCheck::check_chunk(const Request& r, int32_t i, int32_t first, int32_t page0, int32_t history0) {
  const int32_t* row = r.table + i * Request::kColumns;
  const int32_t count = row[Request::kCount], position = row[Request::kPosition];
  if (position < 0 || position > limits_.max_context - count) {
    refuse("chunk ", i, ": positions ", position, "..", int64_t{position} + count - 1, " are not in 0..",
           limits_.max_context - 1, " (max_context ", limits_.max_context, ")");
  }
  check_pages(i, position, count, r.page_ids + page0, row[Request::kPages]);
  const auto check_tokens = [&](const int32_t* ids, int32_t n) {
    for (int32_t j = 0; j < n; ++j) {
      if (ids[j] < 0 || ids[j] >= limits_.vocab) {
        refuse("chunk ", i, ": token id ", ids[j], " is not in 0..", limits_.vocab - 1);
      }
    }
  };
  check_tokens(r.token_ids + first, count);
  check_tokens(r.history_ids + history0, row[Request::kHistory]);
  const float* s = r.settings + i * 4;
  if (!(s[0] >= 0 && std::isfinite(s[0]))) refuse("chunk ", i, ": temperature must be 0 or more, got ", s[0]);
  if (!(s[1] > 0 && s[1] <= 1)) refuse("chunk ", i, ": top_p must be in (0, 1], got ", s[1]);
  if (!(s[2] >= 0 && s[2] <= 1)) refuse("chunk ", i, ": min_p must be in [0, 1], got ", s[2]);
  if (!(s[3] > 0 && std::isfinite(s[3]))) refuse("chunk ", i, ": repetition_penalty must be above 0, got ", s[3]);
  if (row[Request::kTopK] < 0) refuse("chunk ", i, ": top_k must be 0 or more, got ", row[Request::kTopK]);
}

}  // namespace intaglio
