#include "roof.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "packed.h"

namespace intaglio {
namespace {

using Clock = std::chrono::steady_clock;

// Units of work a second of all threads together: each starts when all are there, calls work(thread) -> units until the
// time is over, and counts what it did by its own clock.
template <class Work>
double rate(int threads, double seconds, const Work& work) {
  std::barrier ready(threads);
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const auto run = [&](int thread) {
    work(thread);  // warm
    ready.arrive_and_wait();
    const auto start = Clock::now();
    double units = 0, passed = 0;
    while (passed < seconds) {
      units += static_cast<double>(work(thread));
      passed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    rates[static_cast<std::size_t>(thread)] = units / passed;
  };
  std::vector<std::jthread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(run, i);
  run(0);
  others.clear();  // joins
  double total = 0;
  for (const double r : rates) total += r;
  return total;
}

}  // namespace

double read_bandwidth(const Kernels* k, int threads, std::size_t nbytes, double seconds) {
  const auto buffer = aligned_bytes(nbytes);
  std::memset(buffer.get(), 1, nbytes);
  const std::size_t share = nbytes / static_cast<std::size_t>(threads) / 64 * 64;
  return rate(threads, seconds, [&](int thread) {
    int32_t out[16];
    k->read(static_cast<const char*>(buffer.get()) + static_cast<std::size_t>(thread) * share, static_cast<int64_t>(share), out);
    return share;
  });
}

double int8_peak(const Kernels* k, int threads, double seconds) {
  alignas(64) uint8_t codes[1024];
  alignas(64) int8_t q[1024];
  for (int i = 0; i < 1024; ++i) codes[i] = static_cast<uint8_t>(i % 16), q[i] = static_cast<int8_t>(i % 127);
  return rate(threads, seconds, [&](int) {
    int32_t out[16];
    return k->peak(codes, q, 1 << 14, out);
  });
}

}  // namespace intaglio
