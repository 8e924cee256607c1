#include "ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace intaglio {
namespace {

constexpr int32_t kTokensAUnit = 4;             // of the ops that walk tokens
constexpr int32_t kColumnsAUnit = 8192;         // of the softcap
constexpr int32_t kUnitsAThread = 3;            // of a linear, so that a late thread delays little
constexpr int64_t kBytesAUnit = 16 << 10;       // of a linear's weights at least: a unit must outweigh its counter
constexpr int32_t kActivationBytes = 384 << 10; // of a linear's token block: stays in the second-level cache

int32_t count(const Step& step, Rows rows) { return rows == Rows::kTokens ? step.tokens : step.rows; }

// Of an op that walks tokens one by one.
int32_t token_units(int32_t n) { return divide_up(n, kTokensAUnit); }

TokenBlock token_unit(int32_t unit, int32_t n) {
  return {unit * kTokensAUnit, std::min(n, (unit + 1) * kTokensAUnit), 0, 0, 0};
}

bool gathers(const Target& target) { return target.reading && !target.reading->order.empty(); }

// Where the floats of a target's row are made: in the buffer, or in the thread's own memory when it keeps int8 only, or
// the channels in another order.
float* floats(const Target& target, int32_t r, const Worker& worker) {
  return target.slice.buffer->f && !gathers(target) ? target.slice.row(r) : worker.row.data();
}

// One group on the grid of its codes.
void round_group(float* x, int32_t n, int32_t bits, float clip) {
  float most = 0;
  for (int32_t i = 0; i < n; ++i) most = std::max(most, std::fabs(x[i]));
  if (most == 0) return;
  const auto top = static_cast<float>((1 << (bits - 1)) - 1);
  const float low = bits == 8 ? -top : -top - 1, reach = clip * most, scale = reach / top, inverse = top / reach;
  for (int32_t i = 0; i < n; ++i) x[i] = std::clamp(std::nearbyint(x[i] * inverse), low, top) * scale;
}

void round_floats(float* x, int32_t n, const Rounding& r) {
  const int32_t few = divide_up(n, r.size) - r.kept;
  for (int32_t g = 0, i = 0; i < n; ++g, i += r.size) {
    round_group(x + i, std::min(r.size, n - i), g < few ? r.bits : r.kept_bits, g < few ? r.clip : 1);
  }
}

// y = rms_norm(x) * gain; without eps (< 0): y = x.
void norm(const Kernels* kernels, const float* x, const float* gain, int32_t n, float eps, float* y) {
  if (eps >= 0) {
    kernels->rms_norm(x, gain, n, eps, y);
  } else {
    std::memcpy(y, x, static_cast<size_t>(n) * sizeof(float));
  }
}

// x, which floats() gave, in order.
float* gather(const Target& target, int32_t r, const Worker& worker, float* x) {
  if (!gathers(target)) return x;
  float* to = target.slice.buffer->f ? target.slice.row(r) : worker.gathered.data();
  for (size_t i = 0; i < target.reading->order.size(); ++i) to[i] = x[target.reading->order[i]];
  return to;
}

// Of every m columns the n largest stay, of equal ones the first; the rest become zero. A token with NaN stays as it is.
void keep_largest(float* x, int32_t columns, int32_t n, int32_t m) {
  for (int32_t begin = 0; begin < columns; begin += m, x += m) {
    const int32_t width = std::min(m, columns - begin);
    float size[kMostBlock];
    for (int32_t i = 0; i < width; ++i) size[i] = std::fabs(x[i]);
    for (int32_t i = 0; i < width; ++i) {
      int32_t before = 0;
      for (int32_t j = 0; j < width; ++j) before += size[j] > size[i] || (size[j] == size[i] && j < i);
      if (before >= n) x[i] = 0;
    }
  }
}

void finish(const Kernels* kernels, const Target& target, int32_t r, const Worker& worker, float* x) {
  const Buffer& b = *target.slice.buffer;
  x = gather(target, r, worker, x);
  if (b.sum_group) {
    int8_t* q = b.q.data() + r * b.ld;
    int32_t* sums = b.sums.data() + r * b.lds;
    if (b.scales) kernels->quantize_groups(x, b.width, &target.reading->rounding, q, b.scale.data() + r * b.lds, sums);
    else kernels->quantize(x, b.width, b.sum_group, q, b.scale.data() + r, sums);
  }
  if (!b.f || !target.reading) return;
  const Reading& how = *target.reading;
  if (how.of) keep_largest(x, b.width, how.few, how.of);
  if (how.rounds) round_floats(x, b.width, how.rounding);
}

}  // namespace

