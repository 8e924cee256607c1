// Products with structures: which file multiplies which kind.
#pragma once
#include "csr.h"
#include "groups.h"

namespace intaglio {
namespace {

inline void structure_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0,
                           int32_t row1, const Output* out) {
  switch (w->kind) {
    case kGroups: return groups_rows(w, x, token0, token1, row0, row1, out);
    default: return csr_rows(w, x, token0, token1, row0, row1, out);
  }
}

}  // namespace
}  // namespace intaglio
