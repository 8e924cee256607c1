// Products of groups of codes with activations that have a scale a group: integers inside a group, one multiply-add of
// floats after each. Blocks of R tiles by T tokens, which with their two sums each fill the registers.
#pragma once
#include "integer.h"

namespace intaglio {
namespace {

constexpr int64_t kMostLaid = 64 << 10;  // bytes of two tiles

// The codes of 6 bits of two tiles, as they are packed or, for many tokens, written out as bytes before.
template <bool Laid>
struct Sixes {
  static constexpr int64_t kBlock = (Laid ? 4 : 3) * kVector;
  const uint8_t* tile;
  int64_t stride;

  // Columns 8h..8h+7 of a block in two vectors.
  static INTAGLIO_INLINE void load(const uint8_t* block, int h, VI (&v)[2]) {
    if constexpr (Laid) {
      v[0] = loadi(block + 2 * h * kVector), v[1] = loadi(block + (2 * h + 1) * kVector);
    } else {
      const VI low = loadi(block + h * kVector), high = loadi(block + 2 * kVector), mask = seti(0x30303030);
      v[0] = addi(low_nibbles(low), andi(h ? high : shl<4>(high), mask));
      v[1] = addi(high_nibbles(low), andi(h ? shr<2>(high) : shl<2>(high), mask));
    }
  }
};

// Adds blocks of 6-bit codes into acc. Where dots are of 16 bits, two of them fit: 4 * 63 * 127.
template <bool Laid, int T, int R>
INTAGLIO_INLINE void dot_sixes(const Streams& s, int64_t blocks, VI (&acc)[R][T]) {
  using From = Sixes<Laid>;
  constexpr bool kNarrow = kDotsPerFlush <= 16;
  Dots d[R][T];
  fill(d, no_dots());
  for (int64_t b = 0; b < blocks; ++b) {
    INTAGLIO_UNROLL
    for (int h = 0; h < 2; ++h) {
      VI v[R][2];
      INTAGLIO_UNROLL
      for (int r = 0; r < R; ++r) {
        const uint8_t* block = s.w + r * s.stride + b * From::kBlock;
        if (T == 1 && h == 0) ask_for(block + ahead_of(R * s.stride), 0, From::kBlock);
        From::load(block, h, v[r]);
      }
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t) {
        INTAGLIO_UNROLL
        for (int i = 0; i < 2; ++i) {
          const VI x = spread4(s.q + t * s.ldq + kSixes * b + 8 * h + 4 * i);
          INTAGLIO_UNROLL
          for (int r = 0; r < R; ++r) d[r][t] = dot(d[r][t], v[r][i], x);
        }
      }
      if constexpr (kNarrow) flush_all(acc, d, plainly), fill(d, no_dots());
    }
  }
  if constexpr (!kNarrow) flush_all(acc, d, plainly);
}

// The integers of group g, which is columns [begin, end).
template <bool Laid, int T, int R>
INTAGLIO_INLINE void dot_group(const Groups& m, const Sixes<Laid>& sixes, const Activations* x, const uint8_t* tile,
                               int64_t token, int32_t g, int32_t begin, int32_t end, VI (&part)[R][T]) {
  fill(part, seti(0));
  const int8_t* q = x->q + token * x->ldq;
  int32_t zero = m.zero(begin);
  if (begin < m.few) {
    dot_run<false>({tile, m.bytes, q, x->ldq}, begin / 8, div_up(end, 8), part, plainly);
  } else if (begin < m.some) {
    const uint8_t* at = sixes.tile + (begin - m.few) / kSixes * Sixes<Laid>::kBlock;
    dot_sixes<Laid>({at, sixes.stride, q + begin, x->ldq}, div_up(end - begin, kSixes), part);
  } else {
    dot_vectors8({tile + m.wide + (begin - m.some) / 4 * kVector, m.bytes, q + begin, x->ldq}, div_up(end - begin, 4), part);
    zero -= kOffset8;
  }
  if (zero == 0) return;
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) {
    const int32_t sum = x->sums[(token + i % T) * x->lds + g];
    part[i / T][i % T] = subi(part[i / T][i % T], seti(zero * sum));
  }
}

