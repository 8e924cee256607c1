// What the ops of a program work on: buffers, which live as long as the executor, and the step, which is new
// every time. All memory is allocated when the executor is built; a step allocates nothing.
#pragma once
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "kernels.h"
#include "sampler.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace intaglio {

// Zeroed, 64-byte aligned, touched (and so resident) only where it is used.
template <class T>
class Block {
 public:
  Block() = default;
  explicit Block(size_t count) : count_(count) {
    if (count == 0) return;
    raw_.reset(std::calloc(count * sizeof(T) + 63, 1));
    if (!raw_) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(raw_.get());
    data_ = reinterpret_cast<T*>((address + 63) & ~static_cast<uintptr_t>(63));
#ifdef __SANITIZE_ADDRESS__  // what alignment left over behind the end would hide small overflows
    const auto end = reinterpret_cast<uintptr_t>(data_ + count);
    __asan_poison_memory_region(data_ + count, address + count * sizeof(T) + 63 - end);
#endif
  }
  T* data() const { return data_; }
  T& operator[](size_t i) const { return data_[i]; }
  size_t nbytes() const { return count_ * sizeof(T); }
  // Asks for large pages of memory: what is read here and there then misses fewer translations.
  void advise_huge() const {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t kHuge = uintptr_t{1} << 21;
    const auto address = reinterpret_cast<uintptr_t>(data_), first = (address + kHuge - 1) & ~(kHuge - 1);
    const uintptr_t end = (address + nbytes()) & ~(kHuge - 1);
    if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#endif
  }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> raw_;
  T* data_ = nullptr;
  size_t count_ = 0;
};

constexpr int32_t round_up(int32_t n, int32_t to) { return (n + to - 1) / to * to; }
constexpr int32_t divide_up(int32_t n, int32_t by) { return (n + by - 1) / by; }

// Tokens [first, end) that one thread takes through op after op: whole page spans, [span, span_end) of the step's.
// In local buffers it works on rows of its own, where token t has row t - shift.
struct TokenBlock {
  int32_t first, end, span, span_end, shift;
};

// Activations of a step, one row a token (or a row of logits): floats, int8 with scale and group sums, or both. With
// `scales` every group of the int8 has its own scale.
// Columns from width to ld stay zero.
struct Buffer {
  Buffer(int32_t rows, int32_t width, bool floats, int32_t sum_group, bool local, bool scales);

  float* row(int32_t r) const { return f.data() + r * ld; }
  int32_t index(int32_t token, const TokenBlock& block) const { return local ? token - block.shift : token; }
  size_t nbytes() const { return f.nbytes() + q.nbytes() + scale.nbytes() + sums.nbytes(); }

  int32_t width, sum_group;  // sum_group 0: no int8 form
  bool scales;
  bool local;                // what a walk writes here it reads itself, and nobody else
  int64_t ld, lds;
  Block<float> f;
  Block<int8_t> q;
  Block<float> scale;
  Block<int32_t> sums;
};

// Some columns of a buffer.
struct Slice {
  const Buffer* buffer;
  int32_t offset, width;

  float* row(int32_t r) const { return buffer->row(r) + offset; }
  float* row(int32_t token, const TokenBlock& block) const { return row(buffer->index(token, block)); }
};

// Tokens of one sequence that enter together, at positions [position, position + count).
struct Chunk {
  int32_t first;  // its first token among the step's
  int32_t count, position;
  const int32_t* pages;
  int32_t draws;  // after each of its last tokens
  int32_t row;    // of the first of them
  int32_t logprobs;  // -1: none
  Sampling sampling;
  Context context;  // of its last token
};

// Tokens [first, first + count) of one chunk; for ropes all in one page, for attention a block of queries.
struct Span {
  int32_t chunk, first, count;
};

// What is drawn, one a row.
struct Draws {
  int32_t* token;
  float* logprob;
  int32_t* rank;
  int32_t* top_token;  // rows x kMostLogprobs
  float* top_logprob;

  Logprobs logprobs(int64_t row) const {
    return {logprob + row, rank + row, top_token + row * kMostLogprobs, top_logprob + row * kMostLogprobs};
  }
};

struct Step {
  int32_t tokens, rows, chunks;
  const int32_t* ids;        // tokens
  int32_t* position;         // tokens
  int32_t* row_token;        // rows: the token each row of logits belongs to
  int32_t* row_chunk;        // rows, unless all rows are wanted: and the chunk
  Chunk* chunk;              // chunks
  Span* page_span;           // tokens cut by chunk and page
  Span* query_span;          // tokens cut by chunk and kQueries
  int32_t page_spans, query_spans;
  TokenBlock* block;         // tokens cut for threads of their own
  int32_t blocks;            // 0: ops are cut instead, and every thread helps with each
  int32_t key_spans;         // of the longest context, in kKeys
  int32_t key_parts;         // into so many stretches of key spans attention is cut; 0: into none
  float* logits;             // rows x ldl; null: none are made
  int64_t ldl;
  Draws draws;               // without tokens: nothing is drawn
  float* hidden;             // rows x what the head reads; null: it stays inside
};

constexpr int32_t kBlockTokens = 64;  // of a block, at most: what they leave for the next op stays in the second cache
constexpr int32_t kQueries = 32;  // tokens of one attention unit
constexpr int32_t kKeys = 512;    // keys of one attention unit: results are merged in this grain, always
constexpr int32_t kSplitTokens = 16;  // steps of at most so many tokens may be cut over keys

// Memory of one thread.
struct Worker {
  int32_t member;         // which thread
  Block<float> row;       // the widest buffer
  Block<float> gathered;  // its channels in another order
  Block<char> attend;     // attend_scratch
  Block<float> out;       // kQueries x rep x head_dim of one key span
  Block<float> partial;   // kQueries x rep x 2, of one key span
  Block<float> total;     // kQueries x rep x 2, so far
  Block<void*> k_pages, v_pages;  // of one sequence
  Block<float> logits;
  Block<Candidate> candidates;
  Block<int32_t> said;
  Block<float> maxima, sums;

  SamplerScratch sampler() const {
    return {logits.data(), candidates.data(), said.data(), maxima.data(), sums.data()};
  }
};

// The KV memory: page-major, so that the memory of a page is its own. Base + [page][layer][k, v].
struct Cache {
  PageLayout layout;
  int32_t layers, pages;
  size_t page_bytes;  // of one layer's K or V
  Block<char> memory;

  void* page(int32_t id, int32_t layer, int32_t is_value) const {
    return memory.data() + (static_cast<size_t>(id) * layers * 2 + layer * 2 + is_value) * page_bytes;
  }
};

// Memory that is read and not written in a step.
struct Stretch {
  const char* at = nullptr;
  size_t bytes = 0;
};

// One fused operation: `units` independent pieces of work, any thread, any order. An op that needs nothing of other
// tokens `walks`: it can do one block of them alone, after the op before it did the same block.
class Op {
 public:
  virtual ~Op() = default;
  virtual int32_t units(const Step& step) const = 0;
  virtual void run(const Step& step, int32_t unit, const Worker& worker) const = 0;
  // What unit `i` of `n` and those behind it read in this order, where it is much and nobody else reads it.
  virtual Stretch reads(int32_t /*i*/, int32_t /*n*/) const { return {}; }
  virtual bool walks() const { return false; }
  virtual void walk(const Step&, const TokenBlock&, const Worker&) const {}
};

}  // namespace intaglio
