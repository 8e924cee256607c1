#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace intaglio {
namespace {

constexpr int32_t kAnglesAUnit = 16;

// What was gathered of one query head so far: out is unnormalised, total = {maximum, sum}.
// The first span is copied; a span that shows the query nothing (sum 0) changes nothing.
void merge(float* out, float* total, const float* span_out, const float* span_total, int32_t n) {
  if (!(span_total[1] != 0)) return;
  if (total[1] == 0) {
    std::copy(span_out, span_out + n, out);
    std::copy(span_total, span_total + 2, total);
    return;
  }
  const float maximum = std::max(total[0], span_total[0]);
  const float old = std::exp(total[0] - maximum), fresh = std::exp(span_total[0] - maximum);
  for (int32_t i = 0; i < n; ++i) out[i] = out[i] * old + span_out[i] * fresh;
  total[0] = maximum;
  total[1] = total[1] * old + span_total[1] * fresh;
}

void normalise(float* out, float sum, int32_t n) {
  const float inverse = 1.0f / sum;
  for (int32_t i = 0; i < n; ++i) out[i] *= inverse;
}

}  // namespace

Rope::Rope(std::vector<float> frequencies, double s, int32_t max_tokens)
    : inv_freq(std::move(frequencies)),
      scale(s),
      cos(static_cast<size_t>(max_tokens) * inv_freq.size()),
      sin(static_cast<size_t>(max_tokens) * inv_freq.size()) {}

int32_t Angles::units(const Step& step) const { return divide_up(step.tokens, kAnglesAUnit); }

void Angles::run(const Step& step, int32_t unit, const Worker& worker) const {
  walk(step, {unit * kAnglesAUnit, std::min(step.tokens, (unit + 1) * kAnglesAUnit), 0, 0, 0}, worker);
}

void Angles::walk(const Step& step, const TokenBlock& block, const Worker&) const {
  const size_t pairs = rope->inv_freq.size();
  for (int32_t t = block.first; t < block.end; ++t) {
    for (size_t i = 0; i < pairs; ++i) {
      // The angle is rounded to float32, as where models are trained; at long positions that can be seen.
      const double angle = static_cast<float>(step.position[t]) * rope->inv_freq[i];
      rope->cos[t * pairs + i] = static_cast<float>(std::cos(angle) * rope->scale);
      rope->sin[t * pairs + i] = static_cast<float>(std::sin(angle) * rope->scale);
    }
  }
}

Append::Append(const Kernels* kernel_table, const Cache* c, int32_t l, const Rope* r, Slice q_slice, Slice k_slice,
               Slice v_slice, const float* qg, const float* kg, float e)
    : kernels(kernel_table), cache(c), layer(l), rope(r), q(q_slice), k(k_slice), v(v_slice), q_gain(qg), k_gain(kg),
      eps(e) {}

int32_t Append::units(const Step& step) const { return step.page_spans * cache->layout.kv_heads; }

void Append::turn(float* head, const float* gain, int32_t token) const {
  if (gain) kernels->rms_norm(head, gain, cache->layout.head_dim, eps, head);
  const size_t at = token * rope->inv_freq.size();
  kernels->rope(head, rope->cos.data() + at, rope->sin.data() + at, rope->dim());
}

void Append::run(const Step& step, int32_t unit, const Worker&) const {
  const int32_t kv_heads = cache->layout.kv_heads;
  write(step, step.page_span[unit / kv_heads], unit % kv_heads);
}

void Append::walk(const Step& step, const TokenBlock& block, const Worker&) const {
  for (int32_t i = block.span; i < block.span_end; ++i) {
    for (int32_t head = 0; head < cache->layout.kv_heads; ++head) write(step, step.page_span[i], head);
  }
}

