// Attention over pages. Query rows (token, head of the group) are taken kRows at a time; for each page: scores of all
// rows (integer for coded pages: q is int8 per row), mask, online softmax, then p.v.
#pragma once
#include "scores.h"
#include "values.h"

namespace intaglio {
namespace {

// At most Most rows at a time.
template <int Most, class F>
INTAGLIO_INLINE void by_rows(int32_t rows, const F& f) {
  int32_t r = 0;
  for (; r + Most <= rows; r += Most) f.template operator()<Most>(r);
  for (; Most > 4 && r + 4 <= rows; r += 4) f.template operator()<4>(r);
  if (rows - r == 3) f.template operator()<3>(r);
  if (rows - r == 2) f.template operator()<2>(r);
  if (rows - r == 1) f.template operator()<1>(r);
}

inline void attend_page(const Block& b, int32_t page) {
  const Attend* a = b.a;
  const auto *k = static_cast<const uint8_t*>(a->k_pages[page]), *v = static_cast<const uint8_t*>(a->v_pages[page]);
  const bool coded = is_coded(a->layout);
  const auto score = [&]<int T>(int32_t r) { score_rows<T>(b, k, r); };
  coded ? by_rows<kTokens>(b.rows, score) : by_rows<kFloatTokens>(b.rows, score);
  if (coded) open_values(b, v, b.s->end[b.rows - 1] - page * kPage);
  Span all{kPage, 0};
  for (int32_t r = 0; r < b.rows; ++r) {
    const Span s = visible(b, r, page);
    coded ? soften<true>(b, r, s) : soften<false>(b, r, s);
    if (s.begin < s.end) all = {s.begin < all.begin ? s.begin : all.begin, s.end > all.end ? s.end : all.end};
  }
  by_rows<kFloatTokens>(b.rows, [&]<int T>(int32_t r) { weigh_rows<T>(b, v, r, all); });
}

// `page` is the next one of this head; after the last of it (-1) comes what the caller says.
inline void look_ahead(Block* b, int32_t page) {
  const Attend* a = b->a;
  const PageLayout* l = a->layout;
  const int32_t head = page < 0 ? a->next_head : a->kv_head;
  const auto* k = static_cast<const uint8_t*>(page < 0 ? a->next_k : a->k_pages[page]);
  const auto* v = static_cast<const uint8_t*>(page < 0 ? a->next_v : a->v_pages[page]);
  b->next_k = b->next_v = nullptr;
  if (!k) return;
  b->next_k = head_codes(l, k, head), b->next_v = head_codes(l, v, head);
  if (!is_coded(l)) return;
  const uint8_t* both[] = {k, v};
  for (const uint8_t* at : both) {
    ask_for(reinterpret_cast<const uint8_t*>(head_scales(l, at, head)), 0, 2 * kPage);
    ask_for(reinterpret_cast<const uint8_t*>(head_zeros(l, at, head)), 0, 2 * kPage);
  }
}

inline void finish_rows(const Block& b, int64_t row0) {
  const Attend* a = b.a;
  const int32_t dim = a->layout->head_dim;
  for (int32_t r = 0; r < b.rows; ++r) {
    const int64_t query = (row0 + r) / a->rep, head = (row0 + r) % a->rep;
    float* to = a->out + query * a->ldo + head * dim;
    const float* from = b.out + r * out_floats(a->layout);
    const float total = sum(loadf(b.s->sum[r])), scale = a->partial || total == 0 ? 1 : 1 / total, taken = sum(loadf(b.s->taken[r]));
    map(from, from, dim, to, [&](VF x, VF) { return mulf(subf(x, setf(taken)), setf(scale)); });
    if (!a->partial) continue;
    a->partial[2 * (row0 + r)] = b.s->most[r] / kLog2E;
    a->partial[2 * (row0 + r) + 1] = total;
  }
}

inline void attend(const Attend* a) {
  auto* bytes = static_cast<uint8_t*>(a->scratch);
  auto* q8 = reinterpret_cast<int8_t*>(bytes + round_up(sizeof(AttendState), 64));
  auto* out = reinterpret_cast<float*>(q8 + kRows * query_bytes(a->layout));
  const int64_t rows = int64_t(a->queries) * a->rep;
  for (int64_t row0 = 0; row0 < rows; row0 += kRows) {
    Block b{a, reinterpret_cast<AttendState*>(bytes), q8, out, int32_t(rows - row0 < kRows ? rows - row0 : kRows),
            a->softcap > 0 ? a->scale : a->scale * kLog2E};
    start_rows(b, row0);
    const int32_t begin = b.s->begin[0], end = b.s->end[b.rows - 1];  // both grow with the row
    for (int32_t page = begin / kPage; page * kPage < end && begin < end; ++page) {
      look_ahead(&b, (page + 1) * kPage < end ? page + 1 : -1);
      attend_page(b, page);
    }
    finish_rows(b, row0);
  }
}

}  // namespace
}  // namespace intaglio
