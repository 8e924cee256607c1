// The order of a page. K for lanes that are tokens (scores need no sum across lanes), V for lanes that are channels:
//
//   K  16 bits [kPage/L][dim][L]      8 bits [kPage/L][dim/4][L][4]      4 bits [kPage/L][dim/8][L][4]: as weights lie
//   V  16 bits [kPage][dim]           8 bits [kPage][dim]                4 bits [kPage][dim/2L][L]: channels i and i + L
//
// for each head, then float16 scales [heads][kPage] and zeros [heads][kPage]. dim is padded to whole vectors (V: pairs of them).
#pragma once
#include "../page.h"
#include "integer.h"

namespace intaglio {
namespace {

// Vectors of a tile of L tokens' K, and bytes of one token's V.
inline int64_t key_vectors(const PageLayout* l) { return l->bits == 16 ? l->head_dim : div_up(l->head_dim, 32 / l->bits); }
inline int64_t key_tile_bytes(const PageLayout* l) { return key_vectors(l) * L * (l->bits == 16 ? 2 : 4); }
inline int64_t value_bytes(const PageLayout* l) {
  return round_up(l->head_dim, 2 * L) * l->bits / 8;
}

inline int64_t head_bytes(const PageLayout* l) {
  const int64_t k = key_tile_bytes(l) * (kPage / L), v = value_bytes(l) * kPage;
  return round_up(k > v ? k : v, 64);
}

inline size_t page_bytes(const PageLayout* l) {
  return size_t(l->kv_heads * (head_bytes(l) + (l->bits == 16 ? 0 : 2 * 2 * kPage)));
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
  if (l->bits == 16) return {is_value ? row + 2 * d : tile + (d * int64_t(L) + n) * 2, 0};
  if (l->bits == 8) return {is_value ? row + d : tile + (d / 4 * int64_t(L) + n) * 4 + d % 4, 0};
  if (is_value) return {row + d / (2 * L) * L + d % L, d % (2 * L) / L * 4};
  return {tile + (d / 8 * int64_t(L) + n) * 4 + d % 4, d % 8 / 4 * 4};
}

inline void page_write(const PageLayout* l, void* page, int32_t head, int32_t slot, const float* x, int32_t is_value) {
  uint8_t* codes = head_codes(l, static_cast<uint8_t*>(page), head);
  if (l->bits == 16) {
    for (int32_t d = 0; d < l->head_dim; ++d) {
      const uint16_t h = float_to_half(x[d]);
      memcpy(codes + page_place(l, slot, d, is_value).byte, &h, 2);
    }
    return;
  }
  const PageCode c = page_code(x, l->head_dim, l->bits);
  const_cast<uint16_t*>(head_scales(l, page, head))[slot] = c.scale;
  const_cast<uint16_t*>(head_zeros(l, page, head))[slot] = c.zero;
  const uint32_t flip = l->bits == 8 && !is_value ? kOffset8 : 0, mask = (1u << l->bits) - 1;
  for (int32_t d = 0; d < l->head_dim; ++d) {
    const Place p = page_place(l, slot, d, is_value);
    const uint32_t code = page_quantum(c, x[d], l->bits) ^ flip;
    codes[p.byte] = uint8_t((codes[p.byte] & ~(mask << p.shift)) | code << p.shift);
  }
}

inline void page_read(const PageLayout* l, const void* page, int32_t head, int32_t slot, float* x, int32_t is_value) {
  const uint8_t* codes = head_codes(l, static_cast<const uint8_t*>(page), head);
  const uint32_t flip = l->bits == 8 && !is_value ? kOffset8 : 0, mask = (1u << l->bits) - 1;
  float s = 1, z = 0;
  if (l->bits != 16) s = half_to_float(head_scales(l, page, head)[slot]), z = half_to_float(head_zeros(l, page, head)[slot]);
  for (int32_t d = 0; d < l->head_dim; ++d) {
    const Place p = page_place(l, slot, d, is_value);
    uint16_t h;
    if (l->bits == 16) memcpy(&h, codes + p.byte, 2), x[d] = half_to_float(h);
    else x[d] = s * float((codes[p.byte] >> p.shift & mask) ^ flip) - s * z;
  }
}

}  // namespace
}  // namespace intaglio
