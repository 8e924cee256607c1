#include "model.h"

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <numeric>

#include "isa/source.h"

namespace intaglio::stress {
namespace {

constexpr float kEps = 1e-5f;

bool one_group(int kind) { return is_plain(kind) || kind == kW8A8 || kind == kW4A8; }

int random_bits(Random& random, int kind) {
  if (kind == kW8A8) return 8;
  if (kind == kW8) return random.integer(5, 8);
  return random.integer(2, kind == kW2 ? 2 : kind == kW3 ? 3 : 4);
}

void fill_plain(Weights& w, Random& random) {
  const Source& s = w.source;
  const size_t width = s.kind == kF32 ? 4 : 2, count = size_t(s.rows) * size_t(s.cols);
  w.codes.resize(count * width);
  for (size_t i = 0; i < count; ++i) {
    const float x = random.normal() / std::sqrt(float(s.cols));
    uint32_t wide;
    std::memcpy(&wide, &x, 4);
    const uint16_t half = s.kind == kF16 ? float_to_half(x) : uint16_t(wide >> 16);
    std::memcpy(&w.codes[i * width], s.kind == kF32 ? static_cast<const void*>(&wide) : &half, width);
  }
}

// Zero points near the middle code, so that a row's mean stays small.
void fill_coded(Weights& w, Random& random) {
  const Source& s = w.source;
  const int top = (1 << s.bits) - 1, shift = top / 8;
  const size_t groups = size_t(s.rows) * size_t(group_count(s.cols, s.group));
  w.codes.resize(size_t(s.rows) * size_t(row_bytes(s)));
  for (uint8_t& code : w.codes) code = uint8_t(random.integer(0, 255));
  if (s.kind != kW8A8) w.zero.resize(groups);
  for (uint8_t& zero : w.zero) zero = uint8_t(random.integer(top / 2 - shift, (top + 1) / 2 + shift));
  if (s.kind == kW4A8Two) w.steps.resize(groups);
  for (uint8_t& step : w.steps) step = uint8_t(random.integer(8, 16));
  w.scale.resize(size_t(s.rows) * size_t(scale_count(s.kind, s.cols, s.group)));
  const float unit = 1 / (0.3f * float(top) * std::sqrt(float(s.cols)) * (w.steps.empty() ? 1.0f : 12.0f));
  for (float& scale : w.scale) scale = unit * float(random.integer(50, 150)) / 100;
}

std::vector<float> gains(Random& random, int n) {
  std::vector<float> g(static_cast<size_t>(n));
  for (float& x : g) x = 1 + 0.2f * random.normal();
  return g;
}

PackedMatrix pack(const Kernels* k, std::initializer_list<const Weights*> parts) {
  std::vector<Source> sources;
  for (const Weights* part : parts) sources.push_back(part->source);
  return pack_matrix(k, sources, 2);
}

// The finest grain of activation sums that every reader of a buffer can use; 0: none reads int8.
int sum_group(std::initializer_list<const PackedMatrix*> readers) {
  int grain = 0;
  for (const PackedMatrix* r : readers)
    if (is_int8(r->m.kind)) grain = std::gcd(grain, r->m.group);
  return grain;
}

// Adds a model's buffers and ops to an executor, as engine/program.py does.
class Program {
 public:
  Program(Executor& to, const PackedModel& model) : to_(to), packed_(model), s_(model.model->shape) {
    std::vector<float> inverse;
    for (int i = 0; i < s_.head_dim / 2; ++i) inverse.push_back(std::pow(10000.0f, -2.0f * float(i) / float(s_.head_dim)));
    rope_ = to_.add_rope(inverse, 1.0);
    const int queries = s_.heads * s_.head_dim;
    residual_ = floats(s_.hidden), wanted_ = floats(s_.hidden);
    qkv_ = floats(queries + 2 * s_.kv_heads * s_.head_dim);
    gate_up_ = floats(2 * s_.inner, true);
    attended_ = floats(queries);
    to_.embed(to_.add_matrix(&packed_.embedding.m), whole(residual_, s_.hidden), -1, 1.0f);
    for (int i = 0; i < kLayers; ++i) attention(i), mlp(i);
    head();
  }

 private:
  using Columns = Executor::Columns;

  static Columns whole(int buffer, int width) { return {buffer, 0, width}; }
  int floats(int width, bool local = false) { return to_.add_buffer(width, true, 0, local); }
  int input(int width, std::initializer_list<const PackedMatrix*> readers, bool local = true) {
    return to_.add_buffer(width, true, sum_group(readers), local);
  }
  int vector(const std::vector<float>& v) { return to_.add_vector(v.data(), int(v.size())); }
  void linear(const PackedMatrix& w, int source, Columns target, bool accumulate, Rows rows = Rows::kTokens) {
    to_.linear(to_.add_matrix(&w.m), source, target, -1, 1.0f, accumulate, rows);
  }

  void attention(int i) {
    const PackedModel::Site& w = packed_.layers[size_t(i)];
    const int queries = s_.heads * s_.head_dim, keys = s_.kv_heads * s_.head_dim;
    const Columns q = whole(qkv_, queries), k = {qkv_, queries, keys}, v = {qkv_, queries + keys, keys};
    const int in = input(s_.hidden, {&w.q, &w.k, &w.v}), out = input(queries, {&w.o});
    const int gain = vector(packed_.model->layers[size_t(i)].attention_gain);
    to_.norm(whole(residual_, s_.hidden), whole(in, s_.hidden), -1, gain, kEps, Rows::kTokens);
    linear(w.q, in, q, false), linear(w.k, in, k, false), linear(w.v, in, v, false);
    to_.append(i, rope_, q, k, v, -1, -1, kEps);
    const float scale = 1 / std::sqrt(float(s_.head_dim));
    to_.attend(i, q, whole(attended_, queries), i % 2 ? s_.window : 0, scale, s_.softcap);
    const bool last = i == kLayers - 1;
    if (last) to_.norm(whole(residual_, s_.hidden), whole(wanted_, s_.hidden), -1, -1, -1.0f, Rows::kGathered);
    to_.norm(whole(attended_, queries), whole(out, queries), -1, -1, -1.0f, last ? Rows::kGathered : Rows::kTokens);
    linear(w.o, out, whole(last ? wanted_ : residual_, s_.hidden), true, last ? Rows::kWanted : Rows::kTokens);
  }

