// Threads for work of a moment; the executor's own stay (pool.h).
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace intaglio {

// Calls what `worker()` gives each thread, itself one of them, with every number below n, whoever is free the next.
template <class Worker>
void one_by_one(int32_t n, int threads, const Worker& worker) {
  std::atomic<int32_t> next{0};
  const auto work = [&] {
    auto one = worker();
    for (int32_t i; (i = next.fetch_add(1)) < n;) one(i);
  };
  std::vector<std::jthread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
}  // joins the others

}  // namespace intaglio
