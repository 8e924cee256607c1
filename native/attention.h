// The ops around attention: rotary angles, q and k norm + rope + page append, attention over the pages.
//
// A query's result must not depend on which tokens share its step. Keys are therefore always taken in spans of
// kKeys at multiples of kKeys, each span gives an unnormalised result with its maximum and sum, and these are
// merged in ascending order: serially by one thread, or, when a step has few tokens and long contexts, after
// the spans were computed by different threads. The arithmetic is the same.
#pragma once
#include "step.h"

namespace intaglio {

// cos and sin of every token's angles.
struct Rope {
  Rope(std::vector<float> frequencies, double scale, int32_t max_tokens);
  int32_t dim() const { return static_cast<int32_t>(inv_freq.size()) * 2; }

  std::vector<float> inv_freq;
  double scale;
  Block<float> cos, sin;  // max_tokens x dim/2
};

struct Angles : Op {
  explicit Angles(const Rope* r) : rope(r) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;
  bool walks() const override { return true; }
  void walk(const Step& step, const TokenBlock& block, const Worker& worker) const override;

  const Rope* rope;
};

// Of one page's tokens and one KV head: norms and rotates its queries and key in place, writes key and value to
// the page. One thread a page and head, because codes of neighbouring tokens may share a byte.
struct Append : Op {
  Append(const Kernels* kernels, const Cache* cache, int32_t layer, const Rope* rope, Slice q, Slice k, Slice v,
         const float* q_gain, const float* k_gain, float eps);
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;
  bool walks() const override { return true; }
  void walk(const Step& step, const TokenBlock& block, const Worker& worker) const override;

  void write(const Step& step, const Span& span, int32_t kv_head) const;
  void turn(float* head, const float* gain, int32_t token) const;

  const Kernels* kernels;
  const Cache* cache;
  int32_t layer;
  const Rope* rope;
  Slice q, k, v;
  const float *q_gain, *k_gain;  // per head, or null
  float eps;
};

// Results of the key spans of a step that is cut over keys, by [token][head][span].
struct SplitResults {
  SplitResults(int32_t heads, int32_t head_dim, int32_t max_key_spans);
  size_t index(int32_t token, int32_t head, int32_t span) const {
    return (static_cast<size_t>(token) * heads + head) * max_key_spans + span;
  }

  int32_t heads, max_key_spans;
  Block<float> out;      // head_dim
  Block<float> partial;  // 2
};

struct AttendSettings {
  int32_t heads, layer, window;  // window 0: all keys
  float scale, softcap;          // softcap 0: none
};

// What a thread reads next.
struct Ahead {
  const void *k = nullptr, *v = nullptr;
  int32_t head = 0;
};

struct Attention : Op {
  Attention(const Kernels* kernels, const Cache* cache, const SplitResults* split, AttendSettings settings, Slice q,
            Slice target);
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;

  int32_t rep() const { return settings.heads / cache->layout.kv_heads; }
  int32_t first_key(int32_t position) const;
  int32_t first_span(const Step& step, const Span& span) const;
  Ahead ahead(const Step& step, const Span& span, int32_t kv_head, int32_t key_span) const;
  Attend describe(const Step& step, const Span& span, int32_t kv_head, int32_t key_span, Ahead next,
                  const Worker& worker) const;
  void whole(const Step& step, int32_t query_span, int32_t kv_head, const Worker& worker) const;
  void part(const Step& step, const Span& span, int32_t kv_head, int32_t index, const Worker& worker) const;
  void one_key_span(const Step& step, const Span& span, int32_t kv_head, int32_t key_span, Ahead next,
                    const Worker& worker) const;

  const Kernels* kernels;
  const Cache* cache;
  const SplitResults* split;
  AttendSettings settings;
  Slice q, target;
};

// Merges the key spans of a step that was cut over keys; has no work otherwise.
struct Merge : Op {
  explicit Merge(const Attention* a) : attention(a) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;

  const Attention* attention;
};

}  // namespace intaglio
