// The ops that work token by token or row tile by row tile. Those of attention are in attention.h.
#pragma once
#include "step.h"

namespace intaglio {

constexpr int32_t kMostBlock = 16;  // inputs of which the largest are kept

// Which rows an op walks: every token, those whose logits are wanted (already side by side), or these taken out of
// all tokens.
enum class Rows : int32_t { kTokens, kWanted, kGathered };

// What matrices make of the rows they read: the channels gathered in an order (empty: as they are), then rounded, or the
// `few` largest `of` so many kept (of 0: all).
struct Reading {
  bool rounds;
  Rounding rounding;
  std::vector<uint16_t> order;
  int32_t few = 0, of = 0;
};

// Where an op leaves a row that linears will read: as floats, as int8, or both, as the buffer keeps it. Floats are
// rounded like the int8, for a linear that was made for integers but has no kernel of its own to read them.
struct Target {
  Slice slice;
  const Reading* reading;  // null: the row itself
};

// target = scale * row(embedding, token)
struct Embed : Op {
  Embed(const Kernels* k, const Matrix* m, Target t, float s) : kernels(k), matrix(m), target(t), scale(s) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;
  bool walks() const override { return true; }
  void walk(const Step& step, const TokenBlock& block, const Worker& worker) const override;

  const Kernels* kernels;
  const Matrix* matrix;
  Target target;
  float scale;
};

// target = rms_norm(source) * gain; without eps (< 0): target = source.
struct Norm : Op {
  Norm(const Kernels* k, Slice s, Target t, const float* g, float e, Rows r)
      : kernels(k), source(s), target(t), gain(g), eps(e), rows(r) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;
  bool walks() const override { return rows == Rows::kTokens; }
  void walk(const Step& step, const TokenBlock& block, const Worker& worker) const override;

  const Kernels* kernels;
  Slice source;
  Target target;
  const float* gain;
  float eps;
  Rows rows;
};

// residual += alpha * rms_norm(source) * gain
struct AddNorm : Op {
  AddNorm(const Kernels* k, Slice s, Slice to, const float* g, float e, float a, Rows r)
      : kernels(k), source(s), residual(to), gain(g), eps(e), alpha(a), rows(r) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;
  bool walks() const override { return rows == Rows::kTokens; }
  void walk(const Step& step, const TokenBlock& block, const Worker& worker) const override;

  const Kernels* kernels;
  Slice source, residual;
  const float* gain;
  float eps, alpha;
  Rows rows;
};

// alpha * (matrix source + bias), in place of what is there or on top of it.
struct Product {
  const Matrix* matrix;
  const Buffer* source;
  const float* bias;
  float alpha;
  bool accumulate;
};

// At multiples of how many rows a matrix of this kind may be cut.
int32_t grain_of(const Kernels* k, int32_t kind);

// Where to cut the rows of a matrix for so many threads, at multiples of `grain`: 0, .., its rows. Pieces are read in as equal
// times as that allows, whatever the rows hold.
std::vector<int32_t> row_cuts(const Kernels* k, const Matrix* w, int threads, int32_t grain);

// target (+)= product; a target without buffer is the step's logits, if it makes any. More products may follow on top of the
// first: who has its rows does theirs, so that no thread waits for another in between.
struct Linear : Op {
  Linear(const Kernels* k, const Product& p, Slice t, Rows r, int threads);
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;
  Stretch reads(int32_t i, int32_t n) const override;
  bool walks() const override { return rows == Rows::kTokens; }
  void walk(const Step& step, const TokenBlock& block, const Worker& worker) const override;

  bool takes(const Product& p, const Slice& t, Rows r) const;
  void take(const Product& p);
  int32_t token_block(int32_t tokens) const;
  int32_t pieces() const { return static_cast<int32_t>(cuts.size()) - 1; }
  void multiply(const Step& step, const TokenBlock& block, int32_t row0, int32_t row1) const;

  const Kernels* kernels;
  std::vector<Product> products;
  const Matrix* matrix = nullptr;  // the largest, by which the work is cut
  const Buffer* source = nullptr;
  int threads;
  Slice target;
  Rows rows;
  int32_t grain = 1;
  std::vector<int32_t> cuts;  // where the rows of each unit begin, and where the last one's end
};

// target = activation(gate) * up
struct Gate : Op {
  Gate(const Kernels* k, Slice g, Slice u, Target t, int32_t a, Rows r)
      : kernels(k), gate(g), up(u), target(t), activation(a), rows(r) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;
  bool walks() const override { return rows == Rows::kTokens; }
  void walk(const Step& step, const TokenBlock& block, const Worker& worker) const override;

  const Kernels* kernels;
  Slice gate, up;
  Target target;
  int32_t activation;
  Rows rows;
};

// What the head reads of each row, for the caller who wants that: norm(source) as Norm has it.
struct Hidden : Op {
  Hidden(const Kernels* k, Slice s, const float* g, float e, Rows r)
      : kernels(k), source(s), gain(g), eps(e), rows(r) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;

  const Kernels* kernels;
  Slice source;
  const float* gain;
  float eps;
  Rows rows;
};

// logits = cap * tanh(logits / cap)
struct Softcap : Op {
  Softcap(const Kernels* k, int32_t v, float c) : kernels(k), vocab(v), cap(c) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;

  const Kernels* kernels;
  int32_t vocab;
  float cap;
};

// a token for each row of logits, and its log probability where that is wanted
struct Sample : Op {
  explicit Sample(int32_t v) : vocab(v) {}
  int32_t units(const Step& step) const override;
  void run(const Step& step, int32_t unit, const Worker& worker) const override;

  int32_t vocab;
};

}  // namespace intaglio
