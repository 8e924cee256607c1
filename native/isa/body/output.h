// The end of a linear: bias, alpha, store or add; the last rows of a matrix fill only part of a vector.
#pragma once
#include "layout.h"

namespace intaglio {
namespace {

inline VF finish(const Output* out, VF v, const float* bias, const float* y) {
  if (bias) v = addf(v, loadf(bias));
  v = mulf(v, setf(out->alpha));
  return out->accumulate ? addf(loadf(y), v) : v;
}

// `v` holds W x of rows [row, row + L), of which those below row1 exist.
inline void emit(const Output* out, int64_t token, int32_t row, int32_t row1, VF v) {
  float* y = out->y + token * out->ldy + row;
  const float* bias = out->bias ? out->bias + row : nullptr;
  if (row + L <= row1) return storef(y, finish(out, v, bias, y));
  float edge_y[L] = {}, edge_bias[L] = {};
  const int32_t n = row1 > row ? row1 - row : 0;
  for (int32_t i = 0; i < n; ++i) {
    edge_y[i] = out->accumulate ? y[i] : 0;
    edge_bias[i] = bias ? bias[i] : 0;
  }
  storef(edge_y, finish(out, v, edge_bias, edge_y));
  for (int32_t i = 0; i < n; ++i) y[i] = edge_y[i];
}

}  // namespace
}  // namespace intaglio
