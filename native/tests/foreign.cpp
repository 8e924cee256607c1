// Checks instruction sets against the plain loops on random matrices and pages: equal integers, floats within 1e-4.
// Built with SIMDe it runs sets that this processor lacks; built for another processor it runs them for real.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "isa/half.h"
#include "packed.h"

namespace intaglio {

extern const Kernels kScalar;
#ifdef INTAGLIO_FOREIGN_X86
extern const Kernels kAmx, kAvx512Vnni, kAvxVnni;
#endif
#ifdef INTAGLIO_FOREIGN_NEON
extern const Kernels kNeon;
#endif

namespace {

std::mt19937 random_bits(1);
int uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_bits); }
float normal() { return std::normal_distribution<float>()(random_bits); }

int failures = 0;
void check(bool ok, const std::string& what) {
  if (ok) return;
  std::printf("FAILED %s\n", what.c_str());
  ++failures;
}

bool close(const std::vector<float>& a, const std::vector<float>& b, float tolerance = 1e-4f) {
  float most = 0, apart = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::fabs(b[i]));
    apart = std::max(apart, std::fabs(a[i] - b[i]));
  }
  return apart <= tolerance * most;  // false for NaN
}

template <class T>
std::vector<T> filled(size_t n, const std::function<T()>& next) {
  std::vector<T> v(n);
  for (T& x : v) x = next();
  return v;
}

struct Matrices {
  Source source{};
  std::vector<uint8_t> codes, zero, steps;
  std::vector<uint16_t> half_zero;
  std::vector<float> scale;
};

// `extreme`: every code, zero point and group scale at its limit.
Matrices random_matrix(int kind, int rows, int cols, int group, bool extreme) {
  Matrices m;
  const int bits = kind == kW8 || kind == kW8A8 ? 8 : kind == kW2 ? 2 : kind == kW3 ? 3 : 4, groups = (cols + group - 1) / group, top = (1 << bits) - 1;
  const size_t width = kind == kF32 ? 4 * size_t(cols) : kind <= kBF16 ? 2 * size_t(cols) : (size_t(cols) * bits + 7) / 8;
  m.codes = filled<uint8_t>(rows * width, [&] { return uint8_t(extreme ? 255 : uniform(0, 255)); });
  if (kind == kF32)
    for (size_t i = 0; i < m.codes.size(); i += 4) { const float x = normal(); std::memcpy(&m.codes[i], &x, 4); }
  if (kind == kF16 || kind == kBF16)  // exponents near one
    for (size_t i = 1; i < m.codes.size(); i += 2) m.codes[i] = uint8_t((m.codes[i] & 0x83) | 0x3c);
  const bool per_row = kind == kW8A8 || kind == kW4A8 || kind == kW4A8Two;
  m.scale = filled<float>(size_t(rows * (per_row ? 1 : groups)), [] { return half_to_float(float_to_half(0.1f + std::fabs(normal()))); });
  m.zero = filled<uint8_t>(size_t(rows * groups), [&] { return uint8_t(extreme ? 0 : uniform(0, top)); });
  const int most = rows % 2 ? 8 : 16;  // up to 8 every level fits a signed byte, where some sets are quicker
  m.steps = filled<uint8_t>(size_t(rows * groups), [&] { return uint8_t(extreme ? most : uniform(1, most)); });
  m.source = {kind, rows, cols, bits, group, m.codes.data(), m.scale.data(), kind == kW8A8 ? nullptr : m.zero.data(),
              kind == kW4A8Two ? m.steps.data() : nullptr, nullptr};
  if (!has_half_zeros(kind) || rows % 2) return m;
  m.half_zero = filled<uint16_t>(m.zero.size(), [] { return uint16_t(uniform(0x3c00, 0x4700)); });  // 1 to 7
  m.source.zero = nullptr, m.source.half_zero = m.half_zero.data();
  return m;
}

struct TritPlanes {
  Pieces pieces{};
  std::vector<uint8_t> digits;
  std::vector<uint16_t> scale;
};

TritPlanes random_trits(int planes, int rows, int cols, int group) {
  TritPlanes m;
  m.digits = filled<uint8_t>(size_t(planes * rows * ((cols + 4) / 5)), [] { return uint8_t(uniform(0, 242)); });
  m.scale = filled<uint16_t>(size_t(planes * rows * ((cols + group - 1) / group)), [] { return uint16_t(uniform(0x3000, 0x4000)); });
  m.pieces = {kTrits, rows, cols, group, {m.digits.data(), m.scale.data()}, {int64_t(m.digits.size()), int64_t(m.scale.size())}};
  return m;
}

