// Threads that help the calling one through rounds of work. A round does not wait for them: who wakes late finds
// less to do, or nothing, so a helper that the system runs elsewhere delays nobody. Waiting spins briefly, for the
// parts of a round are microseconds apart, then parks, for a crew without work must cost nothing.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace intaglio {

// Whether `word` has reached `target`, in the order of wrapping counters.
inline bool reached(const std::atomic<int32_t>& word, int32_t target) {
  const auto value = static_cast<uint32_t>(word.load(std::memory_order_acquire));
  return static_cast<int32_t>(value - static_cast<uint32_t>(target)) >= 0;
}

// Waits until `word` has reached `target`: spins, then sleeps on the word.
void wait_until(const std::atomic<int32_t>& word, int32_t target);

// Sets `word` and wakes who sleeps on it.
void publish(std::atomic<int32_t>& word, int32_t value);

class Pool {
 public:
  // Called by each helper (members 1, 2, ...) for each round it is awake for, perhaps when that is long over.
  using Body = void (*)(void* context, int member, int32_t round);

  // `pinned`: helper i stays on the i-th of the processors this process may use; where the caller runs is its own affair.
  Pool(int members, bool pinned, Body body, void* context);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Begins the next round and gives its number.
  int32_t start();
  int32_t next_round() const { return round_.load(std::memory_order_relaxed) + 1; }

 private:
  void work(int member);

  const Body body_;
  void* const context_;
  alignas(64) std::atomic<int32_t> round_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace intaglio
