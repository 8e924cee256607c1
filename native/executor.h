// The step executor: a program of fused ops over preallocated buffers, run by a pool of threads.
// Python builds the program once; a step is one call, allocates nothing and holds no lock of Python's.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "attention.h"
#include "ops.h"
#include "pool.h"
#include "request.h"

namespace intaglio {

class Executor {
 public:
  // Throws std::invalid_argument with a sentence when a limit makes no sense.
  Executor(const Kernels* kernels, const Limits& limits);

  // Building the program. Ids count from 0 in the order of the calls; an id of -1 where one is optional means none.
  // A `local` buffer holds what a token's ops leave for one another between two attentions, and nothing else.
  int32_t add_buffer(int32_t width, bool floats, int32_t sum_group, bool local, bool scales = false);
  int32_t add_vector(const float* values, int32_t n);
  int32_t add_matrix(const Matrix* matrix);  // stays the caller's, who keeps it alive
  int32_t add_reading(Reading reading);
  int32_t add_rope(std::vector<float> inv_freq, double scale);

  struct Columns {
    int32_t buffer, offset, width;  // buffer -1: the step's logits
  };
  void embed(int32_t matrix, Columns target, int32_t reading, float scale);
  void norm(Columns source, Columns target, int32_t reading, int32_t gain, float eps, Rows rows);
  void add_norm(Columns source, Columns residual, int32_t gain, float eps, float alpha, Rows rows);
  void linear(int32_t matrix, int32_t source, Columns target, int32_t bias, float alpha, bool accumulate, Rows rows);
  void gate(Columns gate, Columns up, Columns target, int32_t reading, int32_t activation, Rows rows);
  void append(int32_t layer, int32_t rope, Columns q, Columns k, Columns v, int32_t q_gain, int32_t k_gain, float eps);
  void attend(int32_t layer, Columns q, Columns target, int32_t window, float scale, float softcap);
  void hidden(Columns source, int32_t gain, float eps, Rows rows);
  void softcap(float cap);
  void sample();

  // Runs one step and gives the number of its draws, which are in the order of the chunks and, in each, of its tokens.
  // Throws std::invalid_argument, before anything runs, when the request breaks a limit.
  int32_t step(const Request& request);
  // Runs one step that gives every token's logits instead of samples: tokens x vocab.
  void score(const Request& request, float* logits);

  // Runs one step that gives what the head reads of every token, and no logits: tokens x hidden_width().
  void hidden(const Request& request, float* rows);
  int32_t hidden_width() const { return hidden_width_; }  // 0: the program has no such op

  // What the last step drew: kNotFinite where the logits are broken; log probabilities where they were asked for.
  Draws draws() const;
  // Of the last step's draw i; throws std::invalid_argument when there was none.
  const float* logits_of(int32_t draw) const;

  // KV of one layer, token and head as attention reads it, for tests: head_dim floats.
  void read_page(int32_t page, int32_t layer, int32_t head, int32_t slot, bool is_value, float* out) const;

  const Limits& limits() const { return limits_; }
  size_t reserved_nbytes() const;  // all memory but the matrices'; resident where it was used
  size_t cache_nbytes() const { return cache_.memory.nbytes(); }

 private:
  // An op's units of one round; it is over when all of them are done, whoever did them.
  struct alignas(64) Counter {
    std::atomic<int32_t> units{0};
    std::atomic<int32_t> done{0};
  };
  // A thread's share of them, neighbours, so that what it reads is one stream; others help once theirs are done. `next`
  // holds round << 32 | unit, so that a helper late from an earlier round can claim nothing.
  struct alignas(64) Share {
    std::atomic<uint64_t> next{0};
  };
  static constexpr int32_t kNone = -1, kOver = -2;
  // What a thread has asked for of the memory that it will read in an op to come.
  struct Asked {
    size_t op = 0;
    Stretch left;
  };

  Slice slice(Columns columns) const;
  Target target(Columns columns, int32_t reading) const;
  const float* vector(int32_t id) const;
  template <class T, class... Args>
  void add(Args&&... args);

  void prepare(const Request& request, bool all_rows);
  void fill_chunk(const Request& request, int32_t i, const int32_t* row, const Offsets& at, bool all_rows);
  void cut(int32_t i);
  void cut_blocks();
  size_t end_of_walk(size_t op) const;
  void walk(size_t op, TokenBlock block, const Worker& worker) const;
  int32_t units(size_t op) const;
  void run();
  void work(int member, int32_t round);
  static void help(void* self, int member, int32_t round);
  int32_t begin_of_share(int32_t member, int32_t units) const;
  int32_t claim(size_t op, int32_t units, int32_t member, int32_t round);
  int32_t claim_of(Share& share, int32_t end, int32_t round);
  int32_t stage(int32_t round, size_t op) const;
  void wait(size_t op, int member, int32_t round, Asked* asked) const;

  const Kernels* kernels_;
  Limits limits_;
  Cache cache_;
  SplitResults split_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<Block<float>> vectors_;
  std::vector<const Matrix*> matrices_;
  std::vector<std::unique_ptr<Reading>> readings_;
  std::vector<std::unique_ptr<Rope>> ropes_;
  std::vector<std::unique_ptr<Op>> ops_;
  std::unique_ptr<Counter[]> counters_;
  std::unique_ptr<Share[]> shares_;  // of every op, a thread each
  std::atomic<int32_t> progress_{0};  // stage() of the last op that is over
  std::vector<Worker> workers_;

  RequestCheck check_;
  Step step_{};
  Block<int32_t> position_, row_token_, row_chunk_, token_, rank_, top_token_;
  Block<float> logprob_, top_logprob_;
  Block<Chunk> chunk_;
  Block<Span> page_span_, query_span_;
  Block<TokenBlock> block_;
  Block<float> logits_;
  int32_t draws_ = 0;  // of the last step
  int32_t hidden_width_ = 0;
  Pool pool_;
};

}  // namespace intaglio
