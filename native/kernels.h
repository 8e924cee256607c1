// What one instruction set provides: a table of plain functions over plain pointers.
// isa/scalar.cpp is the definition; every other isa/*.cpp must give *equal* integer accumulators
// and floats within 1e-4 of it. (Kinds kW2..kW8, kLookup, kBsr4, kBilevel* and kTrits may make a token's floats
// integers of 15 bits and a sign, with one scale: what that rounds comes on top, and what is not a number spoils
// its token.) No Python, torch or STL here or in isa/*.cpp: each of those files is
// compiled with its own -m flags, and an inline STL function from one could be linked into another.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace intaglio {

// How a matrix W (rows = outputs, cols = inputs) is executed. `x` is float or int8 activations.
enum Kind : int32_t {
  kF32 = 0,       // plain float32 weights              x float
  kF16 = 1,       // plain float16 weights              x float
  kBF16 = 2,      // plain bfloat16 weights             x float
  kW2 = 3,        // codes of 2 bits, (q - zero) * scale per group,      x float      (W2A16)
  kW3 = 4,        // codes of 2..3 bits                                               (W3A16)
  kW4 = 5,        // codes of 2..4 bits                                               (W4A16)
  kW8 = 6,        // codes of 5..8 bits                                               (W8A16 ...)
  kW8A8 = 7,      // 8-bit codes with the middle 128 as zero, one scale a row, x int8
  kW4A8 = 8,      // codes of 2..4 bits, one scale and zero a row,         x int8
  kW4A8Two = 9,   // two-level: W = scale[n] * group_scale[n,g] * (q - group_zero[n,g]),  x int8
  kW4A8Group = 10,  // codes of 2..4 bits, float scale and zero per group, x int8 (the float-group-scale baseline)
  // made of `Pieces`
  kCsr = 11,      // few float16 a row, with their columns                                 x float
  kLookup = 12,   // codes of 2..4 bits into a table of float16 a row; group: their bits   x float
  kBsr4 = 13,     // blocks of a row that are kept, 4-bit codes, a scale and a zero each,  x float
  kBsr16 = 14,    // the same of float16                                                   x float
  kEvenRows = 15,       // as many float16 in each row (`group`), with their columns       x float
  kBlockDiagonal = 16,  // float16 blocks of `group` columns along the diagonal            x float
  kNm = 17,       // of every m columns n float16; group = n << 8 | m                      x float
  kNm8 = 18,      // the same of int8, one scale a row                                     x float
  kBilevel3 = 19, // codes of 2..3 bits, (q - zero) * scale per group, both coded in their turn,   x float
  kBilevel4 = 20, // codes of 2..4 bits                                                    x float
  kBitmask = 21,  // float16 anywhere in a matrix, and a bit for each element              x float
  kTrits = 22,    // planes of digits -1, 0, 1, a scale a plane, row and group             x float
  kGroups = 23,   // codes of 4 bits, then of 6, then of 8, symmetric in groups            x int8, a scale a group
};

constexpr bool is_plain(int32_t kind) { return kind <= kBF16; }
constexpr bool reads_groups(int32_t kind) { return kind >= kGroups; }
constexpr bool is_int8(int32_t kind) { return (kind >= kW8A8 && kind <= kW4A8Group) || reads_groups(kind); }
constexpr bool is_structure(int32_t kind) { return kind >= kCsr; }
constexpr bool has_rows_of_their_own(int32_t kind) { return kind == kBsr4 || kind == kBsr16; }  // which may be cut anywhere
constexpr bool has_half_zeros(int32_t kind) { return kind >= kW2 && kind <= kW8; }  // or may have
constexpr bool is_bilevel(int32_t kind) { return kind == kBilevel3 || kind == kBilevel4; }

// Whether a row's groups of so many of its columns begin and end where kernels of this kind can.
constexpr bool fits_groups(int32_t kind, int32_t cols, int32_t group) {
  if (group >= cols) return true;
  if (kind == kW3 || kind == kBilevel3) return group == 16 || group % 32 == 0;
  return group % (kind == kW2 ? 16 : 8) == 0;
}

