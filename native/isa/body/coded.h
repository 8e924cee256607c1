// Products of coded weights with float activations. Lanes are rows. A group of codes has a scale and a zero point: codes are
// multiplied as integers with inputs of 16 bits, and of a group
//
//   y += scale * (sum of code * x - zero * (sum of x))
//
// Codes are unpacked as the bytes of quads of columns. Of one token, for which that is most of the work, the upper and the
// lower bytes of inputs are multiplied, and the two sums joined. Of more, and where codes have 8 bits, which not every set
// multiplies as bytes, the even and the odd columns of a quad, as 16 bits: the same integers.
//
// Tokens are made integers a block at a time, which tiles then meet one after the other. However many tokens share a call, and
// whatever their block, the sums of each are the same, in the same order.
#pragma once
#include "bilevel.h"
#include "output.h"
#include "shorts.h"

namespace intaglio {
namespace {

constexpr int32_t kBlockTokens = 64, kBlockShorts = 1 << 17;  // of a block, at most
constexpr int kOneTokensTiles = 2;  // that are read side by side for one token; a call's rows begin with pairs of tiles
constexpr int kRunTiles = kRun / L;  // that a run of rows has, of bilevel matrices
static_assert(kRunTiles % kOneTokensTiles == 0 || kRunTiles == 1);

template <int Bits>
constexpr int32_t kRunColumns = Bits == 8 ? 256 : 4096;  // whose products fit an integer, two to a lane

// A block of tokens as integers, and their sums over the groups.
struct CodedInputs {
  int64_t stride, groups;
  float scale[kBlockTokens];
  float sum[kBlockShorts / 8];  // [tokens][groups]
  alignas(64) int16_t q[kBlockShorts];  // of each four columns the second and the third exchanged, where its bytes are not taken
  alignas(64) int8_t high[kBlockShorts], low[kBlockShorts];  // 256 high + low: of the last token where their number is odd

  // Strides that are powers of two would put the same columns of all tokens into the same few places of the first cache.
  explicit CodedInputs(const Matrix* w) : stride(round_up(w->cols, 64) + 32), groups(group_count(w->cols, w->group)) {}
  int32_t most() const { return stride * kBlockTokens < kBlockShorts ? kBlockTokens : int32_t(kBlockShorts / stride); }

  void take(const Matrix* w, const Activations* x, int32_t token, int32_t n, bool bytes) {
    for (int32_t t = 0; t < n; ++t) {
      int16_t* to = q + t * stride;
      scale[t] = shorten(x->f + (token + t) * x->ldf, w->cols, kTopShort, stride - 32, to);
      for (int64_t g = 0, left = w->cols; g < groups; ++g, left -= w->group)
        sum[t * groups + g] = float(total_of(to + g * w->group, left < w->group ? left : w->group));
      if (bytes && t == n - 1 && n % 2) split_shorts(to, stride, high, low);
      else exchange(to);
    }
  }
  void exchange(int16_t* to) const {
    for (int64_t i = 0; i < stride; i += 4) {
      uint64_t four;
      memcpy(&four, to + i, 8);
      four = (four & 0xffff00000000ffff) | (four & 0xffff0000) << 16 | (four >> 16 & 0xffff0000);
      memcpy(to + i, &four, 8);
    }
  }
};

// Scale and zero point of a tile's group.
struct Grid {
  VF scale, zero;
};

INTAGLIO_INLINE Grid grid_of(const Tile& tile, int64_t g, bool half_scales) {
  const auto half = [&](const void* table) __attribute__((always_inline)) {
    return load_half(static_cast<const uint16_t*>(table) + g * L);
  };
  return {half_scales ? half(tile.scales) : loadf(tile.scales + g * L), half(tile.zeros)};
}

// What the statistics of R tiles are coded by, as floats: of some groups at a time, since to spread one that lies in memory
// costs nothing, and one that is in a register does.
template <int R>
struct Ranges {
  static constexpr int kRuns = (R + kRunTiles - 1) / kRunTiles;
  alignas(64) float of[kRuns][4 * kRangeGroups];

