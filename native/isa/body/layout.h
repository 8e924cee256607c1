// How a matrix lies in memory for lanes that are outputs. A tile is L rows, contiguous:
//
//   codes | zeros | group scales | row or group scales (float32)          each part padded to 64 bytes
//
// codes of a tile, one vector after another along the columns, lane n belonging to row n:
//   kF32                [cols][L] float32                 kF16, kBF16   [cols][L] 16 bits
//   kW2..kW8, kBilevel* [words][L] of 32 bits: units.h
//   kW8A8               [cols/4][L] of 32 bits: byte j is column 4b + j, less 128 - kOffset8 added back through the
//                       activations' sums
//   kW4A8*              [cols/8][L] of 4 bytes: low nibbles columns 8b..8b+3, high nibbles 8b+4..8b+7
// zeros:        kW2..kW8 [groups][L] float16 | kW4A8Two [groups/2][L][2] u8 (group_scale * zero) | others [groups][L] u8
// group scales: kW4A8Two [groups][L] u8
// scales:       [scales][L] float32, float16 where has_half_scales
// Rows are padded to whole pairs of tiles and columns to whole vectors with zero codes and scales.
#pragma once
#include "units.h"

namespace intaglio {
namespace {

// Made of tiles: the grids, and of the structures kBilevel3 and kBilevel4 (body/bilevel.h).
constexpr bool is_tiled(int32_t kind) { return !is_structure(kind) || is_bilevel(kind); }

#ifdef INTAGLIO_SQUARES
constexpr int64_t kWholeCodes = 16 * 64;  // of kW8A8, whose codes squares read where they lie
#else
constexpr int64_t kWholeCodes = 64;
#endif

struct Layout {
  int64_t zeros, group_scales, scales, bytes;  // offsets in a tile, and its size
};

inline int64_t code_vectors(int32_t kind, int32_t cols) {
  if (is_plain(kind)) return cols;
  if (has_units(kind)) return div_up(cols, unit_columns(unit_bits(kind))) * unit_words(unit_bits(kind));
  return div_up(cols, kind == kW8A8 ? 4 : 8);
}

inline int64_t scale_bytes(int32_t kind, int32_t cols, int32_t group) { return has_half_scales(kind, cols, group) ? 2 : 4; }

inline Layout layout_of(int32_t kind, int32_t cols, int32_t group) {
  const int64_t lane = kind == kF16 || kind == kBF16 ? 2 : 4, groups = is_plain(kind) ? 0 : group_count(cols, group);
  Layout l;
  l.zeros = round_up(code_vectors(kind, cols) * lane * L, kind == kW8A8 ? kWholeCodes : 64);
  l.group_scales = l.zeros + round_up(kind == kW8A8 ? 0 : round_up(groups, 2) * L * (has_half_zeros(kind) ? 2 : 1), 64);
  l.scales = l.group_scales + (kind == kW4A8Two ? round_up(groups * L, 64) : 0);
  l.bytes = l.scales + (is_plain(kind) || is_bilevel(kind) ? 0 : round_up(scale_count(kind, cols, group) * scale_bytes(kind, cols, group) * L, 64));
  return l;
}

inline Layout layout_of(const Matrix* w) { return layout_of(w->kind, w->cols, w->group); }

inline size_t matrix_bytes(int32_t kind, int32_t rows, int32_t cols, int32_t group) {
  return size_t(round_up(rows, 2 * L) / L * layout_of(kind, cols, group).bytes);
}

// Where the ranges of a row's run begin, of bilevel matrices.
inline int64_t ranges_at(const Matrix* w, const Layout& l, int64_t row) {
  return round_up(w->rows, 2 * L) / L * l.bytes + div_up(row, kRun) * group_count(w->cols, w->group) * 8;
}

struct Tile {
  const uint8_t *codes, *zeros, *group_scales;
  const float* scales;
  const uint16_t* ranges;
};

inline Tile tile_at(const Matrix* w, const Layout& l, int64_t row) {
  const auto* data = static_cast<const uint8_t*>(w->data);
  const uint8_t* at = data + row / L * l.bytes;
  const uint8_t* ranges = is_bilevel(w->kind) ? data + ranges_at(w, l, row / kRun * kRun) : nullptr;
  return {at, at + l.zeros, at + l.group_scales, reinterpret_cast<const float*>(at + l.scales),
          reinterpret_cast<const uint16_t*>(ranges)};
}

// Where code k of lane n is, of kW8A8.
inline int64_t byte_place(int64_t k, int32_t n) { return (k / 4 * L + n) * 4 + k % 4; }

// Code k of lane n, of kW8A8 as it lies there.
inline uint32_t code_of(int32_t kind, const uint8_t* codes, int64_t k, int32_t n) {
  if (has_units(kind)) return unit_code(unit_bits(kind), codes, k, n);
  if (kind == kW8A8) return codes[byte_place(k, n)];
  return uint32_t(codes[(k / 8 * L + n) * 4 + k % 4] >> k % 8 / 4 * 4 & 15);
}

inline int64_t zero_place(int32_t kind, int64_t g, int32_t n) {
  return kind == kW4A8Two ? (g / 2 * L + n) * 2 + g % 2 : g * L + n;
}

inline void pack_plain(const Source& s, int32_t row, int32_t n, uint8_t* tile) {
  const int64_t lane = s.kind == kF32 ? 4 : 2;
  const uint8_t* from = row_codes(s, row);
  for (int64_t k = 0; k < s.cols; ++k) memcpy(tile + (k * L + n) * lane, from + k * lane, size_t(lane));
}

inline void pack_tables(const Source& s, int32_t row, int32_t n, const Layout& l, uint8_t* tile) {
  const int64_t groups = group_count(s.cols, s.group), scales = scale_count(s.kind, s.cols, s.group);
  for (int64_t g = 0; g < groups && s.kind != kW8A8; ++g) {
    const uint32_t step = s.group_scale ? s.group_scale[row * groups + g] : 1;
    const uint16_t half = float_to_half(zero_at(s, row, g));
    if (has_half_zeros(s.kind)) memcpy(tile + l.zeros + (g * L + n) * 2, &half, 2);
    else tile[l.zeros + zero_place(s.kind, g, n)] = uint8_t(step * uint32_t(zero_at(s, row, g)));
    if (s.group_scale) tile[l.group_scales + g * L + n] = uint8_t(step);
  }
  for (int64_t g = 0; g < scales; ++g) {
    const float scale = s.scale[row * scales + g];
    const uint16_t half = float_to_half(scale);
    if (has_half_scales(s.kind, s.cols, s.group)) memcpy(tile + l.scales + (g * L + n) * 2, &half, 2);
    else memcpy(tile + l.scales + (g * L + n) * 4, &scale, 4);
  }
}

// Four nibbles as the low halves of four bytes.
inline uint32_t spread_nibbles(uint32_t four) {
  const uint32_t pairs = (four | four << 8) & 0x00ff00ff;
  return (pairs | pairs << 4) & 0x0f0f0f0f;
}

// Codes side by side, as the lanes of a kind have them.
inline uint32_t lane_of(int32_t kind, uint32_t word) {
  return kind == kW8A8 ? word : spread_nibbles(word & 0xffff) | spread_nibbles(word >> 16) << 4;
}

// A row's codes [k, k + 32 / width) side by side, `width` bits each; zeros past its end.
inline uint32_t word_of_codes(const Source& s, const uint8_t* from, int64_t k, int32_t width) {
  const int64_t per = 32 / width, end = k + per < s.cols ? per : s.cols - k;
  uint32_t word = 0;
  for (int64_t j = 0; j < end; ++j) word |= code_at(from, k + j, s.bits) << (j * width);
  return word;
}

// A word of a row at a time: lane n of a vector of codes, as code_of says.
inline void pack_codes(const Source& s, const uint8_t* from, int32_t n, uint8_t* tile) {
  if (has_units(s.kind)) return pack_units(unit_bits(s.kind), s, from, n, tile);
  const int32_t width = s.kind == kW8A8 ? 8 : 4, per = 32 / width;
  const auto put = [&](int64_t v, uint32_t word) {
    word = lane_of(s.kind, word);
    memcpy(tile + (v * L + n) * 4, &word, 4);
  };
  int64_t v = 0;
  for (uint32_t word; s.bits == width && v < s.cols / per; ++v) memcpy(&word, from + 4 * v, 4), put(v, word);
  for (; v < code_vectors(s.kind, s.cols); ++v) put(v, word_of_codes(s, from, v * per, width));
  if (s.kind != kW8A8 || kOffset8 == 0) return;
  for (int64_t k = 0; k < s.cols; ++k) tile[byte_place(k, n)] ^= kOffset8;
}

inline void pack_row(const Source& s, int32_t row, int32_t n, const Layout& l, uint8_t* tile) {
  if (is_plain(s.kind)) return pack_plain(s, row, n, tile);
  pack_codes(s, row_codes(s, row), n, tile);
  pack_tables(s, row, n, l, tile);
}

inline void pack(const Matrix* to, const Source* parts, int32_t, int32_t row0, int32_t row1) {
  const Layout l = layout_of(to);
  auto* data = static_cast<uint8_t*>(to->data);
  for (int32_t r = row0; r < row1; ++r) {
    int32_t row = r;
    const Source& s = part_of(parts, &row);
    pack_row(s, row, r % L, l, data + r / L * l.bytes);
  }
}

inline float plain_weight(const Matrix* w, const Tile& t, int64_t k, int32_t n) {
  return plain_at(w->kind, t.codes, k * L + n);
}

inline float coded_weight(const Matrix* w, const Tile& t, int64_t k, int32_t n) {
  const auto code = int32_t(code_of(w->kind, t.codes, k, n));
  const int64_t g = k / w->group;
  if (w->kind == kW8A8) return t.scales[n] * float((code ^ kOffset8) - 128);
  if (has_half_zeros(w->kind)) {
    const int32_t scales = has_half_scales(w->kind, w->cols, w->group) ? kF16 : kF32;
    return plain_at(scales, reinterpret_cast<const uint8_t*>(t.scales), g * L + n) * (float(code) - plain_at(kF16, t.zeros, g * L + n));
  }
  const int32_t zero = t.zeros[zero_place(w->kind, g, n)];
  if (is_bilevel(w->kind)) {
    const Statistics s = statistics(uint8_t(zero), t.ranges + 4 * g);
    return s.scale * (float(code) - s.zero);
  }
  if (w->kind == kW4A8Two) return t.scales[n] * float(t.group_scales[g * L + n] * code - zero);
  return t.scales[(w->kind == kW4A8 ? 0 : g) * L + n] * float(code - zero);
}

inline void row(const Matrix* w, int32_t r, float* out) {
  if (!is_tiled(w->kind)) return structure_row(w, r, out);
  const Tile t = tile_at(w, layout_of(w), r);
  for (int32_t k = 0; k < w->cols; ++k)
    out[k] = is_plain(w->kind) ? plain_weight(w, t, k, r % L) : coded_weight(w, t, k, r % L);
}

}  // namespace
}  // namespace intaglio
