// Products with structures: which file multiplies which kind.
#pragma once
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

inline void structure_rows(const Matrix* w, const Activations* x, int32_t token0, int32_t token1, int32_t row0,
                           int32_t row1, const Output* out) {
  switch (w->kind) {
    case kLookup: return lookup_rows(w, x, token0, token1, row0, row1, out);
    case kBsr4:
    case kBsr16: return bsr_rows(w, x, token0, token1, row0, row1, out);
    case kEvenRows: return even_rows(w, x, token0, token1, row0, row1, out);
    case kBlockDiagonal: return block_diagonal_rows(w, x, token0, token1, row0, row1, out);
    case kNm:
    case kNm8: return nm_rows(w, x, token0, token1, row0, row1, out);
    case kTrits: return trits_rows(w, x, token0, token1, row0, row1, out);
    case kGroups: return groups_rows(w, x, token0, token1, row0, row1, out);
    default: return csr_rows(w, x, token0, token1, row0, row1, out);
  }
}

}  // namespace
}  // namespace intaglio
