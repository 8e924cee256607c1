// Random models on every instruction set of this processor, held to the promises of the executor:
//   - on the plain loops with one thread the logits are the same, within what rounding to few bits lets them differ;
//   - on one instruction set they are the same *bits* for any number of threads and any cutting into steps;
//   - executors come, go, and run side by side on shared matrices without minding each other.
//
//   stress [seconds = 10] [seed = 1]      seeds count up until the time is over; 0 seconds: this seed alone
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "steps.h"

namespace intaglio::stress {
namespace {

// How far from the plain loops: of floats twice what tests/engine/test_steps.py allows, for here most kinds that a model
// draws round their inputs to 15 bits. What falls to the other side of a half moves by a whole step; of a key or value of 4
// bits that is a fifteenth of its range, and in models this small it can be seen.
constexpr float kFloatLimit = 2e-3f, kRoundedLimit = 5e-2f, kCoarseLimit = 0.5f;
constexpr int kSide = 2;  // executors side by side
constexpr int kMaxTokens = 160, kMaxContext = 1100;

// Two spans of keys, or three, so that the order in which they are merged shows.
int long_context(Random& random) {
  return random.chance(0.3) ? random.integer(2 * kKeys + 1, kMaxContext) : random.integer(kKeys + 1, kKeys + 60);
}

std::vector<Text> random_texts(Random& random, int vocab) {
  std::vector<Text> texts;
  for (int i = random.integer(3, 5); i > 0; --i) {
    Text text(size_t(i == 1 ? long_context(random) : random.integer(1, 130)));
    for (int32_t& token : text) token = random.integer(0, vocab - 1);
    texts.push_back(std::move(text));
  }
  return texts;
}

// Largest difference, relative to the largest value; infinite where something is not a number.
float apart(const Logits& a, const Logits& b) {
  float most = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    most = std::max(most, std::fabs(b[i]));
    difference = std::max(difference, std::fabs(a[i] - b[i]));
  }
  return difference / most;
}

float limit_of(const Model& m) {
  if (m.shape.kv_bits == 4) return kCoarseLimit;
  return m.integers || m.shape.kv_bits == 8 ? kRoundedLimit : kFloatLimit;
}

class Trial {
 public:
  explicit Trial(uint64_t seed) : random_(seed), seed_(seed), model_(random_, 4 << seed % 4, seed % 3 != 0) {
    texts_ = random_texts(random_, model_.shape.vocab);
  }

  // Gives the number of mixed steps, negative after a fault, which is printed.
  int run() {
    const Kernels* kernels[8];
    const int sets = supported_kernels(kernels, 8);
    const PackedModel plain_loops(model_, kernels[sets - 1]);
    const std::vector<Logits> plain = whole(plain_loops);
    int steps = 0;
    for (int i = 0; i < sets && !failed_; ++i) {
      const PackedModel packed(model_, kernels[i]);
      const std::vector<Logits> expected = whole(packed);
      compare(expected, plain, kernels[i]->name);
      if (i + 1 < sets || random_.chance(0.2)) steps += side_by_side(packed, expected);  // plain loops are slow
    }
    return failed_ ? -1 : steps;
  }

 private:
  std::vector<Logits> whole(const PackedModel& packed) {
    return score_all(*open(packed, {1, kMaxTokens, 1, kMaxContext, divide_up(kMaxContext, kPage)}), texts_);
  }

  void compare(const std::vector<Logits>& found, const std::vector<Logits>& plain, const char* isa) {
    for (size_t i = 0; i < found.size(); ++i) {
      const float by = apart(found[i], plain[i]);
      if (!(by <= limit_of(model_))) fail(isa, "logits are " + std::to_string(by) + " from those of the plain loops");
    }
  }

  int side_by_side(const PackedModel& packed, const std::vector<Logits>& expected) {
    std::vector<std::thread> threads;
    std::string faults[kSide];
    int steps[kSide] = {};
    for (int i = 0; i < kSide; ++i) {
      threads.emplace_back([&, i, seed = random_.integer(0, 1 << 30)] {
        Random random(static_cast<uint64_t>(seed));
        for (int again = 0; again < 2 && faults[i].empty(); ++again)
          steps[i] += one_executor(packed, expected, random, &faults[i]);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& fault : faults)
      if (!fault.empty()) fail(packed.kernels->name, fault);
    return steps[0] + steps[1];
  }

  int one_executor(const PackedModel& packed, const std::vector<Logits>& expected, Random& random, std::string* fault) {
    const int pages = divide_up(kMaxContext, kPage) + random.integer(0, 4);
    const auto executor = open(packed, {random.integer(1, 4), random.integer(8, kMaxTokens), random.integer(1, 6),
                                        kMaxContext, pages});
    if (random.chance(0.2)) return 0;  // made, and destroyed unused
    return run_mixed(*executor, texts_, expected, random, fault);
  }

  void fail(const char* isa, const std::string& what) {
    std::printf("FAILED seed %llu, %s, KV %d bits: %s\n", static_cast<unsigned long long>(seed_), isa,
                model_.shape.kv_bits, what.c_str());
    failed_ = true;
  }

  Random random_;
  uint64_t seed_;
  Model model_;
  std::vector<Text> texts_;
  bool failed_ = false;
};

}  // namespace
}  // namespace intaglio::stress

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  const uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  uint64_t seed = first;
  int faults = 0;
  long long steps = 0;
  do {
    const int ran = intaglio::stress::Trial(seed++).run();
    ran < 0 ? ++faults : steps += ran;
  } while (std::chrono::steady_clock::now() < end);
  std::printf("%llu models, %lld steps, %d faults\n", static_cast<unsigned long long>(seed - first), steps, faults);
  return faults ? EXIT_FAILURE : EXIT_SUCCESS;
}