  void mlp(int i) {
    const PackedModel::Site& w = packed_.layers[size_t(i)];
    const int in = input(s_.hidden, {&w.gate_up}), out = input(s_.inner, {&w.down});
    const int gain = vector(packed_.model->layers[size_t(i)].mlp_gain);
    const Rows rows = i == kLayers - 1 ? Rows::kWanted : Rows::kTokens;
    const Columns residual = whole(rows == Rows::kWanted ? wanted_ : residual_, s_.hidden);
    to_.norm(residual, whole(in, s_.hidden), -1, gain, kEps, rows);
    linear(w.gate_up, in, whole(gate_up_, 2 * s_.inner), false, rows);
    to_.gate(whole(gate_up_, s_.inner), {gate_up_, s_.inner, s_.inner}, whole(out, s_.inner), -1, i % 3, rows);
    linear(w.down, out, residual, true, rows);
  }

  void head() {
    const int in = input(s_.hidden, {&packed_.head}, false);
    const int gain = vector(packed_.model->head_gain);
    to_.norm(whole(wanted_, s_.hidden), whole(in, s_.hidden), -1, gain, kEps, Rows::kWanted);
    linear(packed_.head, in, whole(-1, s_.vocab), false, Rows::kWanted);
    if (s_.softcap > 0) to_.softcap(s_.softcap);
    to_.sample();
  }

  Executor& to_;
  const PackedModel& packed_;
  const Shape& s_;
  int rope_, residual_, wanted_, qkv_, gate_up_, attended_;
};

}  // namespace

Weights::Weights(Random& random, int kind, int rows, int cols) {
  int group = 8 * random.integer(1, 8);
  while (!fits_groups(kind, INT32_MAX, group)) group += 8;
  group = one_group(kind) ? cols : std::min(cols, group);
  source = {kind, rows, cols, is_plain(kind) ? 0 : random_bits(random, kind), group, nullptr, nullptr, nullptr, nullptr, nullptr};
  fill(random);
}

Weights::Weights(Random& random, const Weights& like) : source(like.source) { fill(random); }

void Weights::fill(Random& random) {
  (is_plain(source.kind) ? fill_plain : fill_coded)(*this, random);
  source.codes = codes.data();
  source.scale = scale.data();
  source.zero = zero.empty() ? nullptr : zero.data();
  source.group_scale = steps.empty() ? nullptr : steps.data();
}

Model::Model(Random& random, int kv_bits, bool integer_kinds) : integers(integer_kinds) {
  const auto any_kind = [&](int rows, int cols) {
    return std::make_unique<Weights>(random, random.integer(kF32, integers ? kW4A8Group : kW8), rows, cols);
  };
  const int kv_heads = random.integer(1, 2), rep = random.integer(1, 3), dim = 8 * random.integer(1, 4);
  shape = {8 * random.integer(4, 9), 8 * random.integer(5, 12), kv_heads * rep, kv_heads, dim, random.integer(33, 99),
           kv_bits, random.integer(5, 100), random.chance(0.3) ? 20.0f : 0.0f};
  const int queries = shape.heads * dim, keys = kv_heads * dim;
  embedding = any_kind(shape.vocab, shape.hidden);
  for (float& s : embedding->scale) s *= 8;  // rows of about unit size
  head = any_kind(shape.vocab, shape.hidden);
  head_gain = gains(random, shape.hidden);
  for (int i = 0; i < kLayers; ++i) {
    Layer l;
    l.q = any_kind(queries, shape.hidden), l.k = any_kind(keys, shape.hidden);
    l.v = any_kind(keys, shape.hidden), l.o = any_kind(shape.hidden, queries);
    l.gate = any_kind(shape.inner, shape.hidden), l.up = std::make_unique<Weights>(random, *l.gate);
    l.down = any_kind(shape.hidden, shape.inner);
    l.attention_gain = gains(random, shape.hidden), l.mlp_gain = gains(random, shape.hidden);
    layers.push_back(std::move(l));
  }
}

PackedModel::PackedModel(const Model& m, const Kernels* k)
    : model(&m), kernels(k), embedding(pack(k, {m.embedding.get()})), head(pack(k, {m.head.get()})) {
  for (const Layer& l : m.layers) {
    layers.push_back({pack(k, {l.q.get()}), pack(k, {l.k.get()}), pack(k, {l.v.get()}), pack(k, {l.o.get()}),
                      pack(k, {l.gate.get(), l.up.get()}), pack(k, {l.down.get()})});
  }
}

std::unique_ptr<Executor> open(const PackedModel& model, const Memory& m) {
  const Shape& s = model.model->shape;
  auto executor = std::make_unique<Executor>(
      model.kernels, Limits{m.threads, m.max_tokens, m.max_sequences, m.max_sequences + 3, m.max_context, m.pages, s.vocab, kLayers, s.heads,
                            s.kv_heads, s.head_dim, s.kv_bits});
  Program(*executor, model);
  return executor;
}

}  // namespace intaglio::stress