// One matrix in the neutral layout of the file: row-major, groups along the columns.
// Codes are one dense little-endian bit stream a row: element i of a row occupies bits [i*bits, (i+1)*bits)
// of that row's ceil(cols*bits/8) bytes. A plain matrix has its values in `codes`, row stride cols.
struct Source {
  int32_t kind;
  int32_t rows, cols;
  int32_t bits;                // of a code; unused for plain kinds
  int32_t group;               // columns in a group; == cols for one group a row. The last may be short.
  const void* codes;
  const float* scale;          // rows x groups; rows x 1 for kW4A8Two, kW8A8, kW4A8. Of kW2 to kW8 with several: float16 ones
  const uint8_t* zero;         // rows x groups, or null: the middle code 2^(bits-1)
  const uint8_t* group_scale;  // rows x groups, kW4A8Two only; times the largest code at most 255
  const uint16_t* half_zero;   // rows x groups of float16 in place of `zero`, or null; kW2 to kW8 only
};  // coded kinds: see fits_groups

// A structured matrix in the neutral layout of the file: its arrays, in the order in which isa/<kind>.h names them.
constexpr int32_t kMostPieces = 6;
struct Pieces {
  int32_t kind;
  int32_t rows, cols;
  int32_t group;  // what else the kind has to be told, or 0
  const void* array[kMostPieces];
  int64_t length[kMostPieces];  // in elements

  // Array i as it is; one without elements may be null, which memcpy forbids.
  void copy(int i, size_t width, void* to) const {
    if (length[i]) memcpy(to, array[i], size_t(length[i]) * width);
  }
};

// A matrix repacked for one instruction set. Opaque bytes in `data`, 64-byte aligned, zero before it is packed.
struct Matrix {
  int32_t kind;
  int32_t rows, cols;
  int32_t group;
  size_t bytes;
  void* data;
};

// Activations of `tokens` rows. Either `f` (float kinds) or `q, scale, sums` (int8 kinds) is set.
// q rows are padded with zeros to a multiple of 64 columns (ldq >= that); the same holds for f (ldf).
// sums[t, g] is the exact integer sum of q over columns [g*sum_group, (g+1)*sum_group); sum_group divides
// the matrix's group or equals cols; for kinds that read groups it is the matrix's. Codes q lie in -127..127.
struct Activations {
  const float* f;
  int64_t ldf;
  const int8_t* q;
  int64_t ldq;
  const float* scale;   // tokens: x ~ q * scale; for kinds that read groups tokens x sum_groups, a group each
  const int32_t* sums;  // tokens x sum_groups
  int64_t lds;
  int32_t sum_group;
};

// How activations are rounded in groups of `size` channels: to codes of `bits`, the last `kept` groups of `kept_bits`.
// With m = clip * max|x| of a group (clip 1 where kept) and top = 2^(bits-1) - 1: scale = m / top, q = x * (top / m)
// rounded to even, within -top - 1 .. top (8 bits: -127 .. 127), in float32. formats/rounding.py is the same in torch.
struct Rounding {
  int32_t size, bits, kept, kept_bits;
  float clip;
};

// Where a linear's result goes: y[t, n] = alpha * (W x + bias)[n]   or, with accumulate, += .
struct Output {
  float* y;
  int64_t ldy;
  const float* bias;  // rows, or null
  float alpha;
  int32_t accumulate;
};

// A page holds kPage tokens of one layer's K (or V) for all KV heads: codes, then scales and zeros.
// bits 32: float32 values. bits 16: float16 values. bits 8, 4: per (token, head) asymmetric, arithmetic in float32:
//   s = float16(max((max-min)/(2^bits-1), max|x| * 2^-15, 2^-24))    the floors keep z finite (|z| <= 2^15), so
//   z = float16(-min/s), not rounded to an integer                   that a constant vector comes back to
//   q = clamp(round(x/s + z), 0, 2^bits-1), halves to even           float16's precision, and zeros as zeros
// decode is s*q - s*z, with s and z as stored; a vector with a non-finite value decodes to NaN.
// attention/codecs.py is the same in torch. The order of codes inside a page belongs to the instruction set.
constexpr int32_t kPage = 64;
struct PageLayout {
  int32_t kv_heads, head_dim, bits;
};

