// Intel's intrinsics, or SIMDe's rendering of them in the test that runs one set on a processor without it.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef INTAGLIO_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#else
#include <immintrin.h>
#endif

namespace intaglio {
namespace {

inline void prefetch(const void* p) { __builtin_prefetch(p); }
inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }  // into the second cache

}  // namespace
}  // namespace intaglio
