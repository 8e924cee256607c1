// numpy arrays across the border: types, shapes and sizes are checked here before a pointer is taken.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <time.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "packed.h"

namespace nb = nanobind;

namespace intaglio {

template <class T>
using Array1 = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Array2 = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes2 = Array2<uint8_t>;
using Floats1 = Array1<float>;
using Floats2 = Array2<float>;

inline void require(bool ok, const std::string& sentence) {
  if (!ok) throw std::invalid_argument(sentence);
}

inline const Kernels* kernels(const std::string& isa) {
  const Kernels* k = find_kernels(isa.c_str());
  if (k) return k;
  const Kernels* list[8];
  std::string known;
  for (int32_t i = 0, n = supported_kernels(list, 8); i < n; ++i) known += std::string(i ? ", " : "") + list[i]->name;
  throw std::invalid_argument("this build and processor run " + known + "; not '" +
                              (isa.empty() ? "the value of INTAGLIO_ISA" : isa) + "'");
}

// Moves a vector into a numpy array of the given shape.
template <class T>
nb::ndarray<nb::numpy, T> numpy(std::vector<T>&& values, std::initializer_list<size_t> shape) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::ndarray<nb::numpy, T>(owned->data(), shape.size(), shape.begin(), owner);
}

inline int32_t dim32(size_t n) {
  require(n <= size_t(INT32_MAX), "a dimension may be at most 2^31 - 1");
  return int32_t(n);
}

template <class A>
void check_table(const std::optional<A>& table, int64_t rows, int64_t columns, const char* name) {
  if (!table) return;
  require(int64_t(table->shape(0)) == rows && int64_t(table->shape(1)) == columns,
          std::string(name) + " must have shape (" + std::to_string(rows) + ", " + std::to_string(columns) + "), got (" +
              std::to_string(table->shape(0)) + ", " + std::to_string(table->shape(1)) + ")");
}

// Of the calling thread: others on the machine disturb it least.
inline double processor_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// size, bits, kept, kept_bits, clip
using Rounded = std::tuple<int32_t, int32_t, int32_t, int32_t, float>;

inline Rounding rounding(const Rounded& r) {
  const auto& [size, bits, kept, kept_bits, clip] = r;
  require(size > 0 && bits >= 2 && bits <= 8 && kept >= 0 && kept_bits >= 2 && kept_bits <= 8 && clip > 0.01f && clip <= 1,
          "a rounding has groups of at least one channel, 2 to 8 bits, and a clip in (0.01, 1]");
  return {size, bits, kept, kept_bits, clip};
}

inline int64_t padded(int64_t cols) { return (cols + 63) / 64 * 64; }

}  // namespace intaglio