// Attention of one sequence and one KV head: query tokens [0, queries) with `rep` query heads each.
// Query i stands at absolute position `position + i`, sees keys [max(0, p - window + 1), p] (window 0: all),
// where page j of the tables holds positions [j*kPage, (j+1)*kPage). Keys of the queries' own tokens are
// already in the pages. score = softcap(scale * q.k); online softmax; out = sum p v.
struct Attend {
  const PageLayout* layout;
  int32_t kv_head, rep, queries, position, window;
  float scale, softcap;        // softcap 0: none
  const float* q;              // queries x (rep * head_dim), row stride ldq
  int64_t ldq;
  void* const* k_pages;
  void* const* v_pages;
  int32_t key_begin, key_end;  // only keys in this range (split contexts); whole: 0, position + queries
  float* out;                  // queries x (rep * head_dim), row stride ldo; normalised unless `partial`
  int64_t ldo;
  float* partial;              // null, or queries x rep x 2: running max and sum, `out` left unnormalised
  void* scratch;               // attend_scratch() bytes, private to the calling thread
  const void *next_k, *next_v; // pages that the thread will probably begin with next, or null
  int32_t next_head;           // and the head of them
};

struct Kernels {
  const char* name;   // "scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon"
  int32_t tile;       // rows interleaved together; row ranges given below start at multiples of it, or anywhere in rows of their own

  // matrices
  size_t (*matrix_bytes)(int32_t kind, int32_t rows, int32_t cols, int32_t group);
  void (*pack)(const Matrix* to, const Source* parts, int32_t n_parts, int32_t row0, int32_t row1);  // parts stacked by rows
  int64_t (*bytes_before)(const Matrix* w, int32_t row);  // that are read of the rows before one: they need not be alike
  size_t (*lay)(const Pieces* from, void* to);  // packs a structure; gives its bytes, and only these when `to` is null
  void (*linear)(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1, const Output* out);
  void (*accumulate)(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0, int32_t row1,
                     int32_t* acc, int64_t ldacc);  // int8 kinds with integer scales (5,6,7): the exact int32 before any float
  void (*row)(const Matrix* w, int32_t r, float* out);  // decode one row (embedding lookup, tests)

  // vectors: `n` columns, one token a call. quantize: with m = max|x|, scale = m / 127 and q = x * (127 / m) rounded to
  // even, in float32; a token (or group) with NaN or infinity gets the scale NaN and codes 0, so that what it feeds is NaN; one with
  // m < 2^-120 counts as zeros.
  void (*quantize)(const float* x, int32_t n, int32_t sum_group, int8_t* q, float* scale, int32_t* sums);
  void (*quantize_groups)(const float* x, int32_t n, const Rounding* r, int8_t* q, float* scale, int32_t* sums);
  void (*rms_norm)(const float* x, const float* weight, int32_t n, float eps, float* out);  // weight null: ones
  void (*gate)(const float* g, const float* u, int32_t n, int32_t activation, float* out);  // activation: 0 silu 1 gelu_tanh 2 gelu
  void (*rope)(float* head, const float* cos, const float* sin, int32_t dim);  // halves (i, i + dim/2), in place
  void (*axpy)(float a, const float* x, int32_t n, float* y);                  // y += a * x
  void (*softcap)(float* x, int32_t n, float cap);

  // attention
  size_t (*page_bytes)(const PageLayout* layout);
  void (*page_write)(const PageLayout* layout, void* page, int32_t head, int32_t slot, const float* x, int32_t is_value);
  void (*page_read)(const PageLayout* layout, const void* page, int32_t head, int32_t slot, float* x, int32_t is_value);
  size_t (*attend_scratch)(const PageLayout* layout, int32_t queries, int32_t rep);
  void (*attend)(const Attend* a);

  // ceilings, for benchmarks: 8-bit dots of operands that stay in the first cache (`codes` and `q` of 1024 bytes; gives
  // the number of multiply-adds), and reading `bytes` in order. `out` (16 of int32) keeps the work from being left out.
  int64_t (*peak)(const uint8_t* codes, const int8_t* q, int64_t rounds, int32_t* out);
  void (*read)(const void* from, int64_t bytes, int32_t* out);
};

// Every instruction set this build contains and this processor can run, best first; scalar is always last.
int32_t supported_kernels(const Kernels** list, int32_t capacity);
const Kernels* find_kernels(const char* name);  // null or "": INTAGLIO_ISA if set, else the best; unknown: nullptr

}  // namespace intaglio
