// Products of many tokens, for sets that have squares. Bytes of codes lie in a tile as a square wants its second factor,
// 64 columns of 16 rows in 1024 bytes, and activations are its first as they are. The sums of a block of 32 tokens and a
// pair of tiles stay in four squares while the columns stream by, 64 at a time. Loops: pairs of tiles, tokens, columns.
//
// Squares multiply on their own; vectors meanwhile finish tokens of the block before, and write the next pair's bytes in
// place of those just read for the last time, so that both stay in the first cache. Their work is dealt out between
// single products: a processor looks only so far ahead. The last block ends with the last token, and multiplies some
// tokens again rather than fewer.
#pragma once
#include "../squares.h"
#include "integer.h"

namespace intaglio {
namespace {

constexpr int64_t kSquare = kSide * kSquareRow;  // bytes
constexpr int64_t kMostBytes = 1 << 19;  // of a pair's codes, on the stack of whoever multiplies; within the second cache
constexpr int32_t kFewestOfBytes = 4, kFewest = 6, kMostTotals = 1024;  // tokens: fewer are quicker by vectors
constexpr int32_t kMostColumns = 1 << 15;  // whose sum of activations `split_sum` holds

// Sums of activations times offsets, by products of 16 bits: a sum is low + 128 * high, an offset of 255 times 128 fits too.
inline int32_t split_sum(int32_t n) { return int32_t(uint32_t(n >> 7) << 16 | uint32_t(n & 127)); }
inline VI split_negative(VI n) { return subi(andi(subi(seti(0), n), seti(0xffff)), shl<16>(shl<7>(n))); }

// Two tiles, whose rows begin at `row`: a row's offset times the sum of activations is what its bytes are too much.
struct Pair {
  int32_t row;
  Tile tile[2];
  int32_t offset[2 * L], taken[2 * L];  // as it is, and negative in two parts
};

// The sums of a block of tokens, handed out token by token.
struct Sheet {
  alignas(64) int32_t sums[2][2 * kSide][L];  // of each tile
  const Pair* pair;
  int32_t first;       // token of the first sums
  int32_t token, end;  // those left
};

struct Many {
  const Job& job;
  Layout layout;
  int32_t token0, tokens, height;  // of a square of tokens
  int32_t squares;                 // of columns
  uint8_t* bytes;                  // of a pair, square of columns by square of columns; null: codes are bytes
  int32_t totals[kMostTotals];     // of tokens' activations, in two parts
};

// The end of the products of tokens [token, end) and two whole tiles.
template <bool Bias, bool Add>
INTAGLIO_INLINE void emit_whole(const Many& m, const Sheet& s, int32_t end) {
  const Pair& p = *s.pair;
  const Output out = *m.job.out;
  const VI taken[2] = {loadi(p.taken), loadi(p.taken + L)};
  const VF alpha = setf(out.alpha), scale[2] = {loadf(p.tile[0].scales), loadf(p.tile[1].scales)};
  VF bias[2];
  if (Bias) bias[0] = loadf(out.bias + p.row), bias[1] = loadf(out.bias + p.row + L);
  const int32_t *sums = s.sums[0][s.token - s.first], *total = m.totals + s.token, n = end - s.token;
  const float* token_scale = m.job.x->scale + m.token0 + s.token;
  float* y = out.y + (m.token0 + s.token) * out.ldy + p.row;
  for (int32_t t = 0; t < n; ++t, sums += L, y += out.ldy) {
    INTAGLIO_UNROLL
    for (int r = 0; r < 2; ++r) {
      const VI sum = dot16(loadi(sums + r * 2 * kSide * L), taken[r], seti(total[t]));
      VF v = mulf(to_float(sum), mulf(scale[r], setf(token_scale[t])));
      if (Bias) v = addf(v, bias[r]);
      v = mulf(v, alpha);
      storef(y + r * L, Add ? addf(loadf(y + r * L), v) : v);
    }
  }
}

inline void emit_any(const Many& m, const Sheet& s, int32_t end) {
  for (int32_t t = s.token; t < end; ++t)
    for (int r = 0; r < 2; ++r) {
      const VI sum = dot16(loadi(s.sums[r][t - s.first]), loadi(s.pair->taken + r * L), seti(m.totals[t]));
      emit_sums(m.job, s.pair->tile[r].scales, s.pair->row + r * L, m.token0 + t, sum);
    }
}

inline void finish_tokens(const Many& m, Sheet& s, int32_t count) {
  const int32_t end = s.token + count < s.end ? s.token + count : s.end;
  if (s.token == end) return;
  const Output* out = m.job.out;
  if (!out || s.pair->row + 2 * L > m.job.row1) emit_any(m, s, end);
  else if (out->bias) out->accumulate ? emit_whole<true, true>(m, s, end) : emit_whole<true, false>(m, s, end);
  else out->accumulate ? emit_whole<false, true>(m, s, end) : emit_whole<false, false>(m, s, end);
  s.token = end;
}

// Square k of tile r.
inline void expand_square(const Many& m, const Pair& pair, int32_t k, int r) {
  const int32_t all = int32_t(code_vectors(m.job.w->kind, m.job.w->cols)), end = 8 * k + 8 < all ? 8 * k + 8 : all;
  const uint8_t* later = pair.tile[r].codes + 2 * m.layout.bytes + 8 * k * kVector;  // of the pair after
  INTAGLIO_UNROLL
  for (int i = 0; i < 8; ++i) prefetch_far(later + i * kVector);
  expand(m.job.w, pair.tile[r], pair.offset + r * L, 8 * k, end, m.bytes + (2 * k + r) * kSquare);
}

inline bool find_offsets(const Many& m, Pair* pair) {
  for (int r = 0; r < 2; ++r) {
    int32_t* offset = pair->offset + r * L;
    pair->tile[r] = tile_at(m.job.w, m.layout, pair->row + r * L);
    for (int64_t i = m.layout.zeros; i < m.layout.bytes; i += 64) prefetch_far(pair->tile[r].codes + 2 * m.layout.bytes + i);
    if (!m.bytes) storei(offset, seti(128));
    else if (!find_offset(m.job.w, pair->tile[r], offset)) return false;
    storei(pair->taken + r * L, split_negative(loadi(offset)));
  }
  return true;
}

// The next pair that fits bytes, from `row` on; vectors multiply those before it. Its row is row1 when there is none.
inline void find_pair(const Many& m, int32_t row, Pair* pair) {
  for (pair->row = row; pair->row < m.job.row1; pair->row += 2 * L) {
    if (find_offsets(m, pair)) return;
    pair_of_tiles(m.job, m.layout, m.token0, m.token0 + m.tokens, pair->row);
  }
}

// The products of a block, two squares of tokens or one, whose tokens begin at `first` and `second`; meanwhile what is
// left of the block `before`, and the bytes of `next`.
template <int S>
void multiply_block(const Many& m, const Pair& pair, int32_t second, const Pair* next, Sheet& s, Sheet& before) {
  const int64_t ldq = m.job.x->ldq, apart = m.bytes ? kSquare : m.layout.bytes, step = m.bytes ? 2 * kSquare : kSquare;
  const int8_t *q = m.job.x->q + (m.token0 + s.first) * ldq, *later = m.job.x->q + (m.token0 + second) * ldq;
  const uint8_t* codes = m.bytes ? m.bytes : pair.tile[0].codes;
  clear_square<0>(), clear_square<1>();
  if constexpr (S == 2) clear_square<2>(), clear_square<3>();
  for (int32_t k = 0; k < m.squares; ++k, codes += step, q += kSquareRow, later += kSquareRow) {
    load_square<4>(q, ldq), load_square<6>(codes, kSquareRow);
    multiply_squares<0, 4, 6>();
    finish_tokens(m, before, 8);
    load_square<7>(codes + apart, kSquareRow);
    multiply_squares<1, 4, 7>();
    if (next) expand_square(m, *next, k, 0);
    if constexpr (S == 2) load_square<5>(later, ldq), multiply_squares<2, 5, 6>();
    if constexpr (S == 2) multiply_squares<3, 5, 7>();
    if (next) expand_square(m, *next, k, 1);
  }
  store_square<0>(s.sums[0][0]), store_square<1>(s.sums[1][0]);
  if constexpr (S == 2) store_square<2>(s.sums[0][second - s.first]), store_square<3>(s.sums[1][second - s.first]);
}

inline void square_rows(const Job& job, int32_t token0, int32_t tokens, int32_t row0) {
  alignas(64) uint8_t bytes[kMostBytes];
  Many m{job, layout_of(job.w), token0, tokens, tokens < kSide ? tokens : kSide, int32_t(div_up(job.w->cols, kSquareRow)),
         job.w->kind == kW8A8 ? nullptr : bytes, {}};
  for (int32_t t = 0; t < tokens; ++t) m.totals[t] = split_sum(job.sums.total(token0 + t));
  Pair pairs[3];  // the last block's, the one at hand, the next
  Sheet sheets[2];
  int n = 0, b = 0;
  sheets[1].token = sheets[1].end = 0;
  open_squares(m.height);
  find_pair(m, row0, &pairs[0]);
  for (int32_t k = 0; k < m.squares && m.bytes && pairs[0].row < job.row1; ++k)
    expand_square(m, pairs[0], k, 0), expand_square(m, pairs[0], k, 1);
  const int32_t last = m.tokens - m.height;  // where the last square begins
  while (pairs[n].row < job.row1) {
    const Pair& pair = pairs[n];
    n = (n + 1) % 3;
    find_pair(m, pair.row + 2 * L, &pairs[n]);
    for (int32_t t = 0; t < m.tokens; t += 2 * m.height, b ^= 1) {
      Sheet &s = sheets[b], &before = sheets[b ^ 1];
      const int32_t end = t + 2 * m.height < m.tokens ? t + 2 * m.height : m.tokens;
      s.pair = &pair, s.first = t < last ? t : last, s.token = t, s.end = end;
      const int32_t second = t + m.height < last ? t + m.height : last;
      const Pair* next = m.bytes && end == m.tokens && pairs[n].row < job.row1 ? &pairs[n] : nullptr;
      if (second == s.first) multiply_block<1>(m, pair, second, next, s, before);
      else multiply_block<2>(m, pair, second, next, s, before);
      finish_tokens(m, before, m.tokens);
    }
  }
  finish_tokens(m, sheets[b ^ 1], m.tokens);
  close_squares();
}

// How many of the tokens squares have multiplied.
inline int32_t multiply_by_squares(const Job& job, int32_t token0, int32_t token1, int32_t row0) {
  const bool bytes = job.w->kind == kW8A8;
  const int64_t columns = round_up(job.w->cols, kSquareRow);
  if (job.w->kind == kW4A8Group || (bytes ? columns > kMostColumns : columns * 2 * L > kMostBytes)) return 0;
  int32_t t = token0;
  while (token1 - t >= (bytes ? kFewestOfBytes : kFewest)) {
    const int32_t tokens = token1 - t < kMostTotals ? token1 - t : kMostTotals;
    square_rows(job, t, tokens, row0);
    t += tokens;
  }
  return t - token0;
}

}  // namespace
}  // namespace intaglio
