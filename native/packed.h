// A matrix repacked for one instruction set, owning its bytes. For the executor and the bindings.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "kernels.h"

namespace intaglio {

struct AlignedDelete {
  void operator()(void* p) const noexcept;
};

struct PackedMatrix {
  Matrix m{};
  const Kernels* k = nullptr;
  std::shared_ptr<void> storage;
};

// `bytes` zeroed bytes, 64-byte aligned (2 MiB for large ones, so that streams cross few pages); throws std::bad_alloc.
std::unique_ptr<void, AlignedDelete> aligned_bytes(std::size_t bytes);

// Throws std::invalid_argument with a sentence when a source breaks a limit of its kind (bits, tables, largest zero
// point; largest code * group scale within a byte). Packing asks besides for groups of a multiple of 8 columns.
void check_source(const Source& source);

// Parts (same kind, cols and group) stacked by rows. Packs on `threads` threads. Keeps nothing of the sources.
PackedMatrix pack_matrix(const Kernels* k, std::span<const Source> parts, int threads);

// A structure; throws std::invalid_argument with a sentence when an index or an offset leaves its array.
PackedMatrix lay_matrix(const Kernels* k, const Pieces& pieces);

// W as float32, row-major (rows, cols): the meaning of a source.
std::vector<float> decode(const Source& source);

}  // namespace intaglio