  INTAGLIO_INLINE void load(const Tile (&tile)[R], int64_t g) {
    INTAGLIO_UNROLL
    for (int run = 0; run < kRuns; ++run) {
      INTAGLIO_UNROLL
      for (int i = 0; i < 4 * kRangeGroups; i += L)
        storef(of[run] + i, load_half(tile[run * kRunTiles].ranges + 4 * g + i));
    }
  }
  INTAGLIO_INLINE Grid grid(int r, int64_t g, const uint8_t* statistics) const {
    const float* at = of[r / kRunTiles] + 4 * (g % kRangeGroups);
    const VI codes = load_u8(statistics);
    return {fma(to_float(andi(codes, seti(15))), setf(at[1]), setf(at[0])),
            fma(to_float(shr<4>(codes)), setf(at[3]), setf(at[2]))};
  }
};

// f(r, grid) for the tiles; groups come one after the other.
template <int32_t Kind, int R, class F>
INTAGLIO_INLINE void each_grid(const Tile (&tile)[R], Ranges<R>& ranges, int64_t g, bool half_scales, const F& f) {
  if (is_bilevel(Kind) && g % kRangeGroups == 0) ranges.load(tile, g);
  INTAGLIO_UNROLL
  for (int r = 0; r < R; ++r) {
    if constexpr (is_bilevel(Kind)) f(r, ranges.grid(r, g, tile[r].zeros + g * L));
    else f(r, grid_of(tile[r], g, half_scales));
  }
}

// Quad J of a unit: a code in each byte of a lane.
template <int Bits, int J>
INTAGLIO_INLINE VI quad_of(const VI (&words)[unit_words(Bits)]) {
  constexpr int kPer = word_quads(Bits), kWord = J / kPer, kShift = Bits * (J % kPer), kMask = int32_t(0x01010101u * ((1u << Bits) - 1));
  if constexpr (Bits == 8) return words[0];
  else if constexpr (kWord == unit_words(Bits))
    return with_bits(andi(shr<6>(words[J - kSpareQuad]), seti(0x03030303)), shr<J - 2>(words[2]), 0x04040404);
  else if constexpr (kShift == 0) return andi(words[kWord], seti(kMask));
  else return andi(shr<kShift>(words[kWord]), seti(kMask));
}

// Codes of R tiles, `stride` apart, and what multiplies them, on the way along the columns.
struct CodedStreams {
  const uint8_t* codes;
  int64_t stride, ahead;
  const int16_t* q;
  int64_t ldq;
  const int8_t *high, *low;
};

// Whether bytes are multiplied: of a token alone, which by_tokens leaves last.
constexpr bool takes_bytes(int bits, int tokens) { return tokens == 1 && bits != 8; }

// Quads [J, End) of R units times one token's bytes.
template <int Bits, int J, int End, int R>
INTAGLIO_INLINE void add_bytes(const VI (&units)[R][unit_words(Bits)], const CodedStreams& s, Dots (&upper)[R][1], Dots (&lower)[R][1]) {
  if constexpr (J < End) {
    const VI high = spread4(s.high + 4 * J), low = spread4(s.low + 4 * J);
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      const VI codes = quad_of<Bits, J>(units[r]);
      upper[r][0] = dot(upper[r][0], codes, high), lower[r][0] = dot(lower[r][0], codes, low);
    }
    add_bytes<Bits, J + 1, End>(units, s, upper, lower);
  }
}

// The same times T tokens' columns.
template <int Bits, int J, int End, int R, int T>
INTAGLIO_INLINE void add_shorts(const VI (&units)[R][unit_words(Bits)], const CodedStreams& s, VI (&sum)[R][T]) {
  if constexpr (J < End) {
    VI even[R], odd[R];
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      const VI codes = quad_of<Bits, J>(units[r]);
      even[r] = andi(codes, seti(0x00ff00ff)), odd[r] = andi(shr<8>(codes), seti(0x00ff00ff));
    }
    INTAGLIO_UNROLL
    for (int t = 0; t < T; ++t) {
      const auto* at = reinterpret_cast<const int8_t*>(s.q + t * s.ldq + 4 * J);
      const VI first = spread4(at), second = spread4(at + 4);
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) sum[r][t] = dot16(dot16(sum[r][t], even[r], first), odd[r], second);
    }
    add_shorts<Bits, J + 1, End>(units, s, sum);
  }
}

// The units that come next.
template <int Bits, bool Ask, int R>
INTAGLIO_INLINE void load_units(const CodedStreams& s, VI (&units)[R][unit_words(Bits)]) {
  constexpr int kWords = unit_words(Bits);
  INTAGLIO_UNROLL
  for (int i = 0; i < R * kWords; ++i) {
    const uint8_t* at = s.codes + i / kWords * s.stride + i % kWords * kVector;
    if (Ask) prefetch_far(at + s.ahead);
    units[i / kWords][i % kWords] = loadi(at);
  }
}

