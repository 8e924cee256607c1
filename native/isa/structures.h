// The structures: which file knows which kind.
#pragma once
#include "bilevel.h"
#include "bitmask.h"
#include "block_diagonal.h"
#include "bsr.h"
#include "csr.h"
#include "even.h"
#include "groups.h"
#include "lookup.h"
#include "nm.h"
#include "trits.h"

namespace intaglio {
namespace {

inline size_t lay(const Pieces* from, void* to) {
  switch (from->kind) {
    case kLookup: return lay_lookup(from, to);
    case kBsr4:
    case kBsr16: return lay_bsr(from, to);
    case kEvenRows: return lay_even(from, to);
    case kBlockDiagonal: return lay_block_diagonal(from, to);
    case kNm:
    case kNm8: return lay_nm(from, to);
    case kBilevel3:
    case kBilevel4: return lay_bilevel(from, to);
    case kBitmask: return lay_bitmask(from, to);
    case kTrits: return lay_trits(from, to);
    case kGroups: return lay_groups(from, to);
    default: return lay_csr(from, to);
  }
}

// What is read of the rows before one.
inline int64_t bytes_before(const Matrix* w, int32_t row) {
  switch (w->kind) {
    case kBsr4: return int64_t(bsr_of(w).offset[row] & ~1u) * (5 + w->group / 2);
    case kBsr16: return int64_t(bsr_of(w).offset[row]) * (2 + w->group * 2);
    case kCsr: return int64_t(csr_of(w).offset[div_up(row, kSlice)]) * kSlice * 4;
    case kBitmask: return static_cast<const int64_t*>(w->data)[div_up(row, L)] - static_cast<const int64_t*>(w->data)[0];
    default: return int64_t(w->bytes) * row / w->rows;
  }
}

inline void structure_row(const Matrix* w, int32_t r, float* out) {
  switch (w->kind) {
    case kLookup: return lookup_row(w, r, out);
    case kBsr4:
    case kBsr16: return bsr_row(w, r, out);
    case kEvenRows: return even_row(w, r, out);
    case kBlockDiagonal: return block_diagonal_row(w, r, out);
    case kNm:
    case kNm8: return nm_row(w, r, out);
    case kBilevel3:
    case kBilevel4: return bilevel_row(w, r, out);
    case kBitmask: return bitmask_row(w, r, out);
    case kTrits: return trits_row(w, r, out);
    case kGroups: return groups_row(w, r, out);
    default: return csr_row(w, r, out);
  }
}

// The end of a linear, one output.
inline void emit_one(const Output* out, int64_t token, int32_t row, float v) {
  float* y = out->y + token * out->ldy + row;
  v = out->alpha * (v + (out->bias ? out->bias[row] : 0));
  *y = out->accumulate ? *y + v : v;
}

}  // namespace
}  // namespace intaglio