struct Inputs {
  std::vector<float> f, scale;
  std::vector<int8_t> q;
  std::vector<int32_t> sums;
  Activations a{};
};

Inputs random_inputs(int tokens, int cols, int group, bool extreme) {
  Inputs in;
  const int ld = (cols + 63) / 64 * 64, groups = (cols + group - 1) / group;
  in.f.resize(size_t(tokens * ld)), in.q.resize(size_t(tokens * ld)), in.sums.resize(size_t(tokens * groups));
  in.scale = filled<float>(size_t(tokens), [] { return 0.1f + std::fabs(normal()); });
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < cols; ++i) {
      in.f[size_t(t * ld + i)] = normal();
      in.q[size_t(t * ld + i)] = int8_t(extreme ? (t % 2 ? -127 : 127) : uniform(-127, 127));
      in.sums[size_t(t * groups + i / group)] += in.q[size_t(t * ld + i)];
    }
  in.a = {in.f.data(), ld, in.q.data(), ld, in.scale.data(), in.sums.data(), groups, group};
  return in;
}

std::vector<float> run(const Kernels& k, const Source& s, const Inputs& in, int tokens, std::vector<int32_t>* integers) {
  const PackedMatrix w = pack_matrix(&k, {&s, 1}, 1);
  std::vector<float> y(size_t(tokens * s.rows), 1.0f), bias(size_t(s.rows), 0.5f);
  const Output out{y.data(), s.rows, bias.data(), 0.75f, 1};
  k.linear(&w.m, &in.a, 0, tokens, 0, s.rows, &out);
  integers->assign(y.size(), 0);
  if (s.kind >= kW8A8 && s.kind != kW4A8Group) k.accumulate(&w.m, &in.a, 0, tokens, 0, s.rows, integers->data(), s.rows);
  return y;
}

// The next larger group that kernels of this kind run.
int fitting(int kind, int group) {
  while (!fits_groups(kind, INT32_MAX, group)) group += 8;
  return group;
}

void check_matrices(const Kernels& k) {
  for (int trial = 0; trial < 180; ++trial) {
    const int kind = trial % 11, rows = uniform(1, 40), cols = uniform(1, 300), tokens = uniform(1, trial % 2 ? 11 : 40);
    const bool extreme = trial % 5 == 0, one = kind <= kBF16 || kind == kW8A8 || kind == kW4A8;
    const int group = one ? cols : std::min(cols, fitting(kind, 8 * uniform(1, 40)));
    const Matrices m = random_matrix(kind, rows, cols, group, extreme);
    const Inputs in = random_inputs(tokens, cols, group, extreme);
    std::vector<int32_t> expected, found;
    const auto y = run(kScalar, m.source, in, tokens, &expected), z = run(k, m.source, in, tokens, &found);
    const std::string name = std::string(k.name) + " kind " + std::to_string(kind) + " " + std::to_string(rows) + "x" +
                             std::to_string(cols) + " group " + std::to_string(group) + " tokens " + std::to_string(tokens);
    check(expected == found, name + ": integers differ");
    check(close(z, y, has_half_zeros(kind) ? 5e-4f : 1e-4f), name + ": floats differ");  // what integers of 15 bits round comes on top
  }
}

std::vector<float> run(const Kernels& k, const Pieces& p, const Inputs& in, int tokens) {
  const PackedMatrix w = lay_matrix(&k, p);
  std::vector<float> y(size_t(tokens * p.rows), 1.0f), bias(size_t(p.rows), 0.5f);
  const Output out{y.data(), p.rows, bias.data(), 0.75f, 1};
  k.linear(&w.m, &in.a, 0, tokens, 0, p.rows, &out);
  return y;
}