template <int Bits>
INTAGLIO_INLINE void pass_unit(CodedStreams& s) {
  s.codes += unit_words(Bits) * kVector, s.q += unit_columns(Bits), s.high += unit_columns(Bits), s.low += unit_columns(Bits);
}

// What the dots of bytes come to.
template <int R>
INTAGLIO_INLINE void join_bytes(const VI (&upper)[R][1], const VI (&lower)[R][1], VI (&sum)[R][1]) {
  INTAGLIO_UNROLL
  for (int r = 0; r < R; ++r) sum[r][0] = addi(shl<8>(upper[r][0]), lower[r][0]);
}

// The next so many units of every row times one token's bytes.
template <int Bits, int R>
INTAGLIO_INLINE void byte_run(CodedStreams& s, int64_t units, VI (&sum)[R][1]) {
  constexpr int64_t kMost = kDotsPerFlush / unit_quads(Bits);
  VI upper[R][1], lower[R][1];
  fill(upper, seti(0)), fill(lower, seti(0));
  for (; units > 0; units -= kMost) {
    Dots a[R][1], b[R][1];
    fill(a, no_dots()), fill(b, no_dots());
    for (int64_t n = units < kMost ? units : kMost; n; --n, pass_unit<Bits>(s)) {
      VI of[R][unit_words(Bits)];
      load_units<Bits, true>(s, of);
      add_bytes<Bits, 0, unit_quads(Bits)>(of, s, a, b);
    }
    flush_all(upper, a, plainly), flush_all(lower, b, plainly);
  }
  join_bytes(upper, lower, sum);
}

// The same times T tokens.
template <int Bits, int R, int T>
INTAGLIO_INLINE void coded_run(CodedStreams& s, int64_t units, VI (&sum)[R][T]) {
  if constexpr (takes_bytes(Bits, T)) return byte_run<Bits>(s, units, sum);
  fill(sum, seti(0));
  for (; units; --units, pass_unit<Bits>(s)) {
    VI of[R][unit_words(Bits)];
    load_units<Bits, T == 1>(s, of);
    add_shorts<Bits, 0, unit_quads(Bits)>(of, s, sum);
  }
}

// The next columns of every row, a group or what is left of one, times T tokens.
template <int Bits, int R, int T>
INTAGLIO_INLINE void coded_group(CodedStreams& s, int64_t columns, VF (&sum)[R][T]) {
  constexpr int64_t kMost = kRunColumns<Bits> / unit_columns(Bits);
  int64_t units = div_up(columns, unit_columns(Bits));
  VI part[R][T];
  coded_run<Bits>(s, units < kMost ? units : kMost, part);
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) sum[i / T][i % T] = to_float(part[i / T][i % T]);
  while ((units -= kMost) > 0) {
    coded_run<Bits>(s, units < kMost ? units : kMost, part);
    INTAGLIO_UNROLL
    for (int i = 0; i < R * T; ++i) sum[i / T][i % T] = addf(sum[i / T][i % T], to_float(part[i / T][i % T]));
  }
}

// The same of a group that is half a unit of 3 bits.
template <bool Second, int R, int T>
INTAGLIO_INLINE void half_unit(CodedStreams& s, VF (&sum)[R][T]) {
  constexpr int kFirst = Second ? 4 : 0;
  VI units[R][3], part[R][T];
  load_units<3, T == 1 && !Second>(s, units);
  if constexpr (takes_bytes(3, T)) {
    Dots a[R][1], b[R][1];
    VI upper[R][1], lower[R][1];
    fill(a, no_dots()), fill(b, no_dots()), fill(upper, seti(0)), fill(lower, seti(0));
    add_bytes<3, kFirst, kFirst + 4>(units, s, a, b);
    flush_all(upper, a, plainly), flush_all(lower, b, plainly);
    join_bytes(upper, lower, part);
  } else {
    fill(part, seti(0));
    add_shorts<3, kFirst, kFirst + 4>(units, s, part);
  }
  if (Second) pass_unit<3>(s);
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) sum[i / T][i % T] = to_float(part[i / T][i % T]);
}

