#include "packed.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "isa/bilevel.h"

namespace intaglio {

void AlignedDelete::operator()(void* p) const noexcept { std::free(p); }

namespace {

constexpr std::size_t kHuge = std::size_t{1} << 21;  // a large page of memory

void ask_for_large_pages([[maybe_unused]] void* p, [[maybe_unused]] std::size_t size) {
#ifdef MADV_HUGEPAGE
  if (size) madvise(p, size, MADV_HUGEPAGE);
#endif
}

// Pages that the system gives zeroed, and whoever packs touches first: threads at once, and each byte once.
std::shared_ptr<void> mapped(std::size_t bytes) {
  const std::size_t size = (bytes + kHuge - 1) / kHuge * kHuge;
  void* whole = mmap(nullptr, size + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (whole == MAP_FAILED) throw std::bad_alloc();
  char* begin = static_cast<char*>(whole);
  const std::size_t before = (kHuge - reinterpret_cast<std::uintptr_t>(whole) % kHuge) % kHuge;
  if (before) munmap(begin, before);
  munmap(begin + before + size, kHuge - before);
  ask_for_large_pages(begin + before, size);
  return {begin + before, [size](void* p) { munmap(p, size); }};
}

// Zeroed bytes beside those of other matrices, for most of them are smaller than a large page. A shelf goes with the last
// matrix that lies on it.
std::shared_ptr<void> shelved(std::size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  return aligned_bytes(bytes);  // without neighbours, who would hide small overflows
#else
  constexpr std::size_t kShelf = 8 * kHuge;
  static std::mutex mutex;
  static std::weak_ptr<void> last;
  static std::size_t used = 0;
  if (bytes >= kHuge) return mapped(bytes);
  const std::size_t size = (bytes + 63) / 64 * 64;
  const std::lock_guard lock(mutex);
  std::shared_ptr<void> shelf = last.lock();
  if (!shelf || used + size > kShelf) last = shelf = mapped(kShelf), used = 0;
  void* at = static_cast<char*>(shelf.get()) + used;
  used += size;
  return {std::move(shelf), at};
#endif
}

}  // namespace

std::unique_ptr<void, AlignedDelete> aligned_bytes(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHuge ? kHuge : 64;
  const std::size_t size = std::max<std::size_t>((bytes + alignment - 1) / alignment * alignment, alignment);
  std::unique_ptr<void, AlignedDelete> p(std::aligned_alloc(alignment, size));
  if (!p) throw std::bad_alloc();
  ask_for_large_pages(p.get(), alignment == kHuge ? size : 0);
  std::memset(p.get(), 0, bytes);
  return p;
}

namespace {

void require(bool ok, const std::string& sentence) {
  if (!ok) throw std::invalid_argument(sentence);
}

void check_groups_fit(int32_t kind, int32_t cols, int32_t group) {
  const bool three = kind == kW3 || kind == kBilevel3;
  const std::string fitting = three ? "16 or a multiple of 32" : kind == kW2 ? "a multiple of 16" : "a multiple of 8";
  require(fits_groups(kind, cols, group), "groups must be of " + fitting + " columns, or one a row, got " + std::to_string(group));
}

std::pair<int, int> bits_of(int32_t kind) {
  switch (kind) {
    case kW2: return {2, 2};
    case kW3: return {2, 3};
    case kW8: return {5, 8};
    case kW8A8: return {8, 8};
    default: return {2, 4};
  }
}

void check_codes(const Source& s) {
  const auto [low, high] = bits_of(s.kind);
  const std::string kind = "kind " + std::to_string(s.kind);
  require(s.bits >= low && s.bits <= high, kind + " takes codes of " + std::to_string(low) + " to " +
                                               std::to_string(high) + " bits, got " + std::to_string(s.bits));
  require(s.group >= s.cols || (s.kind != kW8A8 && s.kind != kW4A8), kind + " takes one group a row");
  require(s.scale, kind + " needs scales");
  require(s.kind != kW8A8 || !s.zero, "kW8A8 takes the middle code as zero; it has no zeros of its own");
  require(!s.half_zero || (has_half_zeros(s.kind) && !s.zero), "float16 zeros belong to kW2, kW3, kW4 and kW8");
  require((s.kind == kW4A8Two) == (s.group_scale != nullptr), "group scales belong to kW4A8Two, and only to it");
}

void check_range(const uint8_t* values, int64_t n, int most, const char* what) {
  if (!values || n == 0) return;
  const int found = *std::max_element(values, values + n);
  require(found <= most, std::string(what) + " may be at most " + std::to_string(most) + ", got " + std::to_string(found));
}

}  // namespace

void check_source(const Source& s) {
  require(s.kind >= kF32 && s.kind <= kW4A8Group, "unknown kind of matrix " + std::to_string(s.kind));
  require(s.rows > 0 && s.cols > 0 && s.codes, "a matrix needs at least one row and one column");
  if (is_plain(s.kind)) return;
  check_codes(s);
  const int64_t groups = group_count(s.cols, s.group);
  check_range(s.zero, s.rows * groups, (1 << s.bits) - 1, "a zero point");
  check_range(s.group_scale, s.rows * groups, 255 / ((1 << s.bits) - 1), "a group scale");  // times a code: a byte
}

namespace {

void hold(PackedMatrix* p, std::size_t bytes) {
  p->storage = shelved(bytes);
  p->m.bytes = bytes;
  p->m.data = p->storage.get();
}

// Ascending numbers from 0 to `last`, as many as there are rows and one.
void check_offsets(const Pieces& p, int i, int64_t last) {
  const auto* offset = static_cast<const uint32_t*>(p.array[i]);
  require(p.length[i] == int64_t(p.rows) + 1 && offset[0] == 0 && offset[p.rows] == last,
          "offsets must be one more than rows, from 0 to " + std::to_string(last));
  require(std::is_sorted(offset, offset + p.rows + 1), "offsets must not fall");
}

// Numbers of columns (or of groups of them) below `end`.
void check_indices(const Pieces& p, int i, int64_t end) {
  const auto* index = static_cast<const uint16_t*>(p.array[i]);
  require(std::all_of(index, index + p.length[i], [&](uint16_t c) { return c < end; }),
          "an index must be below " + std::to_string(end));
}

// Kept blocks: their arrays as long as there are blocks; as wide as vectors are, and not past the padding of activations.
void check_blocks(const Pieces& p) {
  require(p.group == 16 || p.group == 32 || p.group == 64, "a block has 16, 32 or 64 columns, got " + std::to_string(p.group));
  const int64_t blocks = p.length[1], weights = blocks * p.group;
  check_offsets(p, 0, blocks);
  check_indices(p, 1, div_up(p.cols, p.group));
  if (p.kind == kBsr16) return require(p.length[2] == weights, "a block's values must be as many as its columns");
  require(p.length[2] == weights / 2 && p.length[3] == blocks && p.length[4] == blocks,
          "a block is codes of 4 bits, a scale and a zero");
  check_range(static_cast<const uint8_t*>(p.array[4]), blocks, 15, "a zero point");
}

// Places within blocks of m columns, n in each, and their values. Behind the last column kernels see zeros.
void check_nm(const Pieces& p) {
  const int32_t n = p.group >> 8, m = p.group & 255;
  require((m == 4 || m == 8 || m == 16) && n >= 1 && n <= m, "n:m must be of m 4, 8 or 16, got " + std::to_string(n) + ":" +
                                                                 std::to_string(m));
  const int64_t kept = div_up(p.cols, m) * n * p.rows;
  require(p.length[0] == kept && p.length[1] == kept, "places and values must be " + std::to_string(kept));
  require(p.kind == kNm || p.length[2] == p.rows, "a scale is needed for each row");
  const auto* place = static_cast<const uint8_t*>(p.array[0]);
  require(std::all_of(place, place + kept, [&](uint8_t c) { return c < m; }), "a place must be below " + std::to_string(m));
}

void check_bilevel(const Pieces& p) {
  require(p.group > 0, "groups must be of at least one column, got " + std::to_string(p.group));
  check_groups_fit(p.kind, p.cols, p.group);
  const int64_t groups = group_count(p.cols, p.group), rows = p.rows;
  require(p.length[0] == rows * p.cols && p.length[1] == rows * groups && p.length[2] == div_up(rows, kRun) * groups * 4,
          "a code is needed for each weight, a statistic for each row and group, a range for each run and group");
  check_range(static_cast<const uint8_t*>(p.array[0]), p.length[0], p.kind == kBilevel3 ? 7 : 15, "a code");
}

// A bit for each element, none behind the last column, and a value for each that is set.
void check_bitmask(const Pieces& p) {
  const auto* mask = static_cast<const uint8_t*>(p.array[0]);
  const int64_t bytes = div_up(p.cols, 8);
  require(p.length[0] == p.rows * bytes, "a mask has a bit for each element of a row, in whole bytes");
  const int behind = 0xff & ~(0xff >> (8 * bytes - p.cols));
  for (int64_t r = 0; r < p.rows; ++r) require(!(mask[(r + 1) * bytes - 1] & behind), "a mask has a bit behind its last column");
  const int64_t set = std::transform_reduce(mask, mask + p.length[0], int64_t(0), std::plus<>(),
                                            [](uint8_t b) { return int64_t(std::popcount(b)); });
  require(set == p.length[1], "a mask of " + std::to_string(set) + " bits needs as many values, got " + std::to_string(p.length[1]));
}

void check_trits(const Pieces& p) {
  require(p.group > 0, "trits need groups of at least one column");
  const int64_t tables = p.rows * group_count(p.cols, p.group), planes = p.length[1] / tables;
  require(planes >= 1 && planes <= 3 && p.length[1] == planes * tables, "trits have scales of 1 to 3 planes");
  require(p.length[0] == planes * p.rows * div_up(p.cols, 5), "trits have a byte for five digits of a row");
  check_range(static_cast<const uint8_t*>(p.array[0]), p.length[0], 242, "five digits of base 3");
}

// Codes of 4 bits, of 6 and of 8, each in whole groups or in all columns that are left.
void check_groups(const Pieces& p) {
  const int64_t rows = p.rows, width[2] = {p.length[0] / rows, p.length[1] / rows}, wide = p.length[2] / rows;
  require(p.group > 0 && (p.group % 8 == 0 || p.group >= p.cols),
          "groups must be of a multiple of 8 columns, got " + std::to_string(p.group));
  require(wide <= p.cols && p.length[2] == wide * rows && (wide == 0 || (p.cols - wide) % p.group == 0),
          "codes of 8 bits must fill whole groups");
  const int64_t some = p.cols - wide, few = width[1] ? 2 * width[0] : some;
  require(few <= some && p.length[1] == div_up((some - few) * 6, 8) * rows && (few == some || few % p.group == 0),
          "codes of 6 bits must fill whole groups");
  require(few == some || p.group % 16 == 0 || p.group >= p.cols,
          "codes of 6 bits must have groups of a multiple of 16 columns, got " + std::to_string(p.group));
  require(p.length[0] == div_up(few, 2) * rows, "codes of 4 bits must fill the other columns");
  require(p.length[3] == group_count(p.cols, p.group) * rows, "a scale is needed for each group of each row");
}

void check_pieces(const Pieces& p) {
  require(p.rows > 0 && p.cols > 0, "a matrix needs at least one row and one column");
  switch (p.kind) {
    case kCsr:
      require(p.length[1] == p.length[2], "a column is needed for each value");
      check_offsets(p, 0, p.length[1]);
      return check_indices(p, 1, p.cols);
    case kLookup:
      require(p.group >= 2 && p.group <= 4, "lookup takes codes of 2 to 4 bits, got " + std::to_string(p.group));
      require(p.length[0] == p.rows * div_up(int64_t(p.cols) * p.group, 8), "codes must be a dense bit stream a row");
      return require(p.length[1] == int64_t(p.rows) << p.group, "a table of 2^bits entries is needed for each row");
    case kBsr4:
    case kBsr16: return check_blocks(p);
    case kEvenRows:
      require(p.group > 0 && p.length[0] == int64_t(p.rows) * p.group && p.length[0] == p.length[1],
              "every row needs as many columns as values");
      return check_indices(p, 0, p.cols);
    case kBlockDiagonal: {
      require(p.group > 0, "blocks need a width");
      const int64_t blocks = div_up(p.cols, p.group);
      require(p.rows % blocks == 0 && p.length[0] == p.rows / blocks * p.cols, "rows must divide among the blocks");
      return;
    }
    case kNm:
    case kNm8: return check_nm(p);
    case kBilevel3:
    case kBilevel4: return check_bilevel(p);
    case kBitmask: return check_bitmask(p);
    case kTrits: return check_trits(p);
    case kGroups: return check_groups(p);
    default: require(false, "kind " + std::to_string(p.kind) + " is no structure");
  }
}

}  // namespace

PackedMatrix lay_matrix(const Kernels* k, const Pieces& pieces) {
  check_pieces(pieces);
  PackedMatrix p;
  p.k = k;
  p.m = {pieces.kind, pieces.rows, pieces.cols, pieces.group, 0, nullptr};
  hold(&p, k->lay(&pieces, nullptr));
  k->lay(&pieces, p.m.data);
  return p;
}

PackedMatrix pack_matrix(const Kernels* k, std::span<const Source> parts, int threads) {
  require(!parts.empty(), "a matrix needs at least one part");
  const Source& first = parts[0];
  int64_t rows = 0;
  for (const Source& s : parts) {
    check_source(s);
    if (!is_plain(s.kind)) check_groups_fit(s.kind, s.cols, s.group);
    require(s.kind == first.kind && s.cols == first.cols && s.group == first.group,
            "parts stacked into one matrix must share kind, columns and group");
    rows += s.rows;
  }
  require(rows <= INT32_MAX, "a matrix has at most 2^31 - 1 rows");
  PackedMatrix p;
  p.k = k;
  p.m = {first.kind, int32_t(rows), first.cols, std::min(first.group, first.cols), 0, nullptr};
  hold(&p, k->matrix_bytes(p.m.kind, p.m.rows, p.m.cols, p.m.group));

  const int64_t tiles = div_up(rows, k->tile);
  const int64_t n = std::clamp<int64_t>(threads, 1, tiles);
  const auto share = [&](int64_t i) { return int32_t(std::min<int64_t>(rows, tiles * i / n * k->tile)); };
  std::vector<std::jthread> workers;
  for (int64_t i = 1; i < n; ++i)
    workers.emplace_back([&, i] { k->pack(&p.m, parts.data(), int32_t(parts.size()), share(i), share(i + 1)); });
  k->pack(&p.m, parts.data(), int32_t(parts.size()), 0, share(1));
  workers.clear();  // joins
  return p;
}

namespace {

float decode_at(const Source& s, int32_t row, int32_t i) {
  const uint8_t* codes = row_codes(s, row);
  if (is_plain(s.kind)) return plain_at(s.kind, codes, i);
  const int64_t g = i / s.group, scales = scale_count(s.kind, s.cols, s.group);
  const float level = float(code_at(codes, i, s.bits)) - zero_at(s, row, g);
  const int32_t step = s.group_scale ? s.group_scale[row * group_count(s.cols, s.group) + g] : 1;
  return s.scale[row * scales + (scales == 1 ? 0 : g)] * (float(step) * level);
}

}  // namespace

std::vector<float> decode(const Source& s) {
  std::vector<float> w(std::size_t(s.rows) * std::size_t(s.cols));
  for (int32_t r = 0; r < s.rows; ++r)
    for (int32_t i = 0; i < s.cols; ++i) w[std::size_t(r) * std::size_t(s.cols) + std::size_t(i)] = decode_at(s, r, i);
  return w;
}

}  // namespace intaglio