int32_t Embed::units(const Step& step) const { return token_units(step.tokens); }

void Embed::run(const Step& step, int32_t unit, const Worker& worker) const {
  walk(step, token_unit(unit, step.tokens), worker);
}

void Embed::walk(const Step& step, const TokenBlock& block, const Worker& worker) const {
  for (int32_t t = block.first; t < block.end; ++t) {
    const int32_t row = target.slice.buffer->index(t, block);
    float* x = floats(target, row, worker);
    kernels->row(matrix, step.ids[t], x);
    if (scale != 1.0f) {
      for (int32_t i = 0; i < target.slice.width; ++i) x[i] *= scale;
    }
    finish(kernels, target, row, worker, x);
  }
}

int32_t Norm::units(const Step& step) const { return token_units(count(step, rows)); }

void Norm::run(const Step& step, int32_t unit, const Worker& worker) const {
  walk(step, token_unit(unit, count(step, rows)), worker);
}

void Norm::walk(const Step& step, const TokenBlock& block, const Worker& worker) const {
  for (int32_t r = block.first; r < block.end; ++r) {
    const float* x = rows == Rows::kGathered ? source.row(step.row_token[r]) : source.row(r, block);
    const int32_t to = target.slice.buffer->index(r, block);
    float* y = floats(target, to, worker);
    norm(kernels, x, gain, source.width, eps, y);
    finish(kernels, target, to, worker, y);
  }
}

int32_t AddNorm::units(const Step& step) const { return token_units(count(step, rows)); }

void AddNorm::run(const Step& step, int32_t unit, const Worker& worker) const {
  walk(step, token_unit(unit, count(step, rows)), worker);
}

void AddNorm::walk(const Step&, const TokenBlock& block, const Worker& worker) const {
  for (int32_t t = block.first; t < block.end; ++t) {
    float* y = worker.row.data();
    kernels->rms_norm(source.row(t, block), gain, source.width, eps, y);
    kernels->axpy(alpha, y, source.width, residual.row(t, block));
  }
}

int32_t grain_of(const Kernels* k, int32_t kind) { return has_rows_of_their_own(kind) ? 1 : k->tile; }

std::vector<int32_t> row_cuts(const Kernels* k, const Matrix* w, int threads, int32_t grain) {
  const int64_t all = k->bytes_before(w, w->rows), most = threads == 1 ? 1 : threads * kUnitsAThread;
  const int64_t pieces = std::clamp<int64_t>(all / kBytesAUnit, 1, most);
  std::vector<int32_t> cuts = {0};
  for (int64_t piece = 1; piece < pieces; ++piece) {
    const int64_t wanted = all * piece / pieces;
    int32_t low = 0, high = divide_up(w->rows, grain);  // grains before which there is less, and no less, than is wanted
    while (high - low > 1) {
      const int32_t middle = low + (high - low) / 2;
      (k->bytes_before(w, std::min(middle * grain, w->rows)) < wanted ? low : high) = middle;
    }
    const int32_t under = low * grain, over = std::min(high * grain, w->rows);
    const bool nearer = wanted - k->bytes_before(w, under) < k->bytes_before(w, over) - wanted;
    const int32_t cut = nearer ? under : over;
    if (cut > cuts.back() && cut < w->rows) cuts.push_back(cut);
  }
  cuts.push_back(w->rows);
  return cuts;
}

Linear::Linear(const Kernels* k, const Product& p, Slice t, Rows r, int n)
    : kernels(k), threads(n), target(t), rows(r) {
  take(p);
}

