#include "executor.h"

#include <algorithm>
#include <utility>

namespace intaglio {
namespace {

constexpr int32_t kPartsAThread = 16;  // of an attention cut over keys
constexpr size_t kMostAsked = 128 << 10;  // bytes asked for while waiting: they have to stay in the second cache

Cache make_cache(const Kernels* kernels, const Limits& l) {
  Cache cache{{l.kv_heads, l.head_dim, l.kv_bits}, l.layers, l.pages, 0, {}};
  cache.page_bytes = static_cast<size_t>(round_up(static_cast<int32_t>(kernels->page_bytes(&cache.layout)), 64));
  cache.memory = Block<char>(cache.page_bytes * 2 * static_cast<size_t>(l.layers) * static_cast<size_t>(l.pages));
  cache.memory.advise_huge();
  return cache;
}

Worker make_worker(int32_t member, const Kernels* kernels, const Limits& l, const PageLayout& layout) {
  const int32_t rep = l.heads / l.kv_heads;
  const size_t heads = static_cast<size_t>(kQueries) * rep, pages = divide_up(l.max_context, kPage);
  Worker w;
  w.member = member;
  w.attend = Block<char>(kernels->attend_scratch(&layout, kQueries, rep));
  w.out = Block<float>(heads * l.head_dim);
  w.partial = Block<float>(heads * 2);
  w.total = Block<float>(heads * 2);
  w.k_pages = Block<void*>(pages);
  w.v_pages = Block<void*>(pages);
  w.logits = Block<float>(l.vocab);
  w.candidates = Block<Candidate>(l.vocab);
  w.said = Block<int32_t>(l.vocab);
  w.maxima = Block<float>(blocks_of(l.vocab));
  w.sums = Block<float>(blocks_of(l.vocab));
  return w;
}

size_t worker_nbytes(const Worker& w) {
  return w.row.nbytes() + w.gathered.nbytes() + w.attend.nbytes() + w.out.nbytes() + w.partial.nbytes() + w.total.nbytes() +
         w.k_pages.nbytes() + w.v_pages.nbytes() + w.logits.nbytes() + w.candidates.nbytes() + w.said.nbytes() +
         w.maxima.nbytes() + w.sums.nbytes();
}

}  // namespace

Buffer::Buffer(int32_t rows, int32_t w, bool floats, int32_t group, bool l, bool s)
    : width(w), sum_group(group), scales(s), local(l), ld(round_up(w, 64)), lds(group ? divide_up(w, group) : 0) {
  const auto n = static_cast<size_t>(rows);
  if (floats) f = Block<float>(n * ld);
  if (!group) return;
  q = Block<int8_t>(n * ld);
  scale = Block<float>(scales ? n * lds : n);
  sums = Block<int32_t>(n * lds);
}

Executor::Executor(const Kernels* kernels, const Limits& limits)
    : kernels_(kernels),
      limits_(checked(limits)),
      cache_(make_cache(kernels, limits)),
      split_(limits.heads, limits.head_dim, divide_up(limits.max_context, kKeys)),
      check_(limits),
      position_(limits.max_tokens),
      row_token_(std::max(limits.max_tokens, limits.max_sequences)),
      row_chunk_(limits.max_draws),
      token_(limits.max_draws),
      rank_(limits.max_draws),
      top_token_(static_cast<size_t>(limits.max_draws) * kMostLogprobs),
      logprob_(limits.max_draws),
      top_logprob_(static_cast<size_t>(limits.max_draws) * kMostLogprobs),
      chunk_(limits.max_sequences),
      page_span_(limits.max_tokens),
      query_span_(limits.max_tokens),
      block_(limits.max_tokens),
      logits_(static_cast<size_t>(limits.max_draws) * round_up(limits.vocab, 16)),
      pool_(limits.threads, limits.pin_threads, help, this) {
  for (int32_t i = 0; i < limits.threads; ++i) workers_.push_back(make_worker(i, kernels, limits, cache_.layout));
}

// --- building

int32_t Executor::add_buffer(int32_t width, bool floats, int32_t sum_group, bool local, bool scales) {
  check_range("buffer width", width, 1, 1 << 24);
  check_range("sum group", sum_group, 0, width);
  const int32_t rows = local ? std::max(limits_.max_tokens, limits_.threads * kBlockTokens) : limits_.max_tokens;
  buffers_.push_back(std::make_unique<Buffer>(rows, width, floats, sum_group, local, scales));
  for (Worker& w : workers_) {
    const auto ld = static_cast<size_t>(buffers_.back()->ld);
    if (w.row.nbytes() < ld * sizeof(float)) w.row = Block<float>(ld), w.gathered = Block<float>(ld);
  }
  return static_cast<int32_t>(buffers_.size()) - 1;
}

int32_t Executor::add_vector(const float* values, int32_t n) {
  vectors_.emplace_back(static_cast<size_t>(n));
  std::copy(values, values + n, vectors_.back().data());
  return static_cast<int32_t>(vectors_.size()) - 1;
}

int32_t Executor::add_matrix(const Matrix* matrix) {
  matrices_.push_back(matrix);
  return static_cast<int32_t>(matrices_.size()) - 1;
}

int32_t Executor::add_reading(Reading r) {
  for (const uint16_t c : r.order) check_range("a channel of an order", c, 0, static_cast<int64_t>(r.order.size()) - 1);
  check_range("columns of a block", r.of, r.few, kMostBlock);
  readings_.push_back(std::make_unique<Reading>(std::move(r)));
  return static_cast<int32_t>(readings_.size()) - 1;
}

int32_t Executor::add_rope(std::vector<float> inv_freq, double scale) {
  check_range("rotary pairs", static_cast<int64_t>(inv_freq.size()), 0, limits_.head_dim / 2);
  ropes_.push_back(std::make_unique<Rope>(std::move(inv_freq), scale, limits_.max_tokens));
  add<Angles>(ropes_.back().get());
  return static_cast<int32_t>(ropes_.size()) - 1;
}

Slice Executor::slice(Columns c) const {
  if (c.buffer < 0) return {nullptr, 0, limits_.vocab};
  const Buffer* b = buffers_.at(static_cast<size_t>(c.buffer)).get();
  if (c.offset < 0 || c.width < 1 || c.offset + c.width > b->width) {
    refuse("columns ", c.offset, "+", c.width, " leave a buffer of ", b->width);
  }
  return {b, c.offset, c.width};
}

// The row a target keeps is a whole buffer's if it is read in another form than it was made.
Target Executor::target(Columns columns, int32_t reading) const {
  const Slice to = slice(columns);
  const Reading* how = reading < 0 ? nullptr : readings_.at(static_cast<size_t>(reading)).get();
  if (!to.buffer || (!how && to.buffer->scales)) refuse("what is read needs a buffer, and groups of it a rounding");
  if (!how) return {to, how};
  const int32_t width = to.buffer->width, size = how->rounding.size;
  if (to.width != width || (!how->order.empty() && how->order.size() != static_cast<size_t>(width))) {
    refuse("a reading of ", how->order.size(), " channels cannot fill a buffer of ", width);
  }
  if (to.buffer->scales && (!how->rounds || size != to.buffer->sum_group)) {
    refuse("groups of ", size, " channels cannot fill a buffer of groups of ", to.buffer->sum_group);
  }
  return {to, how};
}

const float* Executor::vector(int32_t id) const {
  return id < 0 ? nullptr : vectors_.at(static_cast<size_t>(id)).data();
}

template <class T, class... Args>
void Executor::add(Args&&... args) {
  ops_.push_back(std::make_unique<T>(std::forward<Args>(args)...));
  counters_ = std::make_unique<Counter[]>(ops_.size());
  shares_ = std::make_unique<Share[]>(ops_.size() * static_cast<size_t>(limits_.threads));
}

void Executor::embed(int32_t matrix, Columns to, int32_t reading, float scale) {
  add<Embed>(kernels_, matrices_.at(matrix), target(to, reading), scale);
}

void Executor::norm(Columns source, Columns to, int32_t reading, int32_t gain, float eps, Rows rows) {
  add<Norm>(kernels_, slice(source), target(to, reading), vector(gain), eps, rows);
}

void Executor::add_norm(Columns source, Columns residual, int32_t gain, float eps, float alpha, Rows rows) {
  add<AddNorm>(kernels_, slice(source), slice(residual), vector(gain), eps, alpha, rows);
}

void Executor::linear(int32_t matrix, int32_t source, Columns target, int32_t bias, float alpha, bool accumulate,
                      Rows rows) {
  const Matrix* m = matrices_.at(matrix);
  const Buffer* x = buffers_.at(source).get();
  const Slice y = slice(target);
  if (reads_groups(m->kind) && (!x->scales || x->sum_group != m->group)) {
    refuse("a matrix of groups of ", m->group, " cannot read groups of ", x->scales ? x->sum_group : x->width);
  }
  if (m->cols != x->width || m->rows != y.width) {
    refuse("a matrix of ", m->rows, "x", m->cols, " cannot read ", x->width, " columns and write ", y.width);
  }
  const Product product = {m, x, vector(bias), alpha, accumulate};
  auto* before = ops_.empty() ? nullptr : dynamic_cast<Linear*>(ops_.back().get());
  if (before && before->takes(product, y, rows)) before->take(product);
  else add<Linear>(kernels_, product, y, rows, limits_.threads);
}

void Executor::gate(Columns gate, Columns up, Columns to, int32_t reading, int32_t activation, Rows rows) {
  add<Gate>(kernels_, slice(gate), slice(up), target(to, reading), activation, rows);
}

void Executor::append(int32_t layer, int32_t rope, Columns q, Columns k, Columns v, int32_t q_gain, int32_t k_gain,
                      float eps) {
  add<Append>(kernels_, &cache_, layer, ropes_.at(rope).get(), slice(q), slice(k), slice(v), vector(q_gain),
              vector(k_gain), eps);
}

void Executor::attend(int32_t layer, Columns q, Columns target, int32_t window, float scale, float softcap) {
  const AttendSettings settings = {limits_.heads, layer, window, scale, softcap};
  add<Attention>(kernels_, &cache_, &split_, settings, slice(q), slice(target));
  add<Merge>(static_cast<const Attention*>(ops_.back().get()));
}

void Executor::hidden(Columns source, int32_t gain, float eps, Rows rows) {
  add<Hidden>(kernels_, slice(source), vector(gain), eps, rows);
  hidden_width_ = source.width;
}

void Executor::softcap(float cap) { add<Softcap>(kernels_, limits_.vocab, cap); }

void Executor::sample() { add<Sample>(limits_.vocab); }

// --- one step

void Executor::fill_chunk(const Request& r, int32_t i, const int32_t* row, const Offsets& at, bool all_rows) {
  const float* s = r.settings + i * Request::kSettings;
  const int32_t count = row[Request::kCount], position = row[Request::kPosition];
  const int32_t draws = all_rows ? 0 : row[Request::kDraws];
  const Sampling sampling = {s[Request::kTemperature], s[Request::kTopP],     s[Request::kMinP],
                             s[Request::kRepetition],  s[Request::kPresence], s[Request::kFrequency],
                             row[Request::kTopK],      r.seeds[i]};
  const uint32_t* masks = r.mask_words + static_cast<int64_t>(at.mask) * words_of(limits_.vocab);
  const Context context = {position + count - 1,     r.history_ids + at.history, row[Request::kHistory],
                           row[Request::kPrompt],    r.bias_ids + at.bias,       r.bias_values + at.bias,
                           row[Request::kBiases],    row[Request::kMasks] ? masks : nullptr};
  chunk_[i] = {at.token,   count, position, r.page_ids + at.page,    draws,
               step_.rows, row[Request::kLogprobs], sampling, context};
  for (int32_t t = 0; t < count; ++t) position_[at.token + t] = position + t;
  for (int32_t t = all_rows ? 0 : count - draws; t < count; ++t) {
    if (!all_rows) row_chunk_[step_.rows] = i;
    row_token_[step_.rows++] = at.token + t;
  }
  cut(i);
}

// Cuts a chunk's tokens by page, and into blocks of queries.
void Executor::cut(int32_t i) {
  const Chunk& c = chunk_[i];
  for (int32_t t = 0; t < c.count;) {
    const int32_t n = std::min(c.count - t, kPage - (c.position + t) % kPage);
    page_span_[step_.page_spans++] = {i, c.first + t, n};
    t += n;
  }
  for (int32_t t = 0; t < c.count; t += kQueries) {
    query_span_[step_.query_spans++] = {i, c.first + t, std::min(kQueries, c.count - t)};
  }
  step_.key_spans = std::max(step_.key_spans, divide_up(c.position + c.count, kKeys));
}

// Gathers page spans to blocks, if there are enough for the threads: then what a block leaves for the next op never
// leaves its thread's cache, and threads meet at attention only.
void Executor::cut_blocks() {
  int32_t n = 0;
  for (int32_t i = 0; i < step_.page_spans; ++i) {
    const Span& span = page_span_[i];
    if (n && span.first + span.count - block_[n - 1].first <= kBlockTokens) {
      block_[n - 1].end += span.count, block_[n - 1].span_end = i + 1;
    } else {
      block_[n++] = {span.first, span.first + span.count, i, i + 1, 0};
    }
  }
  const int32_t turns = divide_up(n, limits_.threads);
  const bool balanced = turns * limits_.threads * 4 <= n * 5, large = step_.tokens >= n * (kBlockTokens / 2);
  step_.block = block_.data();
  step_.blocks = balanced && large ? n : 0;
}

void Executor::prepare(const Request& r, bool all_rows) {
  check_(r);
  step_ = {};
  step_.tokens = r.tokens;
  step_.chunks = r.chunks;
  step_.ids = r.token_ids;
  step_.position = position_.data();
  step_.row_token = row_token_.data();
  step_.row_chunk = row_chunk_.data();
  step_.chunk = chunk_.data();
  step_.page_span = page_span_.data();
  step_.query_span = query_span_.data();
  each_chunk(r, [&](int32_t i, const int32_t* row, const Offsets& at) { fill_chunk(r, i, row, at, all_rows); });
  cut_blocks();
  const int32_t units = step_.query_spans * limits_.kv_heads;
  const bool idle = limits_.threads > 1 && units < 4 * limits_.threads;
  const bool split = idle && r.tokens <= kSplitTokens && step_.key_spans > 1;
  step_.key_parts = split ? std::min(step_.key_spans, divide_up(kPartsAThread * limits_.threads, units)) : 0;
}

// Where the walk that op begins is over: at the first op that needs other tokens.
size_t Executor::end_of_walk(size_t op) const {
  while (op < ops_.size() && ops_[op]->walks()) ++op;
  return op;
}

// In a step of blocks the first op of a walk does the work of all its ops.
int32_t Executor::units(size_t op) const {
  if (step_.blocks == 0 || !ops_[op]->walks()) return ops_[op]->units(step_);
  return op > 0 && ops_[op - 1]->walks() ? 0 : step_.blocks;
}

// Opens every op for the next round. Helpers late from an earlier one may look on: they see another round in `next`.
void Executor::run() {
  const auto round = static_cast<uint64_t>(static_cast<uint32_t>(pool_.next_round())) << 32;
  for (size_t i = 0; i < ops_.size(); ++i) {
    Share* shares = &shares_[i * static_cast<size_t>(limits_.threads)];
    const int32_t n = units(i);
    for (int32_t m = 0; m < limits_.threads; ++m) shares[m].next.store(round | INT32_MAX, std::memory_order_release);
    counters_[i].units.store(n, std::memory_order_release);
    counters_[i].done.store(0, std::memory_order_relaxed);
    for (int32_t m = 0; m < limits_.threads; ++m) {
      shares[m].next.store(round | static_cast<uint64_t>(begin_of_share(m, n)), std::memory_order_release);
    }
  }
  work(0, pool_.start());
}

// A number that grows from op to op and round to round.
int32_t Executor::stage(int32_t round, size_t op) const {
  return static_cast<int32_t>(static_cast<uint32_t>(round) * static_cast<uint32_t>(ops_.size()) +
                              static_cast<uint32_t>(op) + 1);
}

int32_t Executor::begin_of_share(int32_t member, int32_t units) const {
  return static_cast<int32_t>(int64_t{units} * member / limits_.threads);
}

// A unit nobody has begun, one's own first; kNone when there is none left, kOver when the round is.
int32_t Executor::claim(size_t op, int32_t units, int32_t member, int32_t round) {
  Share* shares = &shares_[op * static_cast<size_t>(limits_.threads)];
  for (int32_t i = 0; i < limits_.threads; ++i) {
    const int32_t of = (member + i) % limits_.threads;
    const int32_t unit = claim_of(shares[of], begin_of_share(of + 1, units), round);
    if (unit != kNone) return unit;
  }
  return kNone;
}

int32_t Executor::claim_of(Share& share, int32_t end, int32_t round) {
  uint64_t seen = share.next.load(std::memory_order_acquire);
  for (;;) {
    if (seen >> 32 != static_cast<uint32_t>(round)) return kOver;
    const auto unit = static_cast<int32_t>(seen & INT32_MAX);
    if (unit >= end) return kNone;
    if (share.next.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return unit;
  }
}

void Executor::walk(size_t op, TokenBlock block, const Worker& worker) const {
  block.shift = block.first - worker.member * kBlockTokens;
  for (const size_t end = end_of_walk(op); op < end; ++op) ops_[op]->walk(step_, block, worker);
}

void Executor::help(void* self, int member, int32_t round) { static_cast<Executor*>(self)->work(member, round); }

// Until an op is over its threads have nothing to do but to ask for what they will read next, so that memory is not idle.
// Who is late from an earlier round reads counts of another: what he asks for is of no use then, and does no harm.
void Executor::wait(size_t op, int member, int32_t round, Asked* asked) const {
  const int32_t target = stage(round, op);
  if (reached(progress_, target)) return;
  Stretch& left = asked->left;
  if (asked->op <= op) {
    left = {};
    for (asked->op = op + 1; asked->op < ops_.size(); ++asked->op) {
      const int32_t units = counters_[asked->op].units.load(std::memory_order_relaxed);
      if (units) left = ops_[asked->op]->reads(begin_of_share(member, units), units);
      if (left.bytes) break;
    }
    left.bytes = std::min(left.bytes, kMostAsked);
  }
  for (; left.bytes >= 64 && !reached(progress_, target); left.at += 64, left.bytes -= 64) __builtin_prefetch(left.at, 0, 2);
  wait_until(progress_, target);
}

void Executor::work(int member, int32_t round) {
  const Worker& worker = workers_[member];
  Asked asked;
  for (size_t i = 0; i < ops_.size(); ++i) {
    Counter& counter = counters_[i];
    const int32_t units = counter.units.load(std::memory_order_acquire);
    if (units == 0) continue;
    for (int32_t unit; (unit = claim(i, units, member, round)) != kNone;) {
      if (unit == kOver) return;
      if (step_.blocks && ops_[i]->walks()) {
        walk(i, step_.block[unit], worker);
      } else {
        ops_[i]->run(step_, unit, worker);
      }
      if (counter.done.fetch_add(1, std::memory_order_acq_rel) + 1 == units) publish(progress_, stage(round, i));
    }
    wait(i, member, round, &asked);
  }
}

int32_t Executor::step(const Request& request) {
  prepare(request, false);
  step_.logits = logits_.data();
  step_.ldl = round_up(limits_.vocab, 16);
  step_.draws = draws();
  run();
  return draws_ = step_.rows;
}

void Executor::score(const Request& request, float* logits) {
  prepare(request, true);
  step_.logits = logits;
  step_.ldl = limits_.vocab;
  run();
}

void Executor::hidden(const Request& request, float* rows) {
  prepare(request, true);
  step_.hidden = rows;
  run();
}

const float* Executor::logits_of(int32_t draw) const {
  check_range("draw of the last step", draw, 0, draws_ - 1);
  return logits_.data() + static_cast<size_t>(draw) * round_up(limits_.vocab, 16);
}

Draws Executor::draws() const {
  return {token_.data(), logprob_.data(), rank_.data(), top_token_.data(), top_logprob_.data()};
}

void Executor::read_page(int32_t page, int32_t layer, int32_t head, int32_t slot, bool is_value, float* out) const {
  check_range("page", page, 0, limits_.pages - 1);
  check_range("layer", layer, 0, limits_.layers - 1);
  check_range("head", head, 0, limits_.kv_heads - 1);
  check_range("slot", slot, 0, kPage - 1);
  kernels_->page_read(&cache_.layout, cache_.page(page, layer, is_value), head, slot, out, is_value);
}

size_t Executor::reserved_nbytes() const {
  size_t total = cache_.memory.nbytes() + logits_.nbytes() + top_token_.nbytes() + top_logprob_.nbytes();
  total += split_.out.nbytes() + split_.partial.nbytes();
  for (const auto& b : buffers_) total += b->nbytes();
  for (const auto& v : vectors_) total += v.nbytes();
  for (const auto& r : ropes_) total += r->cos.nbytes() + r->sin.nbytes();
  for (const Worker& w : workers_) total += worker_nbytes(w);
  return total;
}

}  // namespace intaglio