void Append::write(const Step& step, const Span& span, int32_t kv_head) const {
  const int32_t kv_heads = cache->layout.kv_heads, dim = cache->layout.head_dim;
  const Chunk& c = step.chunk[span.chunk];
  const int32_t rep = q.width / (dim * kv_heads);
  const int32_t page = c.pages[step.position[span.first] / kPage];
  void* k_page = cache->page(page, layer, 0);
  void* v_page = cache->page(page, layer, 1);
  for (int32_t t = span.first; t < span.first + span.count; ++t) {
    for (int32_t i = 0; i < rep; ++i) turn(q.row(t) + (kv_head * rep + i) * dim, q_gain, t);
    turn(k.row(t) + kv_head * dim, k_gain, t);
    const int32_t slot = step.position[t] % kPage;
    kernels->page_write(&cache->layout, k_page, kv_head, slot, k.row(t) + kv_head * dim, 0);
    kernels->page_write(&cache->layout, v_page, kv_head, slot, v.row(t) + kv_head * dim, 1);
  }
}

SplitResults::SplitResults(int32_t h, int32_t head_dim, int32_t key_spans)
    : heads(h),
      max_key_spans(key_spans),
      out(static_cast<size_t>(kSplitTokens) * h * key_spans * head_dim),
      partial(static_cast<size_t>(kSplitTokens) * h * key_spans * 2) {}

Attention::Attention(const Kernels* k, const Cache* c, const SplitResults* s, AttendSettings a, Slice q_slice,
                     Slice t)
    : kernels(k), cache(c), split(s), settings(a), q(q_slice), target(t) {}

int32_t Attention::units(const Step& step) const {
  return step.query_spans * cache->layout.kv_heads * std::max(step.key_parts, 1);
}

int32_t Attention::first_key(int32_t position) const {
  return settings.window ? std::max(0, position - settings.window + 1) : 0;
}

int32_t Attention::first_span(const Step& step, const Span& span) const {
  return first_key(step.position[span.first]) / kKeys;
}

void Attention::run(const Step& step, int32_t unit, const Worker& worker) const {
  const int32_t kv_heads = cache->layout.kv_heads, parts = step.key_parts;
  const int32_t kv_head = unit % kv_heads, rest = unit / kv_heads;
  if (parts == 0) whole(step, rest, kv_head, worker);
  else part(step, step.query_span[rest / parts], kv_head, rest % parts, worker);
}

// Where a span of keys begins, if its head is read next.
Ahead Attention::ahead(const Step& step, const Span& span, int32_t kv_head, int32_t key_span) const {
  const int32_t position = step.position[span.first], key = std::max(key_span * kKeys, first_key(position));
  if (key >= position + span.count) return {};
  const int32_t page = step.chunk[span.chunk].pages[key / kPage];
  return {cache->page(page, settings.layer, 0), cache->page(page, settings.layer, 1), kv_head};
}

// The kernel's order for one span of keys, with the tables of its pages filled in.
Attend Attention::describe(const Step& step, const Span& span, int32_t kv_head, int32_t key_span, Ahead next,
                           const Worker& worker) const {
  const Chunk& c = step.chunk[span.chunk];
  const int32_t position = step.position[span.first], end = position + span.count;
  const int32_t visible = first_key(position) / kPage * kPage;
  const int32_t key_begin = std::max(key_span * kKeys, visible), key_end = std::min((key_span + 1) * kKeys, end);
  for (int32_t j = key_begin / kPage; j < divide_up(key_end, kPage); ++j) {
    worker.k_pages[j] = cache->page(c.pages[j], settings.layer, 0);
    worker.v_pages[j] = cache->page(c.pages[j], settings.layer, 1);
  }
  const int32_t column = kv_head * rep() * cache->layout.head_dim;
  return {&cache->layout, kv_head, rep(), span.count, position, settings.window, settings.scale, settings.softcap,
          q.row(span.first) + column, q.buffer->ld, worker.k_pages.data(), worker.v_pages.data(), key_begin, key_end,
          worker.out.data(), rep() * cache->layout.head_dim, worker.partial.data(), worker.attend.data(),
          next.k, next.v, next.head};
}