void Linear::take(const Product& p) {
  products.push_back(p);
  grain = std::max(grain, grain_of(kernels, p.matrix->kind));
  if (!matrix || p.matrix->bytes > matrix->bytes) matrix = p.matrix, source = p.source;
  cuts = row_cuts(kernels, matrix, threads, grain);
}

// Whether p goes on top of these, and reads nothing that they write.
bool Linear::takes(const Product& p, const Slice& t, Rows r) const {
  return p.accumulate && t.buffer == target.buffer && t.offset == target.offset && t.width == target.width && r == rows &&
         p.source != target.buffer;
}

int32_t Linear::token_block(int32_t tokens) const {
  const int32_t bytes = static_cast<int32_t>(source->ld) * (is_int8(matrix->kind) ? 1 : 4);
  const int32_t fits = std::max(32, kActivationBytes / bytes / 32 * 32);
  return std::max(1, std::min(tokens, fits));
}

int32_t Linear::units(const Step& step) const {
  if (!target.buffer && !step.logits) return 0;
  const int32_t n = count(step, rows);
  return divide_up(n, token_block(n)) * pieces();
}

void Linear::run(const Step& step, int32_t unit, const Worker&) const {
  const int32_t n = count(step, rows), block = token_block(n), token0 = unit / pieces() * block;
  const auto piece = static_cast<size_t>(unit % pieces());
  multiply(step, {token0, std::min(n, token0 + block), 0, 0, 0}, cuts[piece], cuts[piece + 1]);
}

// Rows lie one behind the other in nearly all kinds; elsewhere this is a wrong guess that costs little.
Stretch Linear::reads(int32_t i, int32_t n) const {
  if (n != pieces()) return {};  // several blocks of tokens read it all
  const size_t from = matrix->bytes / static_cast<size_t>(matrix->rows) * static_cast<size_t>(cuts[static_cast<size_t>(i)]);
  return {static_cast<const char*>(matrix->data) + from, matrix->bytes - from};
}

void Linear::walk(const Step& step, const TokenBlock& block, const Worker&) const {
  multiply(step, block, 0, matrix->rows);
}

void Linear::multiply(const Step& step, const TokenBlock& block, int32_t row0, int32_t row1) const {
  float* y = target.buffer ? target.row(block.first, block) : step.logits + block.first * step.ldl;
  for (const Product& p : products) {
    const Buffer& b = *p.source;
    const int64_t from = b.index(block.first, block);
    const Activations x = {b.f.data() + from * b.ld, b.ld,  b.q.data() + from * b.ld, b.ld,
                           b.scale.data() + from * (b.scales ? b.lds : 1), b.sums.data() + from * b.lds, b.lds, b.sum_group};
    const Output out = {y, target.buffer ? target.buffer->ld : step.ldl, p.bias, p.alpha, p.accumulate};
    kernels->linear(p.matrix, &x, 0, block.end - block.first, row0, row1, &out);
  }
}

int32_t Gate::units(const Step& step) const { return token_units(count(step, rows)); }

void Gate::run(const Step& step, int32_t unit, const Worker& worker) const {
  walk(step, token_unit(unit, count(step, rows)), worker);
}

void Gate::walk(const Step&, const TokenBlock& block, const Worker& worker) const {
  for (int32_t t = block.first; t < block.end; ++t) {
    const int32_t row = target.slice.buffer->index(t, block);
    float* y = floats(target, row, worker);
    kernels->gate(gate.row(t, block), up.row(t, block), gate.width, activation, y);
    finish(kernels, target, row, worker, y);
  }
}

int32_t Hidden::units(const Step& step) const { return step.hidden ? token_units(step.rows) : 0; }

void Hidden::run(const Step& step, int32_t unit, const Worker&) const {
  const TokenBlock block = token_unit(unit, step.rows);
  for (int32_t r = block.first; r < block.end; ++r) {
    const float* x = source.row(rows == Rows::kGathered ? step.row_token[r] : r);
    norm(kernels, x, gain, source.width, eps, step.hidden + static_cast<int64_t>(r) * source.width);
  }
}

int32_t Softcap::units(const Step& step) const {
  return step.logits ? step.rows * divide_up(vocab, kColumnsAUnit) : 0;
}

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
