// Groups: symmetric codes in groups of columns, first of 4 bits, then of 6, then of 8, for activations with a scale a group.
// Pieces: codes of 4 bits, packed (rows, ceil(few / 2)) | of 6, packed (rows, ceil((some - few) * 6 / 8)) | of 8
// (rows, cols - some) | scale float16 (rows, groups), where `few` and `some` columns are whole groups, or all there are.
// Packed: a header, and tiles of L rows, lane n row n:
//
//   [few / 8][L] of 4 bytes: low nibbles columns 8b..8b+3, high 8b+4..8b+7
//   [(some - few) / 16][3][L] of 4 bytes: the lower nibbles of columns 16b..16b+15 in two as above, then of all of them the
//   two bits above, those of column 16b + 4i + j in byte j from bit 2i on
//   [(cols - some) / 4][L] of 4 bytes, one a column, less 128 - kOffset8
//   scale [groups][L] float16
//
// each part padded to 64 bytes. Rows are padded to whole pairs of tiles, and columns to whole vectors, with zeros.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int64_t kGroupsHeader = 64;  // few and some, int32
constexpr int32_t kSixes = 16;         // columns of a block of codes of 6 bits

struct Groups {
  const uint8_t* tiles;
  int32_t few, some, group;
  int64_t sixes, wide, scales, bytes;  // where the codes of 6 and of 8 bits and the scales of a tile begin, and its size

  Groups(const void* data, int32_t few_columns, int32_t some_columns, int32_t cols, int32_t group_size)
      : tiles(static_cast<const uint8_t*>(data) + kGroupsHeader),
        few(few_columns),
        some(some_columns),
        group(group_size),
        sixes(round_up(div_up(few, 8) * 4 * L, 64)),
        wide(sixes + round_up(div_up(some - few, kSixes) * 12 * L, 64)),
        scales(wide + round_up(div_up(cols - some, 4) * 4 * L, 64)),
        bytes(scales + round_up(group_count(cols, group) * 2 * L, 64)) {}

  int32_t zero(int32_t column) const { return column < few ? 8 : column < some ? 32 : 128; }
};

inline Groups groups_of(const Matrix* w) {
  int32_t ends[2];
  memcpy(ends, w->data, 8);
  return {w->data, ends[0], ends[1], w->cols, w->group};
}

inline const uint16_t* group_scales(const Groups& m, int64_t row) {
  return reinterpret_cast<const uint16_t*>(m.tiles + row / L * m.bytes + m.scales) + row % L;
}

// Where the block of codes of 6 bits with column k begins in a tile.
inline int64_t sixes_block(const Groups& m, int32_t k) { return m.sixes + (k - m.few) / kSixes * 12 * L; }

// Where the byte of column k of a row is in its tile; of 6 bits, the one with its nibble.
inline int64_t group_place(const Groups& m, int32_t k, int64_t row) {
  const int64_t lane = row % L * 4 + k % 4;
  if (k < m.few) return k / 8 * 4 * L + lane;
  if (k >= m.some) return m.wide + (k - m.some) / 4 * 4 * L + lane;
  return sixes_block(m, k) + (k - m.few) % kSixes / 8 * 4 * L + lane;
}

// And the one with the bits above the nibble.
inline int64_t sixes_place(const Groups& m, int32_t k, int64_t row) {
  return sixes_block(m, k) + 8 * L + row % L * 4 + k % 4;
}

inline int32_t group_level(const Groups& m, int32_t k, int64_t row) {
  const uint8_t* tile = m.tiles + row / L * m.bytes;
  const uint8_t byte = tile[group_place(m, k, row)];
  if (k >= m.some) return int32_t(byte ^ kOffset8) - 128;
  const int32_t i = k < m.few ? k : k - m.few, low = byte >> i % 8 / 4 * 4 & 15;
  const int32_t high = k < m.few ? 0 : tile[sixes_place(m, k, row)] >> i % kSixes / 4 * 2 & 3;
  return (low | high << 4) - m.zero(k);
}

// Four nibbles as four bytes.
inline uint32_t four_nibbles(uint32_t x) {
  x = (x | x << 8) & 0x00ff00ff;
  return (x | x << 4) & 0x0f0f0f0f;
}

// A row's codes of 4 bits, eight columns at a time, where they belong in its tile.
inline void lay_fours(const Groups& m, const uint8_t* from, int64_t row, uint8_t* tile) {
  uint8_t* to = tile + row % L * 4;
  for (int32_t k = 0; k < m.few; k += 8, from += 4, to += 4 * L) {
    uint32_t codes = 0;
    if (k + 8 <= m.few) memcpy(&codes, from, 4);
    else for (int32_t i = 0; k + i < m.few; ++i) codes |= code_at(from, i, 4) << 4 * i;
    codes = four_nibbles(codes & 0xffff) | four_nibbles(codes >> 16) << 4;
    memcpy(to, &codes, 4);
  }
}

