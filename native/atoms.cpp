// The update of the atoms. Atoms follow one another, so threads share the signals of each: pieces of kPiece signals, summed
// in their order.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <thread>

#include "lanes.h"
#include "pursuit.h"

namespace intaglio {
namespace {

constexpr int32_t kPiece = 32;

struct User {
  int32_t signal;
  float* value;
};

struct Work {
  int32_t dim, stride, steps, threads;
  std::vector<float> residual, atom;  // rows at `stride`
  std::vector<std::vector<User>> users;
  std::vector<float> sums[2];  // of each piece, for this step and the next
  std::barrier<> together;

  float* row(const User& u) { return residual.data() + int64_t(u.signal) * stride; }
  int32_t pieces(int32_t atom) const { return (int32_t(users[size_t(atom)].size()) + kPiece - 1) / kPiece; }

  // f(piece, user) of this member's share of an atom's users.
  template <class F>
  INTAGLIO_LANES void share(int32_t atom, int32_t member, const F& f) {
    const auto& all = users[size_t(atom)];
    for (int32_t piece = member; piece < pieces(atom); piece += threads)
      for (size_t i = size_t(piece) * kPiece; i < std::min(all.size(), size_t(piece + 1) * kPiece); ++i) f(piece, all[i]);
  }
};

// The next direction: the sum of all pieces, of length 1. False: there is none.
INTAGLIO_LANES bool summed(Work& w, int32_t atom, const std::vector<float>& sums, float* direction) {
  std::fill_n(direction, w.stride, 0.0f);
  for (int32_t p = 0; p < w.pieces(atom); ++p) add(1, sums.data() + int64_t(p) * w.stride, direction, w.stride);
  const float length = std::sqrt(dot(direction, direction, w.stride));
  if (!(length > 1e-30f && length < 1e30f)) return false;
  for (int32_t i = 0; i < w.stride; i += kLanes) lanes(direction + i) /= length;
  return true;
}

// One member's part of every step; all members find the same directions.
INTAGLIO_CLONES void update_one(Work& w, int32_t atom, int32_t member, float* direction, float* found) {
  float* mine = w.atom.data() + int64_t(atom) * w.stride;
  std::copy_n(mine, w.stride, direction);
  w.share(atom, member, [&](int32_t, const User& u) { add(*u.value, direction, w.row(u), w.stride); });
  for (int32_t step = 0; step < w.steps; ++step) {
    auto& sums = w.sums[step % 2];
    for (int32_t p = member; p < w.pieces(atom); p += w.threads) std::fill_n(sums.data() + int64_t(p) * w.stride, w.stride, 0.0f);
    w.share(atom, member, [&](int32_t piece, const User& u) {
      add(dot(w.row(u), direction, w.stride), w.row(u), sums.data() + int64_t(piece) * w.stride, w.stride);
    });
    w.together.arrive_and_wait();
    if (!summed(w, atom, sums, found)) break;
    std::copy_n(found, w.stride, direction);
  }
  w.share(atom, member, [&](int32_t, const User& u) {
    *u.value = dot(w.row(u), direction, w.stride);
    add(-*u.value, direction, w.row(u), w.stride);
  });
  w.together.arrive_and_wait();
  if (member == 0) std::copy_n(direction, w.stride, mine);
}

}  // namespace

void update_atoms(float* atoms, int32_t k, int32_t dim, float* residual, Codes* codes, int32_t steps, int threads) {
  const int32_t stride = whole_lanes(dim);
  Work w{dim, stride, steps, threads, {}, {}, std::vector<std::vector<User>>(size_t(k)), {}, std::barrier<>(threads)};
  w.residual.resize(size_t(codes->n) * size_t(stride)), w.atom.resize(size_t(k) * size_t(stride));
  for (int32_t r = 0; r < codes->n; ++r) std::copy_n(residual + int64_t(r) * dim, dim, w.residual.begin() + int64_t(r) * stride);
  for (int32_t a = 0; a < k; ++a) std::copy_n(atoms + int64_t(a) * dim, dim, w.atom.begin() + int64_t(a) * stride);
  for (size_t i = 0; i < codes->index.size(); ++i)
    w.users[codes->index[i]].push_back({int32_t(i / size_t(codes->nonzeros)), &codes->value[i]});
  for (auto& sums : w.sums) sums.resize(size_t((codes->n + kPiece - 1) / kPiece) * size_t(stride));
  const auto work = [&](int32_t member) {
    std::vector<float> direction(static_cast<size_t>(stride)), found(static_cast<size_t>(stride));
    for (int32_t a = 0; a < k; ++a)
      if (!w.users[size_t(a)].empty()) update_one(w, a, member, direction.data(), found.data());
  };
  {
    std::vector<std::jthread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
    work(0);
  }
  for (int32_t r = 0; r < codes->n; ++r) std::copy_n(w.residual.begin() + int64_t(r) * stride, dim, residual + int64_t(r) * dim);
  for (int32_t a = 0; a < k; ++a) std::copy_n(w.atom.begin() + int64_t(a) * stride, dim, atoms + int64_t(a) * dim);
}

}  // namespace intaglio
