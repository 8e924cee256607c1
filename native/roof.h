// What this machine can do at most, measured: the roofs that a kernel's speed is read against.
#pragma once
#include <cstddef>

#include "kernels.h"

namespace intaglio {

// Bytes a second that `threads` threads together read of a buffer of `nbytes`, each its own part, over and over for about
// `seconds`. Throws std::bad_alloc.
double read_bandwidth(const Kernels* k, int threads, std::size_t nbytes, double seconds);

// Multiply-adds of 8-bit integers a second, `threads` threads together.
double int8_peak(const Kernels* k, int threads, double seconds);

}  // namespace intaglio
