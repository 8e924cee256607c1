// The structures: which file knows which kind.
#pragma once
#include "csr.h"
#include "groups.h"

namespace intaglio {
namespace {

inline size_t lay(const Pieces* from, void* to) {
  switch (from->kind) {
    case kGroups: return lay_groups(from, to);
    default: return lay_csr(from, to);
  }
}

inline void structure_row(const Matrix* w, int32_t r, float* out) {
  switch (w->kind) {
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