template <int T, int R, bool Laid>
void groups_block(const Matrix* w, const Groups& m, const Sixes<Laid>& sixes, const Activations* x, int64_t token,
                  int32_t row, int32_t row1, const Output* out) {
  VF sum[R][T];
  fill(sum, setf(0));
  const uint8_t* tile = m.tiles + row / L * m.bytes;
  for (int32_t g = 0, k = 0; k < w->cols; ++g, k += m.group) {
    VI part[R][T];
    dot_group(m, sixes, x, tile, token, g, k, k + m.group < w->cols ? k + m.group : w->cols, part);
    INTAGLIO_UNROLL
    for (int r = 0; r < R; ++r) {
      const VF scale = load_half(group_scales(m, row + r * L) + g * L);
      INTAGLIO_UNROLL
      for (int t = 0; t < T; ++t)
        sum[r][t] = fma(mulf(scale, setf(x->scale[(token + t) * x->lds + g])), to_float(part[r][t]), sum[r][t]);
    }
  }
  INTAGLIO_UNROLL
  for (int i = 0; i < R * T; ++i) emit(out, token + i % T, row + i / T * L, row1, sum[i / T][i % T]);
}

template <int T, bool Laid>
void groups_tokens(const Matrix* w, const Groups& m, Sixes<Laid> sixes, const Activations* x, int64_t token, int32_t row,
                   int32_t row1, const Output* out) {
  constexpr int R = T <= 2 || (T <= 4 && kTiles == 2) ? 2 : 1;
  for (int r = 0; r < 2; r += R, sixes.tile += R * sixes.stride)
    groups_block<T, R>(w, m, sixes, x, token, row + r * L, row1, out);
}

template <bool Laid>
void groups_pair(const Matrix* w, const Groups& m, const Sixes<Laid>& sixes, const Activations* x, int32_t token0,
                 int32_t token1, int32_t row, int32_t row1, const Output* out) {
  int32_t t = token0;
  for (; t + 4 <= token1; t += 4) groups_tokens<4>(w, m, sixes, x, t, row, row1, out);
  if (token1 - t == 3) groups_tokens<3>(w, m, sixes, x, t, row, row1, out);
  if (token1 - t == 2) groups_tokens<2>(w, m, sixes, x, t, row, row1, out);
  if (token1 - t == 1) groups_tokens<1>(w, m, sixes, x, t, row, row1, out);
}

// Two tiles' codes of 6 bits as bytes, one tile behind the other.
inline Sixes<true> lay_out(const Sixes<false>& packed, int64_t blocks, uint8_t* to) {
  const Sixes<true> laid{to, blocks * Sixes<true>::kBlock};
  for (int r = 0; r < 2; ++r) {
    const uint8_t* from = packed.tile + r * packed.stride;
    for (int64_t i = 0; i < 2 * blocks; ++i, to += 2 * kVector) {
      VI v[2];
      packed.load(from + i / 2 * packed.kBlock, int(i % 2), v);
      storei(to, v[0]), storei(to + kVector, v[1]);
    }
  }
  return laid;
}

inline void groups_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0,
                        int32_t row1, const Output* out) {
  const Groups m = groups_of(w);
  const int64_t blocks = div_up(m.some - m.few, kSixes);
  const bool lays = blocks > 0 && token1 - token0 > 4 && 2 * blocks * Sixes<true>::kBlock <= kMostLaid;
  alignas(64) uint8_t laid[kMostLaid];
  for (int32_t row = row0; row < row1; row += 2 * L) {
    const Sixes<false> packed{m.tiles + row / L * m.bytes + m.sixes, m.bytes};
    if (lays) groups_pair(w, m, lay_out(packed, blocks, laid), x, token0, token1, row, row1, out);
    else groups_pair(w, m, packed, x, token0, token1, row, row1, out);
  }
}

}  // namespace
}  // namespace intaglio