// R tiles times tokens t.. of the block, which begins with `token`.
template <int32_t Kind, int R, int T>
void coded_tiles(const Matrix* w, const Layout& l, const CodedInputs& x, int32_t t, int32_t token, int32_t row, int32_t row1,
                 const Output* out) {
  constexpr int Bits = unit_bits(Kind);
  Tile tile[R];
  for (int r = 0; r < R; ++r) tile[r] = tile_at(w, l, row + r * L);
  if (T == 1) ask_for_tables<R>(tile[0].codes, l);
  CodedStreams streams{tile[0].codes, l.bytes, ahead_of(R * l.bytes), x.q + t * x.stride, x.stride, x.high, x.low};
  const int64_t groups = x.groups;
  const float* total = x.sum + t * groups;
  Ranges<R> ranges;
  VF y[R][T];
  fill(y, setf(0));
  for (int64_t g = 0, left = w->cols; g < groups; ++g, ++total, left -= w->group) {
    VF sum[R][T];
    if (Bits != 3 || w->group != 16) coded_group<Bits>(streams, left < w->group ? left : w->group, sum);
    else if (g % 2) half_unit<true>(streams, sum);
    else half_unit<false>(streams, sum);
    each_grid<Kind>(tile, ranges, g, groups > 1, [&](int r, const Grid& grid) __attribute__((always_inline)) {
      INTAGLIO_UNROLL
      for (int i = 0; i < T; ++i)
        y[r][i] = fma(grid.scale, fnma(grid.zero, setf(total[i * groups]), sum[r][i]), y[r][i]);
    });
  }
  for (int i = 0; i < R * T; ++i)
    emit(out, token + t + i % T, row + i / T * L, row1, mulf(setf(x.scale[t + i % T]), y[i / T][i % T]));
}

// As it is defined, of a matrix too wide to be multiplied otherwise.
inline void coded_as_defined(const Matrix* w, const float* x, int32_t token, int32_t row, const Output* out) {
  const Tile tile = tile_at(w, layout_of(w), row);
  float sum = 0;
  for (int32_t k = 0; k < w->cols; ++k) sum += coded_weight(w, tile, k, row % L) * x[k];
  emit_one(out, token, row, sum);
}

// The tiles from `row` on, R at a time, times the n tokens of a block -> the row after them.
template <int32_t Kind, int R>
int32_t coded_by_tiles(const Matrix* w, const CodedInputs& x, int32_t n, int32_t token, int32_t row, int32_t row1,
                       const Output* out) {
  const Layout l = layout_of(w);
  for (; row + (R - 1) * L < row1; row += R * L)
    by_tokens(n, [&]<int T>(int32_t t) { coded_tiles<Kind, R, T>(w, l, x, t, token, row, row1, out); });
  return row;
}

template <int32_t Kind>
void coded_rows_of(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                   const Output* out) {
  constexpr int kTogether = is_bilevel(Kind) ? 1 : kCodedTiles;
  CodedInputs inputs(w);
  int32_t n = 0;  // tokens of a block
  for (int32_t token = token0; inputs.most() && token < token1; token += n) {
    n = token1 - token < inputs.most() ? token1 - token : inputs.most();
    inputs.take(w, x, token, n, takes_bytes(unit_bits(Kind), 1));
    int32_t row = row0;
    if (n == 1) row = coded_by_tiles<Kind, kOneTokensTiles>(w, inputs, n, token, row, row1, out);
    else row = coded_by_tiles<Kind, kTogether>(w, inputs, n, token, row, row1, out);
    coded_by_tiles<Kind, 1>(w, inputs, n, token, row, row1, out);
  }
  for (int32_t token = token0; !inputs.most() && token < token1; ++token)
    for (int32_t row = row0; row < row1; ++row) coded_as_defined(w, x->f + token * x->ldf, token, row, out);
}

inline void coded_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                       const Output* out) {
  switch (w->kind) {
    case kW2: return coded_rows_of<kW2>(w, x, token0, token1, row0, row1, out);
    case kW3: return coded_rows_of<kW3>(w, x, token0, token1, row0, row1, out);
    case kW4: return coded_rows_of<kW4>(w, x, token0, token1, row0, row1, out);
    case kW8: return coded_rows_of<kW8>(w, x, token0, token1, row0, row1, out);
    case kBilevel3: return coded_rows_of<kBilevel3>(w, x, token0, token1, row0, row1, out);
    default: return coded_rows_of<kBilevel4>(w, x, token0, token1, row0, row1, out);
  }
}

}  // namespace
}  // namespace intaglio
