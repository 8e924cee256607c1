// A fixed crew of threads that run one body together, with barriers between its parts.
// The calling thread is member 0. Waiting spins briefly, for the parts of a step are microseconds apart,
// then parks, for a crew without work must cost nothing.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace intaglio {

// Waits until `word` differs from `old`: spins, then sleeps on the word.
void wait_change(const std::atomic<int>& word, int old);

class Barrier {
 public:
  explicit Barrier(int members) : members_(members) {}
  void wait();

 private:
  const int members_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
};

class Pool {
 public:
  using Body = void (*)(void* context, int member);

  explicit Pool(int members);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int members() const { return members_; }
  // Calls body(context, 0..members-1), one call a thread, and returns when all have returned.
  void run(Body body, void* context);
  // Inside a body: no member passes before all have arrived.
  void barrier() { barrier_.wait(); }

 private:
  void work(int member);

  const int members_;
  Barrier barrier_;
  Body body_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<int> round_{0};
  alignas(64) std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace intaglio
