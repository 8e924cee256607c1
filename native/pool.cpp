#include "pool.h"

#include <chrono>

namespace intaglio {
namespace {

constexpr auto kSpin = std::chrono::microseconds(80);
constexpr int kPausesBetweenClockReads = 64;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

bool spin(const std::atomic<int>& word, int old) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesBetweenClockReads; ++i) {
      if (word.load(std::memory_order_acquire) != old) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace

void wait_change(const std::atomic<int>& word, int old) {
  if (spin(word, old)) return;
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

void Barrier::wait() {
  if (members_ == 1) return;
  const int phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < members_) {
    wait_change(phase_, phase);
    return;
  }
  arrived_.store(0, std::memory_order_relaxed);
  phase_.store(phase + 1, std::memory_order_release);
  phase_.notify_all();
}

Pool::Pool(int members) : members_(members), barrier_(members) {
  threads_.reserve(static_cast<size_t>(members - 1));
  for (int member = 1; member < members; ++member) threads_.emplace_back(&Pool::work, this, member);
}

Pool::~Pool() {
  stop_.store(true, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::run(Body body, void* context) {
  body_ = body;
  context_ = context;
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  body(context, 0);
  barrier_.wait();  // body_ and context_ stay until the last member is done
}

void Pool::work(int member) {
  for (int round = 0;; ++round) {
    wait_change(round_, round);
    if (stop_.load(std::memory_order_relaxed)) return;
    body_(context_, member);
    barrier_.wait();
  }
}

}  // namespace intaglio
