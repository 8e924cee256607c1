#include "ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace intaglio {
namespace {

constexpr int32_t kTokensAUnit = 4;             // of the ops that walk tokens
constexpr int32_t kColumnsAUnit = 8192;         // of the softcap
constexpr int32_t kUnitsAThread = 6;            // of a linear, so that a late thread delays little
constexpr size_t kBytesAUnit = 16 << 10;        // of a linear's weights at least: a unit must outweigh its counter
constexpr int32_t kActivationBytes = 384 << 10; // of a linear's token block: stays in the second-level cache

int32_t count(const Step& step, Rows rows) { return rows == Rows::kTokens ? step.tokens : step.rows; }

template <class F>
void each_token(int32_t unit, int32_t n, F body) {
  const int32_t end = std::min(n, (unit + 1) * kTokensAUnit);
  for (int32_t t = unit * kTokensAUnit; t < end; ++t) body(t);
}

// Where the floats of a target's row are made: in the buffer, or in the thread's own memory when it keeps int8 only.
float* floats(const Target& target, int32_t r, const Worker& worker) {
  return target.slice.buffer->f ? target.slice.row(r) : worker.row.data();
}

// x on a symmetric grid of `bits`, one scale for all n.
void round_to_grid(float* x, int32_t n, int32_t bits) {
  float most = 0;
  for (int32_t i = 0; i < n; ++i) most = std::max(most, std::fabs(x[i]));
  if (most == 0) return;
  const float scale = most / static_cast<float>((1 << (bits - 1)) - 1);
  for (int32_t i = 0; i < n; ++i) x[i] = std::nearbyint(x[i] / scale) * scale;
}

void finish(const Kernels* kernels, const Target& target, int32_t r, float* x) {
  const Buffer& b = *target.slice.buffer;
  if (b.sum_group) {
    kernels->quantize(x, b.width, b.sum_group, b.q.data() + r * b.ld, b.scale.data() + r, b.sums.data() + r * b.lds);
  }
  if (target.round_bits) round_to_grid(x, target.slice.width, target.round_bits);
}

}  // namespace

int32_t Embed::units(const Step& step) const { return divide_up(step.tokens, kTokensAUnit); }

void Embed::run(const Step& step, int32_t unit, const Worker& worker) const {
  each_token(unit, step.tokens, [&](int32_t t) {
    float* x = floats(target, t, worker);
    kernels->row(matrix, step.ids[t], x);
    if (scale != 1.0f) {
      for (int32_t i = 0; i < target.slice.width; ++i) x[i] *= scale;
    }
    finish(kernels, target, t, x);
  });
}

int32_t Norm::units(const Step& step) const { return divide_up(count(step, rows), kTokensAUnit); }

void Norm::run(const Step& step, int32_t unit, const Worker& worker) const {
  each_token(unit, count(step, rows), [&](int32_t r) {
    const float* x = source.row(rows == Rows::kGathered ? step.row_token[r] : r);
    float* y = floats(target, r, worker);
    if (eps >= 0) {
      kernels->rms_norm(x, gain, source.width, eps, y);
    } else {
      std::memcpy(y, x, static_cast<size_t>(source.width) * sizeof(float));
    }
    finish(kernels, target, r, y);
  });
}

int32_t AddNorm::units(const Step& step) const { return divide_up(step.tokens, kTokensAUnit); }

void AddNorm::run(const Step& step, int32_t unit, const Worker& worker) const {
  each_token(unit, step.tokens, [&](int32_t t) {
    float* y = worker.row.data();
    kernels->rms_norm(source.row(t), gain, source.width, eps, y);
    kernels->axpy(alpha, y, source.width, residual.row(t));
  });
}

Linear::Linear(const Kernels* k, const Matrix* m, const Buffer* s, Slice t, const float* b, float a, bool acc, Rows r,
               int threads)
    : kernels(k), matrix(m), source(s), target(t), bias(b), alpha(a), accumulate(acc), rows(r) {
  const size_t bytes = std::max<size_t>(1, k->matrix_bytes(m->kind, m->rows, m->cols, m->group) / m->rows);
  const int32_t least = static_cast<int32_t>(std::min<size_t>(kBytesAUnit / bytes + 1, m->rows));
  const int32_t fair = divide_up(m->rows, threads == 1 ? 1 : threads * kUnitsAThread);
  row_block = round_up(std::max(least, fair), k->tile);
}

int32_t Linear::token_block(int32_t tokens) const {
  const bool floating = matrix->kind <= kW8;
  const int32_t bytes = static_cast<int32_t>(source->ld) * (floating ? 4 : 1);
  const int32_t fits = std::max(32, kActivationBytes / bytes / 32 * 32);
  return std::max(1, std::min(tokens, fits));
}

int32_t Linear::units(const Step& step) const {
  const int32_t n = count(step, rows);
  return divide_up(n, token_block(n)) * divide_up(matrix->rows, row_block);
}

void Linear::run(const Step& step, int32_t unit, const Worker&) const {
  const Buffer& b = *source;
  const int32_t n = count(step, rows), block = token_block(n), row_blocks = divide_up(matrix->rows, row_block);
  const int32_t token0 = unit / row_blocks * block, row0 = unit % row_blocks * row_block;
  const Activations x = {b.f.data(), b.ld, b.q.data(), b.ld, b.scale.data(), b.sums.data(), b.lds, b.sum_group};
  float* y = target.buffer ? target.row(0) : step.logits;
  const Output out = {y, target.buffer ? target.buffer->ld : step.ldl, bias, alpha, accumulate};
  const int32_t token1 = std::min(n, token0 + block), row1 = std::min(matrix->rows, row0 + row_block);
  kernels->linear(matrix, &x, token0, token1, row0, row1, &out);
}

int32_t Gate::units(const Step& step) const { return divide_up(step.tokens, kTokensAUnit); }

void Gate::run(const Step& step, int32_t unit, const Worker& worker) const {
  each_token(unit, step.tokens, [&](int32_t t) {
    float* y = floats(target, t, worker);
    kernels->gate(gate.row(t), up.row(t), gate.width, activation, y);
    finish(kernels, target, t, y);
  });
}

int32_t Softcap::units(const Step& step) const { return step.rows * divide_up(vocab, kColumnsAUnit); }

void Softcap::run(const Step& step, int32_t unit, const Worker&) const {
  const int32_t blocks = divide_up(vocab, kColumnsAUnit), column = unit % blocks * kColumnsAUnit;
  kernels->softcap(step.logits + unit / blocks * step.ldl + column, std::min(kColumnsAUnit, vocab - column), cap);
}

int32_t Sample::units(const Step& step) const { return step.draws.token ? step.rows : 0; }

void Sample::run(const Step& step, int32_t unit, const Worker& worker) const {
  const Chunk& c = step.chunk[step.row_chunk[unit]];
  const int32_t draw = unit - c.row, later = c.draws - 1 - draw;
  Context context = c.context;
  context.position -= later;
  context.n_history = std::max(0, context.n_history - later);
  if (context.mask) context.mask += static_cast<int64_t>(draw) * words_of(vocab);
  const float* logits = step.logits + unit * step.ldl;
  const SamplerScratch scratch = worker.sampler();
  const int32_t token = sample(logits, vocab, c.sampling, context, scratch);
  step.draws.token[unit] = token;
  if (c.logprobs >= 0) log_probabilities(logits, vocab, token, c.logprobs, scratch, step.draws.logprobs(unit));
}

}  // namespace intaglio