// As the definition has it, up to what making inputs integers of 15 bits rounds: half a step of a token's largest, times
// the weights of a row.
bool near(const Kernels& k, const Pieces& p, const Inputs& in, int tokens) {
  const auto y = run(kScalar, p, in, tokens), z = run(k, p, in, tokens);
  const PackedMatrix w = lay_matrix(&kScalar, p);
  std::vector<float> row(size_t(p.cols)), weights(size_t(p.rows));
  for (int r = 0; r < p.rows; ++r) {
    kScalar.row(&w.m, r, row.data());
    for (const float v : row) weights[size_t(r)] += std::fabs(v);
  }
  float most = 0;
  for (const float v : y) most = std::max(most, std::fabs(v));
  for (size_t i = 0; i < y.size(); ++i) {
    float largest = 0;
    for (int c = 0; c < p.cols; ++c) largest = std::max(largest, std::fabs(in.f[i / size_t(p.rows) * size_t(in.a.ldf) + size_t(c)]));
    const float rounded = largest / 65'000 * weights[i % size_t(p.rows)];
    if (!(std::fabs(y[i] - z[i]) <= 1e-4f * most + rounded)) return false;
  }
  return true;
}

// Codes of every width, in rows that end within a block of strips.
void check_lookups(const Kernels& k) {
  for (int trial = 0; trial < 30; ++trial) {
    const int bits = 2 + trial % 3, rows = uniform(1, 9), cols = uniform(1, 600), tokens = uniform(1, 9);
    const auto codes = filled<uint8_t>(size_t(rows * ((cols * bits + 7) / 8)), [] { return uint8_t(uniform(0, 255)); });
    const auto table = filled<uint16_t>(size_t(rows) << bits, [] { return float_to_half(normal()); });
    const Pieces p{kLookup, rows, cols, bits, {codes.data(), table.data()}, {int64_t(codes.size()), int64_t(table.size())}};
    const Inputs in = random_inputs(tokens, cols, cols, false);
    check(near(k, p, in, tokens),
          std::string(k.name) + " lookup of " + std::to_string(bits) + " bits " + std::to_string(rows) + "x" +
              std::to_string(cols) + " tokens " + std::to_string(tokens));
  }
}

// Kept blocks of codes and of float16, some rows without any.
void check_blocks(const Kernels& k) {
  for (int trial = 0; trial < 40; ++trial) {
    const int kind = trial % 2 ? kBsr4 : kBsr16, group = 16 << trial % 3, rows = uniform(1, 40), cols = uniform(1, 300);
    std::vector<uint32_t> offset = {0};
    std::vector<uint16_t> index;
    for (int r = 0; r < rows; ++r) {
      for (int g = 0; g < (cols + group - 1) / group; ++g)
        if (r % 5 && uniform(0, 1)) index.push_back(uint16_t(g));
      offset.push_back(uint32_t(index.size()));
    }
    const size_t blocks = index.size(), weights = blocks * size_t(group);
    const auto halves = filled<uint16_t>(weights + 1, [] { return uint16_t(0x3400 + uniform(0, 0x7ff) + (uniform(0, 1) << 15)); });
    const auto codes = filled<uint8_t>(weights / 2 + 1, [] { return uint8_t(uniform(0, 255)); });
    const auto scale = filled<uint16_t>(blocks + 1, [] { return uint16_t(0x3400 + uniform(0, 0x7ff)); });
    const auto zero = filled<uint8_t>(blocks + 1, [] { return uint8_t(uniform(0, 15)); });
    Pieces p{kind, rows, cols, group, {offset.data(), index.data(), halves.data()}, {rows + 1, int64_t(blocks), int64_t(weights)}};
    if (kind == kBsr4)
      p.array[2] = codes.data(), p.array[3] = scale.data(), p.array[4] = zero.data(), p.length[2] = int64_t(weights / 2),
      p.length[3] = p.length[4] = int64_t(blocks);
    const int tokens = uniform(1, 20);
    const Inputs in = random_inputs(tokens, cols, cols, false);
    check(near(k, p, in, tokens),
          std::string(k.name) + " kind " + std::to_string(kind) + " blocks of " + std::to_string(group));
  }
}

// Of every m columns n of random places, in rising order.
std::vector<uint8_t> random_places(int blocks, int n, int m) {
  std::vector<uint8_t> places, all(static_cast<size_t>(m));
  std::iota(all.begin(), all.end(), uint8_t(0));
  for (int b = 0; b < blocks; ++b) std::sample(all.begin(), all.end(), std::back_inserter(places), n, random_bits);
  return places;
}

