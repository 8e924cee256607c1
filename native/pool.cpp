#include "pool.h"

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

#include <chrono>

namespace intaglio {
namespace {

constexpr auto kSpin = std::chrono::microseconds(60);
constexpr int kPausesBetweenClockReads = 64;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

bool spin(const std::atomic<int32_t>& word, int32_t target) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesBetweenClockReads; ++i) {
      if (reached(word, target)) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// Keeps `thread` on the nth processor of those the caller may use.
void pin(std::thread& thread, int n) {
#ifdef __linux__
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  n %= CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || n-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(thread.native_handle(), sizeof one, &one);
    return;
  }
#else
  static_cast<void>(thread);
  static_cast<void>(n);
#endif
}

}  // namespace

void wait_until(const std::atomic<int32_t>& word, int32_t target) {
  if (reached(word, target) || spin(word, target)) return;
  for (int32_t seen; seen = word.load(std::memory_order_acquire), !reached(word, target);) word.wait(seen);
}

void publish(std::atomic<int32_t>& word, int32_t value) {
  word.store(value, std::memory_order_release);
  word.notify_all();
}

Pool::Pool(int members, bool pinned, Body body, void* context) : body_(body), context_(context) {
  threads_.reserve(static_cast<size_t>(members - 1));
  for (int member = 1; member < members; ++member) {
    threads_.emplace_back(&Pool::work, this, member);
    if (pinned) pin(threads_.back(), member);
  }
}

Pool::~Pool() {
  stop_.store(true, std::memory_order_relaxed);
  publish(round_, next_round());
  for (std::thread& thread : threads_) thread.join();
}

int32_t Pool::start() {
  const int32_t round = next_round();
  publish(round_, round);
  return round;
}

void Pool::work(int member) {
  for (int32_t done = 0;;) {
    wait_until(round_, done + 1);
    done = round_.load(std::memory_order_acquire);  // rounds slept through are over
    if (stop_.load(std::memory_order_relaxed)) return;
    body_(context_, member, done);
  }
}

}  // namespace intaglio
