// The definition of every kernel, in plain loops. Other sets equal its integers and approach its floats.
// A packed row: float scales | float zeros | one byte a code | group scales; a plain row: its values as float32.
#include <math.h>

#include "page.h"

namespace intaglio {
namespace {

constexpr int L = 1;  // a tile is one row
constexpr int32_t kOffset8 = 0;

}  // namespace
}  // namespace intaglio

#include "structures.h"

namespace intaglio {
namespace {

struct Row {
  const float *scale, *zero;
  const uint8_t *codes, *group_scale;
};

int64_t row_stride(int32_t kind, int32_t cols, int32_t group) {
  if (is_plain(kind)) return int64_t(cols) * 4;
  return round_up(scale_count(kind, cols, group) * 4 + group_count(cols, group) * 5 + cols, 4);
}

Row row_of(const Matrix* w, int32_t r) {
  const auto* at = static_cast<const uint8_t*>(w->data) + r * row_stride(w->kind, w->cols, w->group);
  const auto* scale = reinterpret_cast<const float*>(at);
  const float* zero = scale + scale_count(w->kind, w->cols, w->group);
  const auto* codes = reinterpret_cast<const uint8_t*>(zero + group_count(w->cols, w->group));
  return {scale, zero, codes, codes + w->cols};
}

size_t matrix_bytes(int32_t kind, int32_t rows, int32_t cols, int32_t group) {
  return size_t(rows) * size_t(row_stride(kind, cols, group));
}

void pack_plain(const Source& s, int32_t row, float* to) {
  for (int32_t i = 0; i < s.cols; ++i) to[i] = plain_at(s.kind, row_codes(s, row), i);
}

void pack_codes(const Source& s, int32_t row, uint8_t* at) {
  const int64_t scales = scale_count(s.kind, s.cols, s.group), groups = group_count(s.cols, s.group);
  const bool halves = has_half_scales(s.kind, s.cols, s.group);
  for (int64_t g = 0; g < scales; ++g) {
    const float scale = s.scale[row * scales + g], stored = halves ? half_to_float(float_to_half(scale)) : scale;
    memcpy(at + 4 * g, &stored, 4);
  }
  uint8_t* codes = at + 4 * (scales + groups);
  for (int32_t i = 0; i < s.cols; ++i) codes[i] = uint8_t(code_at(row_codes(s, row), i, s.bits));
  for (int64_t g = 0; g < groups; ++g) {
    const float zero = zero_at(s, row, g);
    memcpy(at + 4 * (scales + g), &zero, 4);
    codes[s.cols + g] = s.group_scale ? s.group_scale[row * groups + g] : 1;
  }
}

void pack(const Matrix* to, const Source* parts, int32_t, int32_t row0, int32_t row1) {
  const int64_t stride = row_stride(to->kind, to->cols, to->group);
  for (int32_t r = row0; r < row1; ++r) {
    int32_t row = r;
    const Source& s = part_of(parts, &row);
    auto* at = static_cast<uint8_t*>(to->data) + r * stride;
    if (is_plain(to->kind)) pack_plain(s, row, reinterpret_cast<float*>(at));
    else pack_codes(s, row, at);
  }
}

// Σ group_scale * (code - zero) * q over all columns; wraps like the vector registers do.
int32_t integer_dot(const Matrix* w, int32_t r, const int8_t* q) {
  const Row row = row_of(w, r);
  uint32_t sum = 0;
  for (int32_t i = 0; i < w->cols; ++i) {
    const int32_t g = i / w->group;
    sum += uint32_t(row.group_scale[g] * (row.codes[i] - int32_t(row.zero[g])) * q[i]);
  }
  return int32_t(sum);
}

float grouped_dot(const Matrix* w, int32_t r, const int8_t* q) {
  const Row row = row_of(w, r);
  float sum = 0;
  for (int32_t g = 0, i = 0; i < w->cols; ++g) {
    int32_t part = 0;
    for (const int32_t end = i + w->group < w->cols ? i + w->group : w->cols; i < end; ++i)
      part += (row.codes[i] - int32_t(row.zero[g])) * q[i];
    sum += row.scale[g] * float(part);
  }
  return sum;
}

float weight(const Matrix* w, int32_t r, int32_t i) {
  const Row row = row_of(w, r);
  if (is_plain(w->kind)) return row.scale[i];
  const int32_t g = i / w->group;
  const float scale = row.scale[scale_count(w->kind, w->cols, w->group) == 1 ? 0 : g];
  return scale * (float(row.group_scale[g]) * (float(row.codes[i]) - row.zero[g]));
}

float float_dot(const Matrix* w, int32_t r, const float* x) {
  float sum = 0;
  for (int32_t i = 0; i < w->cols; ++i) sum += weight(w, r, i) * x[i];
  return sum;
}

float structure_dot(const Matrix* w, int32_t r, const Activations* a, int32_t t) {
  const float* x = a->f + t * a->ldf;
  switch (w->kind) {
    case kLookup: return lookup_dot(w, r, x);
    case kBsr4:
    case kBsr16: return bsr_dot(w, r, x);
    case kEvenRows: return even_dot(w, r, x);
    case kBlockDiagonal: return block_diagonal_dot(w, r, x);
    case kNm:
    case kNm8: return nm_dot(w, r, x);
    case kBilevel3:
    case kBilevel4: return bilevel_dot(w, r, x);
    case kBitmask: return bitmask_dot(w, r, x);
    case kTrits: return trits_dot(w, r, x);
    case kGroups: return groups_dot(w, r, a, t);
    default: return csr_dot(w, r, x);
  }
}

float dot(const Matrix* w, int32_t r, const Activations* x, int32_t t) {
  if (is_structure(w->kind)) return structure_dot(w, r, x, t);
  if (!is_int8(w->kind)) return float_dot(w, r, x->f + t * x->ldf);
  const int8_t* q = x->q + t * x->ldq;
  if (w->kind == kW4A8Group) return grouped_dot(w, r, q) * x->scale[t];
  return float(integer_dot(w, r, q)) * (row_of(w, r).scale[0] * x->scale[t]);
}

void linear(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
            const Output* out) {
  for (int32_t t = token0; t < token1; ++t)
    for (int32_t r = row0; r < row1; ++r) emit_one(out, t, r, dot(w, r, x, t));
}

void accumulate(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                int32_t* acc, int64_t ldacc) {
  for (int32_t t = token0; t < token1; ++t)
    for (int32_t r = row0; r < row1; ++r) acc[t * ldacc + r] = integer_dot(w, r, x->q + t * x->ldq);
}

void row(const Matrix* w, int32_t r, float* out) {
  if (is_structure(w->kind)) return structure_row(w, r, out);
  for (int32_t i = 0; i < w->cols; ++i) out[i] = weight(w, r, i);
}

// A token holding NaN or infinity gets the scale NaN and codes 0, so that its results are NaN, not plausible.
float largest_of(const float* x, int32_t n) {
  float most = 0;
  for (int32_t i = 0; i < n; ++i) {
    if (!is_finite(x[i])) return NAN;
    most = fmaxf(most, fabsf(x[i]));
  }
  return float_bits(most) < kSmallestToken ? 0 : most;
}

void quantize(const float* x, int32_t n, int32_t sum_group, int8_t* q, float* scale, int32_t* sums) {
  const float largest = largest_of(x, n), inverse = 127 / largest;
  *scale = largest / 127;
  memset(q, 0, size_t(round_up(n, 64)));
  memset(sums, 0, size_t(div_up(n, sum_group)) * 4);
  if (!(largest > 0)) return;
  for (int32_t i = 0; i < n; ++i) {
    q[i] = int8_t(fmaxf(-127, fminf(127, rintf(x[i] * inverse))));
    sums[i / sum_group] += q[i];
  }
}

// One group: its codes, and their sum.
int32_t quantize_group(const float* x, int32_t n, int32_t bits, float clip, int8_t* q, float* scale) {
  const float top = float((1 << (bits - 1)) - 1), low = bits == 8 ? -top : -top - 1, reach = clip * largest_of(x, n);
  int32_t sum = 0;
  *scale = reach / top;
  for (int32_t i = 0; i < n && reach > 0; ++i) {
    q[i] = int8_t(fmaxf(low, fminf(top, rintf(x[i] * (top / reach)))));
    sum += q[i];
  }
  return sum;
}

void rms_norm(const float* x, const float* weight, int32_t n, float eps, float* out) {
  double squares = 0;
  for (int32_t i = 0; i < n; ++i) squares += double(x[i]) * x[i];
  const float r = 1 / sqrtf(float(squares / n) + eps);
  for (int32_t i = 0; i < n; ++i) out[i] = x[i] * r * (weight ? weight[i] : 1);
}

float activate(float g, int32_t activation) {
  if (activation == 0) return g / (1 + expf(-g));
  if (activation == 2) return 0.5f * g * erfcf(g * -0.70710678f);
  return 0.5f * g * (1 + tanhf(0.79788456f * (g + 0.044715f * g * g * g)));
}

void gate(const float* g, const float* u, int32_t n, int32_t activation, float* out) {
  for (int32_t i = 0; i < n; ++i) out[i] = activate(g[i], activation) * u[i];
}

void rope(float* head, const float* cos, const float* sin, int32_t dim) {
  const int32_t half = dim / 2;
  for (int32_t i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = b * cos[i] + a * sin[i];
  }
}

void axpy(float a, const float* x, int32_t n, float* y) {
  for (int32_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void softcap(float* x, int32_t n, float cap) {
  for (int32_t i = 0; i < n; ++i) x[i] = cap * tanhf(x[i] / cap);
}

// A page: for each head and slot head_dim codes (float, uint16 or uint8 each), then per head kPage scales and kPage zeros.
int64_t code_bytes(const PageLayout* l) { return int64_t(l->head_dim) * (is_coded(l) ? 1 : l->bits / 8); }

size_t page_bytes(const PageLayout* l) {
  return size_t(l->kv_heads) * kPage * size_t(code_bytes(l) + (is_coded(l) ? 4 : 0));
}

template <class Byte>
Byte* slot_codes(const PageLayout* l, Byte* page, int32_t head, int32_t slot) {
  return page + (int64_t(head) * kPage + slot) * code_bytes(l);
}

// Two float16, scale and zero, behind all codes.
template <class Byte>
Byte* slot_scale(const PageLayout* l, Byte* page, int32_t head, int32_t slot) {
  return page + int64_t(l->kv_heads) * kPage * code_bytes(l) + (int64_t(head) * kPage + slot) * 4;
}

PageCode code_of(const float* x, int32_t n, int32_t bits) {
  float low = x[0], high = x[0];
  bool finite = true;
  for (int32_t i = 0; i < n; ++i) {
    low = fminf(low, x[i]), high = fmaxf(high, x[i]);
    finite = finite && is_finite(x[i]);
  }
  return page_code(low, high, finite, bits);
}

void page_write(const PageLayout* l, void* page, int32_t head, int32_t slot, const float* x, int32_t) {
  uint8_t* at = slot_codes(l, static_cast<uint8_t*>(page), head, slot);
  if (l->bits == 32) return (void)memcpy(at, x, size_t(l->head_dim) * 4);
  if (l->bits == 16) {
    for (int32_t i = 0; i < l->head_dim; ++i) {
      const uint16_t h = float_to_half(x[i]);
      memcpy(at + 2 * i, &h, 2);
    }
    return;
  }
  const PageCode c = code_of(x, l->head_dim, l->bits);
  for (int32_t i = 0; i < l->head_dim; ++i) at[i] = uint8_t(page_quantum(c, x[i], l->bits));
  memcpy(slot_scale(l, static_cast<uint8_t*>(page), head, slot), &c, 4);
}

struct Slot {
  const uint8_t* codes;
  float s, z;
};

Slot slot_of(const PageLayout* l, const void* page, int32_t head, int32_t slot) {
  const auto* bytes = static_cast<const uint8_t*>(page);
  uint16_t c[2] = {0x3c00, 0};
  if (is_coded(l)) memcpy(c, slot_scale(l, bytes, head, slot), 4);
  return {slot_codes(l, bytes, head, slot), half_to_float(c[0]), half_to_float(c[1])};
}

float page_value(const PageLayout* l, const Slot& s, int32_t i) {
  if (is_coded(l)) return s.s * s.codes[i] - s.s * s.z;
  return plain_at(l->bits == 32 ? kF32 : kF16, s.codes, i);
}

void page_read(const PageLayout* l, const void* page, int32_t head, int32_t slot, float* x, int32_t) {
  const Slot s = slot_of(l, page, head, slot);
  for (int32_t i = 0; i < l->head_dim; ++i) x[i] = page_value(l, s, i);
}

size_t attend_scratch(const PageLayout* l, int32_t, int32_t) { return size_t(round_up(l->head_dim, 64)); }

// q.k: of floats for plain pages, of the query's int8 codes otherwise.
float score(const Attend* a, const Slot& k, const float* q, const int8_t* q8, float q_scale, int32_t q_sum) {
  float dot = 0;
  if (!is_coded(a->layout)) {
    for (int32_t i = 0; i < a->layout->head_dim; ++i) dot += q[i] * page_value(a->layout, k, i);
  } else {
    int32_t codes = 0;
    for (int32_t i = 0; i < a->layout->head_dim; ++i) codes += q8[i] * k.codes[i];
    dot = q_scale * k.s * (float(codes) - k.z * float(q_sum));
  }
  dot *= a->scale;
  return a->softcap > 0 ? a->softcap * tanhf(dot / a->softcap) : dot;
}

// One query row against the keys [begin, end): online softmax, one key at a time.
void attend_row(const Attend* a, const float* q, int32_t begin, int32_t end, float* out, float* partial) {
  const int32_t dim = a->layout->head_dim;
  auto* q8 = static_cast<int8_t*>(a->scratch);
  float q_scale = 0, most = -INFINITY, sum = 0;
  int32_t q_sum = 0;
  quantize(q, dim, dim, q8, &q_scale, &q_sum);
  for (int32_t i = 0; i < dim; ++i) out[i] = 0;
  for (int32_t t = begin; t < end; ++t) {
    const Slot k = slot_of(a->layout, a->k_pages[t / kPage], a->kv_head, t % kPage);
    const Slot v = slot_of(a->layout, a->v_pages[t / kPage], a->kv_head, t % kPage);
    const float s = score(a, k, q, q8, q_scale, q_sum);
    const float keep = s > most ? expf(most - s) : 1;
    most = s > most ? s : most;
    const float p = expf(s - most);
    sum = sum * keep + p;
    for (int32_t i = 0; i < dim; ++i) out[i] = out[i] * keep + p * page_value(a->layout, v, i);
  }
  if (partial) partial[0] = most, partial[1] = sum;
  else
    for (int32_t i = 0; i < dim && sum != 0; ++i) out[i] /= sum;
}

void attend(const Attend* a) {
  const int32_t dim = a->layout->head_dim;
  for (int32_t i = 0; i < a->queries; ++i) {
    const int32_t p = a->position + i, first = a->window > 0 && p >= a->window ? p - a->window + 1 : 0;
    const int32_t begin = first > a->key_begin ? first : a->key_begin, end = p < a->key_end ? p + 1 : a->key_end;
    for (int32_t h = 0; h < a->rep; ++h)
      attend_row(a, a->q + i * a->ldq + h * dim, begin, end, a->out + i * a->ldo + h * dim,
                 a->partial ? a->partial + 2 * (int64_t(i) * a->rep + h) : nullptr);
  }
}

int64_t peak(const uint8_t* codes, const int8_t* q, int64_t vectors, int32_t* out) {
  constexpr int32_t kLanes = 16;
  for (int32_t i = 0; i < kLanes; ++i) out[i] = 0;
  for (int64_t v = 0; v < vectors; ++v)
    for (int32_t i = 0; i < kLanes; ++i) out[i] += int32_t(codes[(v * kLanes + i) % 1024] & 15) * q[(v * kLanes + i) % 1024];
  return vectors * kLanes;
}

void read(const void* from, int64_t bytes, int32_t* out) {
  const auto* p = static_cast<const uint8_t*>(from);
  uint64_t sum = 0, word;
  for (int64_t at = 0; at + 8 <= bytes; at += 8) memcpy(&word, p + at, 8), sum += word;
  out[0] = int32_t(sum);
}

}  // namespace

extern const Kernels kScalar = {
    "scalar", 1, matrix_bytes, pack, bytes_before, lay, linear, accumulate, row, quantize,
    round_groups<quantize_group>, rms_norm, gate, rope, axpy, softcap, page_bytes, page_write, page_read, attend_scratch,
    attend, peak, read,
};

}  // namespace intaglio