void check_nm(const Kernels& k) {
  for (int trial = 0; trial < 60; ++trial) {
    const int m = 4 << trial % 3, n = uniform(1, m), rows = uniform(1, 70), cols = uniform(1, 150), tokens = uniform(1, 9);
    const int kind = trial % 2 ? kNm : kNm8, blocks = (cols + m - 1) / m * rows;
    const auto places = random_places(blocks, n, m);
    const auto values = filled<uint16_t>(places.size(), [] { return float_to_half(normal()); });
    const auto codes = filled<int8_t>(places.size(), [] { return int8_t(uniform(-127, 127)); });
    const auto scale = filled<float>(size_t(rows), [] { return 0.1f + std::fabs(normal()); });
    const void* value = kind == kNm ? static_cast<const void*>(values.data()) : codes.data();
    const int64_t kept = int64_t(places.size());
    const Pieces p{kind, rows, cols, n << 8 | m, {places.data(), value, scale.data()}, {kept, kept, rows}};
    const Inputs in = random_inputs(tokens, cols, cols, false);
    check(close(run(k, p, in, tokens), run(kScalar, p, in, tokens)),
          std::string(k.name) + " " + std::to_string(n) + ":" + std::to_string(m) + " of " + std::to_string(rows) + "x" +
              std::to_string(cols) + " tokens " + std::to_string(tokens));
  }
}

void check_bilevel(const Kernels& k) {
  for (int trial = 0; trial < 24; ++trial) {
    const int kind = trial % 4 < 2 ? kBilevel3 : kBilevel4, top = kind == kBilevel3 ? 7 : 15;
    const int rows = uniform(1, 40), cols = uniform(1, 300), tokens = uniform(1, trial % 2 ? 3 : 40);
    const int group = fitting(kind, 8 * uniform(1, 5));
    const int groups = (cols + group - 1) / group, runs = (rows + 15) / 16;
    const auto codes = filled<uint8_t>(size_t(rows * cols), [&] { return uint8_t(uniform(0, top)); });
    const auto statistics = filled<uint8_t>(size_t(rows * groups), [] { return uint8_t(uniform(0, 255)); });
    const auto ranges = filled<uint16_t>(size_t(runs * groups * 4), [] { return float_to_half(0.1f + std::fabs(normal())); });
    const Pieces pieces{kind, rows, cols, group, {codes.data(), statistics.data(), ranges.data()},
                        {int64_t(codes.size()), int64_t(statistics.size()), int64_t(ranges.size())}};
    const Inputs in = random_inputs(tokens, cols, group, false);
    check(near(k, pieces, in, tokens),
          std::string(k.name) + " bilevel " + std::to_string(rows) + "x" + std::to_string(cols));
  }
}

void check_bitmask(const Kernels& k) {
  for (int trial = 0; trial < 24; ++trial) {
    const int rows = uniform(1, 40), cols = uniform(1, 300), bytes = (cols + 7) / 8, tokens = uniform(1, trial % 2 ? 3 : 40);
    std::vector<uint8_t> mask(size_t(rows * bytes));
    int64_t count = 0;
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < cols; ++c) {
        const bool set = uniform(0, 3) > trial % 4;
        mask[size_t(r * bytes + c / 8)] |= uint8_t(set << c % 8), count += set;
      }
    const auto values = filled<uint16_t>(size_t(count), [] { return float_to_half(normal()); });
    const Pieces pieces{kBitmask, rows, cols, 0, {mask.data(), values.data()}, {int64_t(mask.size()), count}};
    const Inputs in = random_inputs(tokens, cols, cols, false);
    check(near(k, pieces, in, tokens),
          std::string(k.name) + " bitmask " + std::to_string(rows) + "x" + std::to_string(cols));
  }
}

void check_trits(const Kernels& k) {
  for (int trial = 0; trial < 30; ++trial) {
    const int rows = uniform(1, trial % 2 ? 300 : 40), cols = uniform(1, 100), group = uniform(1, 120), tokens = uniform(1, trial % 3 ? 12 : 1);
    const TritPlanes m = random_trits(uniform(1, 3), rows, cols, group);
    const Inputs in = random_inputs(tokens, cols, cols, false);
    check(near(k, m.pieces, in, tokens),
          std::string(k.name) + " trits " + std::to_string(rows) + "x" + std::to_string(cols) + " group " +
              std::to_string(group) + " tokens " + std::to_string(tokens));
  }
}

