// The query rows of an attention: what is remembered of each while the pages go by.
#pragma once
#include "pages.h"

namespace intaglio {
namespace {

constexpr int kRows = 48;

// Lies in the caller's scratch, followed by the rows of q codes and the unfinished outputs.
struct AttendState {
  float p[kRows][kPage];  // scores, then (of a plain V) probabilities
  int32_t pairs[kRows][kPage / 2];  // for codes: p / p_scale less 2^15 as 16 bits, of slots j and j + kPage/2
  float sum[kRows][L], taken[kRows][L];  // of the probabilities, and of what V's zero points take from every channel, lane by lane
  float most[kRows], keep[kRows], p_scale[kRows], q_scale[kRows];
  float v_scale[kPage], v_zero[kPage], v_most;  // of the page; v_most: the largest scale
  bool v_broken;
  int32_t q_sum[kRows], begin[kRows], end[kRows];
  const float* q[kRows];
};

inline int64_t query_bytes(const PageLayout* l) { return round_up(l->head_dim, 64); }
inline int64_t out_floats(const PageLayout* l) { return round_up(l->head_dim, 2 * L); }

inline size_t attend_scratch(const PageLayout* l, int32_t, int32_t) {
  return size_t(round_up(sizeof(AttendState), 64) + kRows * (query_bytes(l) + 4 * out_floats(l)));
}

struct Block {
  const Attend* a;
  AttendState* s;
  int8_t* q8;
  float* out;
  int32_t rows;
  float scale;  // of the scores: their exponentials are to base 2, unless a softcap is yet to come
  // The head's part of the next page, if there is one. It is short and far from this one's, so no processor sees a stream
  // there: it is asked for while this page is worked on.
  const uint8_t *next_k = nullptr, *next_v = nullptr;
};

// Keys that row r may see, as absolute positions.
inline void set_range(const Attend* a, AttendState* s, int32_t r, int32_t query) {
  const int32_t p = a->position + query, first = a->window > 0 && p >= a->window ? p - a->window + 1 : 0;
  s->begin[r] = first > a->key_begin ? first : a->key_begin;
  s->end[r] = p < a->key_end ? p + 1 : a->key_end;
}

inline void start_rows(const Block& b, int64_t row0) {
  const int32_t dim = b.a->layout->head_dim;
  for (int32_t r = 0; r < b.rows; ++r) {
    const int64_t query = (row0 + r) / b.a->rep, head = (row0 + r) % b.a->rep;
    b.s->q[r] = b.a->q + query * b.a->ldq + head * dim;
    b.s->most[r] = -INFINITY, b.s->q_scale[r] = 1;
    storef(b.s->sum[r], setf(0)), storef(b.s->taken[r], setf(0));
    set_range(b.a, b.s, r, int32_t(query));
    if (!is_coded(b.a->layout)) continue;
    quantize(b.s->q[r], dim, dim, b.q8 + r * query_bytes(b.a->layout), &b.s->q_scale[r], &b.s->q_sum[r]);
  }
  memset(b.out, 0, size_t(b.rows * out_floats(b.a->layout)) * 4);
}

}  // namespace
}  // namespace intaglio
