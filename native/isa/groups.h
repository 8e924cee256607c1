// Groups: symmetric codes in groups of columns, first of 4 bits and then of 8, for activations with a scale a group.
// Pieces: codes of 4 bits, packed (rows, ceil(few / 2)) | of 8 bits (rows, cols - few) | scale float16 (rows, groups),
// where `few` columns are whole groups, or all there are. Packed: a header, and tiles of L rows, lane n row n:
//
//   [few / 8][L] of 4 bytes: low nibbles columns 8b..8b+3, high 8b+4..8b+7    | [(cols - few) / 4][L] of 4 bytes, one a
//   column, less 128 - kOffset8                                               | scale [groups][L] float16
//
// each part padded to 64 bytes. Rows are padded to whole pairs of tiles, and columns to whole vectors, with zeros.
#pragma once
#include "source.h"

namespace intaglio {
namespace {

constexpr int64_t kGroupsHeader = 64;  // few int32

struct Groups {
  const uint8_t* tiles;
  int32_t few, group;
  int64_t wide, scales, bytes;  // where the codes of 8 bits and the scales of a tile begin, and its size

  Groups(const void* data, int32_t few_columns, int32_t cols, int32_t group_size)
      : tiles(static_cast<const uint8_t*>(data) + kGroupsHeader),
        few(few_columns),
        group(group_size),
        wide(round_up(div_up(few, 8) * 4 * L, 64)),
        scales(wide + round_up(div_up(cols - few, 4) * 4 * L, 64)),
        bytes(scales + round_up(group_count(cols, group) * 2 * L, 64)) {}
};

inline Groups groups_of(const Matrix* w) {
  int32_t few;
  memcpy(&few, w->data, 4);
  return {w->data, few, w->cols, w->group};
}

inline const uint16_t* group_scales(const Groups& m, int64_t row) {
  return reinterpret_cast<const uint16_t*>(m.tiles + row / L * m.bytes + m.scales) + row % L;
}

// Where the byte of column k of a row is in its tile.
inline int64_t group_place(const Groups& m, int32_t k, int64_t row) {
  if (k < m.few) return (k / 8 * L + row % L) * 4 + k % 4;
  return m.wide + ((k - m.few) / 4 * L + row % L) * 4 + (k - m.few) % 4;
}

inline int32_t group_level(const Groups& m, int32_t k, int64_t row) {
  const uint8_t byte = m.tiles[row / L * m.bytes + group_place(m, k, row)];
  return k < m.few ? (byte >> k % 8 / 4 * 4 & 15) - 8 : int32_t(byte ^ kOffset8) - 128;
}

inline size_t lay_groups(const Pieces* from, void* to) {
  const int32_t cols = from->cols, rows = from->rows, few = cols - int32_t(from->length[1] / rows);
  const Groups m(to, few, cols, from->group);
  if (!to) return size_t(kGroupsHeader + round_up(rows, 2 * L) / L * m.bytes);
  memcpy(to, &few, 4);
  const auto *narrow = static_cast<const uint8_t*>(from->array[0]), *wide = static_cast<const uint8_t*>(from->array[1]);
  const int64_t groups = group_count(cols, m.group), stride = div_up(few, 2);
  for (int64_t r = 0; r < rows; ++r) {
    auto* tile = static_cast<uint8_t*>(to) + kGroupsHeader + r / L * m.bytes;
    for (int32_t k = 0; k < few; ++k)
      tile[group_place(m, k, r)] |= uint8_t((narrow[r * stride + k / 2] >> k % 2 * 4 & 15) << k % 8 / 4 * 4);
    for (int32_t k = few; k < cols; ++k) tile[group_place(m, k, r)] = wide[r * (cols - few) + k - few] ^ kOffset8;
    const auto* scale = static_cast<const uint8_t*>(from->array[2]) + r * groups * 2;
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