// Exponents near one.
uint16_t half() { return uint16_t(uniform(0, 0xffff) & 0x83ff) | 0x3c00; }

void check_structures(const Kernels& k) {
  for (int trial = 0; trial < 40; ++trial) {
    const int rows = uniform(1, 70), cols = uniform(1, 200), count = uniform(1, 40), tokens = uniform(1, 11);
    const Inputs in = random_inputs(tokens, cols, cols, false);
    const auto index = filled<uint16_t>(size_t(rows * count), [&] { return uint16_t(uniform(0, cols - 1)); });
    const auto value = filled<uint16_t>(index.size(), half);
    const Pieces even{kEvenRows, rows, cols, count, {index.data(), value.data()}, {rows * count, rows * count}};
    check(close(run(k, even, in, tokens), run(kScalar, even, in, tokens)), std::string(k.name) + " rows of equally many");
    const int width = uniform(1, cols), blocks = (cols + width - 1) / width;
    const auto diagonal = filled<uint16_t>(size_t(rows * cols), half);
    const Pieces block{kBlockDiagonal, rows * blocks, cols, width, {diagonal.data()}, {rows * cols}};
    check(close(run(k, block, in, tokens), run(kScalar, block, in, tokens)), std::string(k.name) + " blocks of the diagonal");
  }
}

// Both ways of rounding activations, and weights of 4 bits, of 6, of 8, and of two of them.
void check_groups(const Kernels& k) {
  for (int trial = 0; trial < 40; ++trial) {
    const bool mixed = uniform(0, 1);  // codes of 6 bits need groups of 16 columns
    const int rows = uniform(1, 40), group = mixed ? 16 * uniform(1, 10) : 8 * uniform(1, 20);
    const int groups = uniform(1, 4), tokens = uniform(1, 11);
    const int cols = group * (groups - 1) + uniform(1, group);
    const int few = std::min(cols, group * uniform(0, groups));
    const int some = mixed ? std::max(few, std::min(cols, group * uniform(0, groups))) : few;
    const auto byte = [] { return uint8_t(uniform(0, 255)); };
    const auto fours = filled<uint8_t>(size_t(rows * ((few + 1) / 2)), byte);
    const auto sixes = filled<uint8_t>(size_t(rows * (((some - few) * 6 + 7) / 8)), byte);
    const auto wide = filled<uint8_t>(size_t(rows * (cols - some)), byte);
    const auto scale = filled<uint16_t>(size_t(rows * groups), [] { return uint16_t(uniform(0x2c00, 0x3c00)); });
    const Pieces pieces{kGroups, rows, cols, std::min(group, cols), {fours.data(), sixes.data(), wide.data(), scale.data()},
                        {int64_t(fours.size()), int64_t(sixes.size()), int64_t(wide.size()), int64_t(scale.size())}};
    const Rounding r{pieces.group, trial % 2 ? 4 : 8, trial % 3, 8, trial % 2 ? 0.9f : 1.0f};
    const size_t ld = size_t((cols + 63) / 64 * 64);
    const auto x = filled<float>(size_t(tokens * cols), normal);
    std::vector<float> y[2];
    std::vector<int8_t> q[2];
    for (const int i : {0, 1}) {
      const Kernels& one = i ? k : kScalar;
      std::vector<float> s(size_t(tokens * groups));
      std::vector<int32_t> sums(s.size());
      q[i].assign(size_t(tokens) * ld, 1);
      for (int t = 0; t < tokens; ++t)
        one.quantize_groups(&x[size_t(t * cols)], cols, &r, &q[i][size_t(t) * ld], &s[size_t(t * groups)], &sums[size_t(t * groups)]);
      const Activations a{nullptr, 0, q[i].data(), int64_t(ld), s.data(), sums.data(), groups, pieces.group};
      y[i].assign(size_t(tokens * rows), 1.0f);
      const Output out{y[i].data(), rows, nullptr, 0.75f, 1};
      const PackedMatrix w = lay_matrix(&one, pieces);
      one.linear(&w.m, &a, 0, tokens, 0, rows, &out);
    }
    const std::string name = std::string(k.name) + " groups " + std::to_string(rows) + "x" + std::to_string(cols);
    check(q[0] == q[1], name + ": codes differ");
    check(close(y[1], y[0]), name + ": floats differ");
  }
}