// Columns 8i..8i+7 of a row's packed codes of 6 bits as eight bytes; zeros from column n on. Gaps open between fours of
// codes first, then between pairs, then between neighbours.
inline uint64_t eight_sixes(const uint8_t* row, int64_t i, int64_t n) {
  uint64_t x = 0;
  if (8 * i + 8 > n) {
    for (int64_t k = 8 * i; k < n; ++k) x |= uint64_t(code_at(row, k, 6)) << 8 * (k - 8 * i);
    return x;
  }
  memcpy(&x, row + 6 * i, 6);
  x = (x & 0x0000000000ffffff) | (x & 0x0000ffffff000000) << 8;
  x = (x & 0x00000fff00000fff) | (x & 0x00fff00000fff000) << 4;
  return (x & 0x003f003f003f003f) | (x & 0x0fc00fc00fc00fc0) << 2;
}

// A row's codes of 6 bits, eight columns at a time, where they belong in its tile.
inline void lay_sixes(const Groups& m, const uint8_t* from, int64_t row, uint8_t* tile) {
  const int32_t n = m.some - m.few;
  uint8_t* to = tile + m.sixes + row % L * 4;
  for (int32_t k = 0; k < n; k += kSixes, to += 12 * L) {
    uint32_t packed[3] = {};
    for (int i = 0; i < 2; ++i) {
      const uint64_t eight = eight_sixes(from, k / 8 + i, n);
      const uint64_t low = eight & 0x0f0f0f0f0f0f0f0f, high = eight >> 4 & 0x0303030303030303;
      packed[i] = uint32_t(low | low >> 28);
      packed[2] |= uint32_t(high | high >> 30) << 4 * i;
    }
    for (int i = 0; i < 3; ++i) memcpy(to + i * 4 * L, packed + i, 4);
  }
}

inline size_t lay_groups(const Pieces* from, void* to) {
  const int32_t cols = from->cols, rows = from->rows, some = cols - int32_t(from->length[2] / rows);
  const int64_t stride[2] = {from->length[0] / rows, from->length[1] / rows};  // in bytes
  const int32_t few = stride[1] ? int32_t(2 * stride[0]) : some;
  const Groups m(to, few, some, cols, from->group);
  if (!to) return size_t(kGroupsHeader + round_up(rows, 2 * L) / L * m.bytes);
  memcpy(to, &few, 4), memcpy(static_cast<char*>(to) + 4, &some, 4);
  const uint8_t* codes[3];
  for (int i = 0; i < 3; ++i) codes[i] = static_cast<const uint8_t*>(from->array[i]);
  const int64_t groups = group_count(cols, m.group);
  for (int64_t r = 0; r < rows; ++r) {
    auto* tile = static_cast<uint8_t*>(to) + kGroupsHeader + r / L * m.bytes;
    lay_fours(m, codes[0] + r * stride[0], r, tile);
    lay_sixes(m, codes[1] + r * stride[1], r, tile);
    for (int32_t k = some; k < cols; ++k) tile[group_place(m, k, r)] = codes[2][r * (cols - some) + k - some] ^ kOffset8;
    const auto* scale = static_cast<const uint8_t*>(from->array[3]) + r * groups * 2;
    for (int64_t g = 0; g < groups; ++g) memcpy(tile + m.scales + (g * L + r % L) * 2, scale + g * 2, 2);
  }
  return 0;
}

inline void groups_row(const Matrix* w, int32_t r, float* out) {
  const Groups m = groups_of(w);
  for (int32_t k = 0; k < w->cols; ++k)
    out[k] = half_to_float(group_scales(m, r)[k / m.group * L]) * float(group_level(m, k, r));
}

// The definition: integers inside a group, then both scales.
inline float groups_dot(const Matrix* w, int32_t r, const Activations* x, int64_t token) {
  const Groups m = groups_of(w);
  const int8_t* q = x->q + token * x->ldq;
  float sum = 0;
  for (int32_t g = 0, k = 0; k < w->cols; ++g) {
    int32_t part = 0;
    for (const int32_t end = k + m.group < w->cols ? k + m.group : w->cols; k < end; ++k)
      part += group_level(m, k, r) * q[k];
    sum += half_to_float(group_scales(m, r)[g * L]) * x->scale[token * x->lds + g] * float(part);
  }
  return sum;
}

// A token's n numbers rounded to codes group by group, as `rounded` does one group; zeros up to whole vectors.
template <int32_t rounded(const float* x, int32_t n, int32_t bits, float clip, int8_t* q, float* scale)>
void round_groups(const float* x, int32_t n, const Rounding* r, int8_t* q, float* scale, int32_t* sums) {
  const int32_t groups = int32_t(div_up(n, r->size));
  memset(q, 0, size_t(round_up(n, 64)));
  for (int32_t g = 0, i = 0; g < groups; ++g, i += r->size) {
    const bool kept = g >= groups - r->kept;
    sums[g] = rounded(x + i, i + r->size < n ? r->size : n - i, kept ? r->kept_bits : r->bits,
                      kept ? 1 : r->clip, q + i, scale + g);
  }
}

}  // namespace
}  // namespace intaglio
