// The order of a page. K for lanes that are tokens (scores need no sum across lanes), V for lanes that are channels:
//
//   K  32, 16 bits [kPage/L][dim][L]      8 bits [kPage/L][dim/4][L][4]      4 bits [kPage/L][dim/8][L][4]: as weights lie
//   V  32, 16 bits [kPage][dim]           8, 4 bits [dim/L][slots in a lane][L] of 32 bits
//
// where a lane of V holds 32/bits slots of one channel: of its n = 16/bits codes from the low end, code k is slot j*n + k of
// the page's first half, and those in the high end are the slots kPage/2 further: shifted and masked, a lane is two numbers of
// 16 bits. All for each head, then float16 scales [heads][kPage] and zeros [heads][kPage]. dim is padded to whole vectors (V: pairs of them).
#pragma once
#include "../page.h"
#include "vectors.h"

namespace intaglio {
namespace {

// Vectors of a tile of L tokens' K, and bytes of one token's V.
inline int64_t key_vectors(const PageLayout* l) { return is_coded(l) ? div_up(l->head_dim, 32 / l->bits) : l->head_dim; }
inline int64_t key_tile_bytes(const PageLayout* l) { return key_vectors(l) * L * (is_coded(l) ? 4 : l->bits / 8); }
inline int64_t value_bytes(const PageLayout* l) {
  return round_up(l->head_dim, 2 * L) * l->bits / 8;
}

// Bytes of the codes of L channels of V, all slots.
inline int64_t value_block_bytes(const PageLayout* l) { return int64_t(kPage) * L * l->bits / 8; }

// Where a code is: a byte, and the shift of its bits there.
struct Place {
  int64_t byte;
  int32_t shift;
};

// Where the codes of a slot lie in a block of channels: the byte of lane 0, and the shift within a lane.
inline Place value_place(const PageLayout* l, int32_t slot) {
  const int32_t n = 16 / l->bits, j = slot % (kPage / 2);
  return {j / n * int64_t(4 * L), (slot / (kPage / 2) * n + j % n) * l->bits};
}

inline int64_t head_bytes(const PageLayout* l) {
  const int64_t k = key_tile_bytes(l) * (kPage / L), v = value_bytes(l) * kPage;
  return round_up(k > v ? k : v, 64);
}

inline size_t page_bytes(const PageLayout* l) {
  return size_t(l->kv_heads * (head_bytes(l) + (is_coded(l) ? 2 * 2 * kPage : 0)));
}

template <class Byte>
Byte* head_codes(const PageLayout* l, Byte* page, int32_t head) {
  return page + head * head_bytes(l);
}

inline const uint16_t* head_scales(const PageLayout* l, const void* page, int32_t head) {
  const auto* after = static_cast<const uint8_t*>(page) + l->kv_heads * head_bytes(l);
  return reinterpret_cast<const uint16_t*>(after) + head * kPage;
}

inline const uint16_t* head_zeros(const PageLayout* l, const void* page, int32_t head) {
  return head_scales(l, page, head) + l->kv_heads * kPage;
}

// Byte (and shift of a nibble) of channel d of a slot inside its head's codes.
inline Place page_place(const PageLayout* l, int32_t slot, int32_t d, int32_t is_value) {
  const int64_t tile = slot / L * key_tile_bytes(l), n = slot % L, row = slot * value_bytes(l);
  if (!is_coded(l)) return {is_value ? row + d * int64_t(l->bits / 8) : tile + (d * int64_t(L) + n) * (l->bits / 8), 0};
  if (is_value) {
    const Place lane = value_place(l, slot);
    return {d / L * value_block_bytes(l) + lane.byte + d % L * 4 + lane.shift / 8, lane.shift % 8};
  }
  if (l->bits == 8) return {tile + (d / 4 * int64_t(L) + n) * 4 + d % 4, 0};
  return {tile + (d / 8 * int64_t(L) + n) * 4 + d % 4, d % 8 / 4 * 4};
}

constexpr int kBlock = 64;  // channels coded at a time, whole vectors of every layout

inline PageCode code_of(const float* x, int32_t n, int32_t bits) {
  VF high = setf(-INFINITY), low = setf(-INFINITY);  // low: of the negatives
  int32_t i = 0;
  for (; i + L <= n; i += L) high = maxf(high, loadf(x + i)), low = maxf(low, subf(setf(0), loadf(x + i)));
  float top = most(high), bottom = -most(low);
  for (; i < n; ++i) top = x[i] > top ? x[i] : top, bottom = x[i] < bottom ? x[i] : bottom;
  return page_code(bottom, top, largest_bits(x, n) < 0x7f800000u, bits);
}

// Codes of up to kBlock channels, zeros behind them: page_quantum, a vector at a time.
inline void quantize_block(const PageCode& c, const float* x, int32_t n, int32_t bits, uint8_t* codes) {
  memset(codes, 0, kBlock);
  if (!(c.s > 0)) return;
  int32_t i = 0;
  for (const VF top = setf(float((1 << bits) - 1)); i + L <= n; i += L) {
    const VF v = addf(divf(loadf(x + i), setf(c.s)), setf(c.z)), low = less(v, top, v, top);
    store_i8(reinterpret_cast<int8_t*>(codes) + i, subi(to_int(less(setf(0), low, low, setf(0))), seti(128)));
    for (int j = i; j < i + L; ++j) codes[j] ^= 128;
  }
  for (; i < n; ++i) codes[i] = uint8_t(page_quantum(c, x[i], bits));
}

// Puts the codes of channels [d, d + kBlock) of a slot where they belong; `head` is the head's codes.
inline void place_keys(const PageLayout* l, uint8_t* head, int32_t slot, int32_t d, const uint8_t* codes) {
  const int32_t step = 32 / l->bits;
  uint8_t* to = head + slot / L * key_tile_bytes(l) + (d / step * int64_t(L) + slot % L) * 4;
  for (int32_t i = 0; i < kBlock && d + i < l->head_dim; i += step, to += 4 * L) {
    uint32_t low, high = 0;
    memcpy(&low, codes + i, 4);
    if (l->bits == 4) memcpy(&high, codes + i + 4, 4);
    const uint32_t lane = l->bits == 4 ? low | high << 4 : low ^ uint32_t(kOffset8) * 0x01010101u;
    memcpy(to, &lane, 4);
  }
}

inline void place_values(const PageLayout* l, uint8_t* head, int32_t slot, int32_t d, const uint8_t* codes) {
  const Place lane = value_place(l, slot);
  const VI others = seti(int32_t(~(((1u << l->bits) - 1) << lane.shift))), shift = seti(int32_t(1u << lane.shift));
  for (int32_t i = 0; i < kBlock && d + i < l->head_dim; i += L) {
    uint8_t* to = head + (d + i) / L * value_block_bytes(l) + lane.byte;
    storei(to, addi(andi(loadi(to), others), muli(load_u8(codes + i), shift)));
  }
}

// Plain pages hold numbers of one of these types.
inline VF load_number(const float* p) { return loadf(p); }
inline VF load_number(const uint16_t* p) { return load_half(p); }
inline void store_number(float* p, VF v) { storef(p, v); }
inline void store_number(uint16_t* p, VF v) { store_half(p, v); }

template <class Number>
void write_plain(const PageLayout* l, uint8_t* codes, int32_t slot, const float* x, int32_t is_value) {
  Number stored[L];
  for (int32_t d = 0; d < l->head_dim; d += L) {
    const int32_t n = l->head_dim - d < L ? l->head_dim - d : L;
    float end[L] = {};
    memcpy(end, x + d, size_t(n) * 4);
    store_number(stored, loadf(end));
    if (is_value) memcpy(codes + page_place(l, slot, d, 1).byte, stored, size_t(n) * sizeof(Number));
    for (int32_t i = 0; i < n && !is_value; ++i)
      memcpy(codes + page_place(l, slot, d + i, 0).byte, stored + i, sizeof(Number));
  }
}

inline void page_write(const PageLayout* l, void* page, int32_t head, int32_t slot, const float* x, int32_t is_value) {
  uint8_t* to = head_codes(l, static_cast<uint8_t*>(page), head);
  if (l->bits == 32) return write_plain<float>(l, to, slot, x, is_value);
  if (l->bits == 16) return write_plain<uint16_t>(l, to, slot, x, is_value);
  const PageCode c = code_of(x, l->head_dim, l->bits);
  const_cast<uint16_t*>(head_scales(l, page, head))[slot] = c.scale;
  const_cast<uint16_t*>(head_zeros(l, page, head))[slot] = c.zero;
  for (int32_t d = 0; d < l->head_dim; d += kBlock) {
    uint8_t codes[kBlock];
    quantize_block(c, x + d, l->head_dim - d < kBlock ? l->head_dim - d : kBlock, l->bits, codes);
    if (is_value) place_values(l, to, slot, d, codes);
    else place_keys(l, to, slot, d, codes);
  }
}

inline void page_read(const PageLayout* l, const void* page, int32_t head, int32_t slot, float* x, int32_t is_value) {
  const uint8_t* codes = head_codes(l, static_cast<const uint8_t*>(page), head);
  const uint32_t flip = l->bits == 8 && !is_value ? kOffset8 : 0, mask = l->bits == 4 ? 15 : 255;
  float s = 1, z = 0;
  if (is_coded(l)) s = half_to_float(head_scales(l, page, head)[slot]), z = half_to_float(head_zeros(l, page, head)[slot]);
  for (int32_t d = 0; d < l->head_dim; ++d) {
    const Place p = page_place(l, slot, d, is_value);
    if (!is_coded(l)) x[d] = plain_at(l->bits == 32 ? kF32 : kF16, codes + p.byte, 0);
    else x[d] = s * float((codes[p.byte] >> p.shift & mask) ^ flip) - s * z;
  }
}

}  // namespace
}  // namespace intaglio