void Attention::whole(const Step& step, int32_t query_span, int32_t kv_head, const Worker& worker) const {
  const Span& span = step.query_span[query_span];
  const int32_t dim = cache->layout.head_dim, heads = rep(), position = step.position[span.first];
  const int32_t first = first_span(step, span), last = (position + span.count - 1) / kKeys;
  float* total = worker.total.data();
  std::memset(total, 0, sizeof(float) * 2 * static_cast<size_t>(span.count * heads));
  const auto out = [&](int32_t i, int32_t h) { return target.row(span.first + i) + (kv_head * heads + h) * dim; };
  Ahead after;
  if (kv_head + 1 < cache->layout.kv_heads) {
    after = ahead(step, span, kv_head + 1, first);
  } else if (query_span + 1 < step.query_spans) {
    const Span& other = step.query_span[query_span + 1];
    after = ahead(step, other, 0, first_span(step, other));
  }
  for (int32_t key_span = first; key_span <= last; ++key_span) {
    const Ahead next = key_span < last ? ahead(step, span, kv_head, key_span + 1) : after;
    const Attend a = describe(step, span, kv_head, key_span, next, worker);
    kernels->attend(&a);
    for (int32_t i = 0; i < span.count; ++i) {
      for (int32_t h = 0; h < heads; ++h) {
        const int32_t at = i * heads + h;
        merge(out(i, h), total + at * 2, a.out + at * dim, a.partial + at * 2, dim);
      }
    }
  }
  for (int32_t i = 0; i < span.count; ++i) {
    for (int32_t h = 0; h < heads; ++h) normalise(out(i, h), total[(i * heads + h) * 2 + 1], dim);
  }
}

// Some key spans; the next head's same ones follow, and after those the next part's.
void Attention::part(const Step& step, const Span& span, int32_t kv_head, int32_t index, const Worker& worker) const {
  const auto begin = [&](int32_t i) { return i * step.key_spans / step.key_parts; };
  const int32_t first = begin(index), end = begin(index + 1);
  const bool more = kv_head + 1 < cache->layout.kv_heads;
  const Ahead after = more ? ahead(step, span, kv_head + 1, first) : ahead(step, span, 0, end);
  for (int32_t i = first; i < end; ++i) {
    one_key_span(step, span, kv_head, i, i + 1 < end ? ahead(step, span, kv_head, i + 1) : after, worker);
  }
}

void Attention::one_key_span(const Step& step, const Span& span, int32_t kv_head, int32_t key_span, Ahead next,
                             const Worker& worker) const {
  const int32_t dim = cache->layout.head_dim, heads = rep(), position = step.position[span.first];
  const bool seen = key_span * kKeys < position + span.count && (key_span + 1) * kKeys > first_key(position);
  Attend a{};
  if (seen) {
    a = describe(step, span, kv_head, key_span, next, worker);
    kernels->attend(&a);
  }
  for (int32_t i = 0; i < span.count; ++i) {
    for (int32_t h = 0; h < heads; ++h) {
      const size_t to = split->index(span.first + i, kv_head * heads + h, key_span);
      const int32_t at = i * heads + h;
      split->partial[to * 2 + 1] = 0;
      if (seen) merge(&split->out[to * dim], &split->partial[to * 2], a.out + at * dim, a.partial + at * 2, dim);
    }
  }
}

int32_t Merge::units(const Step& step) const {
  return step.key_parts ? step.tokens * attention->settings.heads : 0;
}

void Merge::run(const Step& step, int32_t unit, const Worker&) const {
  const SplitResults& split = *attention->split;
  const int32_t dim = attention->cache->layout.head_dim, heads = attention->settings.heads;
  const int32_t token = unit / heads, head = unit % heads;
  float* out = attention->target.row(token) + head * dim;
  float total[2] = {0, 0};
  for (int32_t s = 0; s < step.key_spans; ++s) {
    const size_t from = split.index(token, head, s);
    merge(out, total, &split.out[from * dim], &split.partial[from * 2], dim);
  }
  normalise(out, total[1], dim);
}

}  // namespace intaglio