void check_vectors(const Kernels& k) {
  for (const int n : {1, 7, 64, 65, 100}) {
    const auto x = filled<float>(size_t(n), normal), u = filled<float>(size_t(n), normal);
    std::vector<float> a(x.size()), b(x.size());
    std::vector<int8_t> p(128), q(128);
    std::vector<int32_t> s(x.size()), t(x.size());
    float sp = 0, sq = 0;
    k.quantize(x.data(), n, 8, p.data(), &sp, s.data());
    kScalar.quantize(x.data(), n, 8, q.data(), &sq, t.data());
    check(sp == sq && p == q && s == t, std::string(k.name) + " quantize " + std::to_string(n));
    for (int activation = 0; activation < 3; ++activation) {
      k.gate(x.data(), u.data(), n, activation, a.data()), kScalar.gate(x.data(), u.data(), n, activation, b.data());
      check(close(a, b), std::string(k.name) + " gate " + std::to_string(n));
    }
    k.rms_norm(x.data(), u.data(), n, 1e-5f, a.data()), kScalar.rms_norm(x.data(), u.data(), n, 1e-5f, b.data());
    check(close(a, b), std::string(k.name) + " rms_norm " + std::to_string(n));
    a = b = x;
    k.softcap(a.data(), n, 2), kScalar.softcap(b.data(), n, 2);
    k.rope(a.data(), u.data(), u.data(), n / 2 * 2), kScalar.rope(b.data(), u.data(), u.data(), n / 2 * 2);
    k.axpy(0.5f, u.data(), n, a.data()), kScalar.axpy(0.5f, u.data(), n, b.data());
    check(close(a, b), std::string(k.name) + " softcap, rope, axpy " + std::to_string(n));
  }
}

std::vector<float> attended(const Kernels& k, const PageLayout& l, const std::vector<float>& keys,
                            const std::vector<float>& q, int tokens, int queries, int rep) {
  const auto pages = aligned_bytes(4 * k.page_bytes(&l)), scratch = aligned_bytes(k.attend_scratch(&l, queries, rep));
  auto* at = static_cast<char*>(pages.get());
  void* k_pages[] = {at, at + k.page_bytes(&l)};
  void* v_pages[] = {at + 2 * k.page_bytes(&l), at + 3 * k.page_bytes(&l)};
  for (int t = 0; t < tokens; ++t) {
    k.page_write(&l, k_pages[t / kPage], 0, t % kPage, keys.data() + t * l.head_dim, 0);
    k.page_write(&l, v_pages[t / kPage], 0, t % kPage, keys.data() + (tokens - 1 - t) * l.head_dim, 1);
  }
  std::vector<float> out(q.size());
  const int64_t ld = rep * l.head_dim;
  const Attend a{&l, 0, rep, queries, tokens - queries, 50, 0.2f, 5, q.data(), ld, k_pages, v_pages, 3, tokens, out.data(),
                 ld, nullptr, scratch.get()};
  k.attend(&a);
  return out;
}

void check_attention(const Kernels& k) {
  for (const int bits : {32, 16, 8, 4})
    for (const int dim : {5, 64, 72}) {
      const PageLayout l{1, dim, bits};
      const int tokens = uniform(10, 2 * kPage), queries = uniform(1, 9), rep = uniform(1, 5);
      const auto keys = filled<float>(size_t(tokens * dim), normal), q = filled<float>(size_t(queries * rep * dim), normal);
      check(close(attended(k, l, keys, q, tokens, queries, rep), attended(kScalar, l, keys, q, tokens, queries, rep)),
            std::string(k.name) + " attention, bits " + std::to_string(bits) + " dim " + std::to_string(dim));
    }
}

void check_all(const Kernels& k) {
  check_matrices(k);
  check_blocks(k);
  check_nm(k);
  check_lookups(k);
  check_bilevel(k);
  check_bitmask(k);
  check_trits(k);
  check_structures(k);
  check_groups(k);
  check_vectors(k);
  check_attention(k);
  std::printf("%s checked\n", k.name);
}

}  // namespace
}  // namespace intaglio

int main() {
  using namespace intaglio;
#ifdef INTAGLIO_FOREIGN_X86
  check_all(kAmx);
  check_all(kAvx512Vnni);
  check_all(kAvxVnni);
#endif
#ifdef INTAGLIO_FOREIGN_NEON
  check_all(kNeon);
#endif
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
