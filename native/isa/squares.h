// Registers of 16 rows of 64 bytes, eight of them, and the product of two. Intel calls them tiles, which here are 16 rows
// of a matrix; so these are squares: of 16 x 16 lanes of 32 bits.
#pragma once
#include <stdint.h>
#include <string.h>

namespace intaglio {
namespace {

constexpr int32_t kSide = 16;  // rows of a square
constexpr int kSquareRow = 64;  // bytes

#ifdef INTAGLIO_SIMDE  // what the processor does, in plain words

struct Squares {
  int32_t height = 0;
  uint8_t at[8][kSide][kSquareRow] = {};
  int32_t rows(int n) const { return n < 6 ? height : kSide; }
};
inline Squares squares;

inline void open_squares(int32_t height) { squares = {height}; }
inline void close_squares() { squares = {}; }
template <int N>
inline void clear_square() { memset(squares.at[N], 0, sizeof squares.at[N]); }
template <int N>
inline void load_square(const void* from, int64_t stride) {
  for (int32_t r = 0; r < squares.rows(N); ++r) memcpy(squares.at[N][r], static_cast<const char*>(from) + r * stride, kSquareRow);
}
template <int N>
inline void store_square(int32_t* to) { memcpy(to, squares.at[N], size_t(squares.rows(N) * kSquareRow)); }
template <int C, int A, int B>
inline void multiply_squares() {
  for (int32_t t = 0; t < squares.height; ++t)
    for (int k = 0; k < kSquareRow; ++k)
      for (int n = 0; n < kSide; ++n) {
        int32_t sum;
        memcpy(&sum, &squares.at[C][t][4 * n], 4);
        sum += int8_t(squares.at[A][t][k]) * squares.at[B][k / 4][4 * n + k % 4];
        memcpy(&squares.at[C][t][4 * n], &sum, 4);
      }
}

#else

struct alignas(64) SquareShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Squares 0 to 5, sums and activations, get `height` rows, 6 and 7, codes, all 16. All become zero.
inline void open_squares(int32_t height) {
  SquareShapes s;
  for (int i = 0; i < 8; ++i) s.row_bytes[i] = kSquareRow, s.rows[i] = uint8_t(i < 6 ? height : kSide);
  asm volatile("ldtilecfg %0" ::"m"(s));
}

// Threads that leave squares open cost the system more whenever it switches between them.
inline void close_squares() { asm volatile("tilerelease"); }

// GCC's own intrinsics want literals, and do not say that they read memory.
template <int N>
inline void clear_square() { asm volatile("tilezero %%tmm%c0" ::"i"(N)); }
template <int N>
inline void load_square(const void* from, int64_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(N), "r"(from), "r"(stride) : "memory");
}
template <int N>
inline void store_square(int32_t* to) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(N), "r"(to), "r"(int64_t(kSquareRow)) : "memory");
}
// C += A (signed) times B (unsigned): C[t][n] += sum over k of A[t][k] * B[k / 4][4 n + k % 4]
template <int C, int A, int B>
inline void multiply_squares() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

#endif

}  // namespace
}  // namespace intaglio
