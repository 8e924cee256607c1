#include "steps.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace intaglio::stress {
namespace {

bool penalises(const Sampling& s) {
  return s.repetition_penalty != 1 || s.presence_penalty != 0 || s.frequency_penalty != 0;
}

// A step under construction.
struct Batch {
  std::vector<int32_t> table, tokens, pages, history;
  std::vector<float> settings;
  std::vector<uint64_t> seeds;
  int chunks = 0;

  void add(const Text& text, int position, int count, const std::vector<int32_t>& table_of_pages, int draws,
           const Sampling& s) {
    const int seen = draws && penalises(s) ? position + count : 0;
    table.insert(table.end(), {count, position, int32_t(table_of_pages.size()), draws, s.top_k, seen, seen / 2, 0, 0, -1});
    tokens.insert(tokens.end(), text.begin() + position, text.begin() + position + count);
    pages.insert(pages.end(), table_of_pages.begin(), table_of_pages.end());
    history.insert(history.end(), text.begin(), text.begin() + seen);
    settings.insert(settings.end(), {s.temperature, s.top_p, s.min_p, s.repetition_penalty, s.presence_penalty,
                                     s.frequency_penalty});
    seeds.push_back(s.seed);
    ++chunks;
  }

  Request request() const {
    return {chunks,         int32_t(tokens.size()), int32_t(pages.size()), int32_t(history.size()), 0,       0,
            table.data(),   tokens.data(),          pages.data(),          history.data(),          nullptr, nullptr,
            nullptr,        settings.data(),        seeds.data()};
  }
};

constexpr Sampling kGreedy = {0, 1, 0, 1, 0, 0, 0, 0};

Sampling random_sampling(Random& random) {
  Sampling s = kGreedy;
  s.seed = uint64_t(random.integer(0, 1 << 30));
  if (random.chance(0.5)) s.temperature = 0.7f, s.top_k = random.integer(0, 20), s.top_p = 0.9f, s.min_p = 0.01f;
  if (random.chance(0.3)) s.repetition_penalty = 1.2f, s.presence_penalty = 0.3f, s.frequency_penalty = 0.1f;
  return s;
}

// Decodes, short and long pieces of prompts, up to all that is left.
int random_count(Random& random, int most) {
  const int kind = random.integer(0, 9);
  const int count = kind < 4 ? 1 : kind < 6 ? random.integer(2, 9) : kind < 9 ? random.integer(10, 80) : most;
  return std::min(count, most);
}

// A text on its way through the executor.
struct Sequence {
  const Text* text;
  const Logits* expected;
  std::vector<int32_t> pages;
  int position = 0;
};

struct Draw {
  const Sequence* of;
  int position;   // of the last token before it
  int generated;  // where the generated tokens of its history begin
  Sampling sampling;
};

class Mixer {
 public:
  Mixer(Executor& executor, const std::vector<Text>& texts, const std::vector<Logits>& expected, Random& random)
      : executor_(executor), limits_(executor.limits()), random_(random) {
    for (size_t i = 0; i < texts.size(); ++i) waiting_.push_back({&texts[i], &expected[i], {}, 0});
    for (int32_t page = 0; page < limits_.pages; ++page) free_.push_back(page);
  }

  int run(std::string* fault) {
    int steps = 0;
    while (fault->empty() && (!waiting_.empty() || !live_.empty())) {
      admit();
      if (!step(fault)) continue;
      ++steps;
      retire();
      if (random_.chance(0.05)) check_refusal(fault);
      // Long enough for helpers to park, or not.
      if (random_.chance(0.2)) std::this_thread::sleep_for(std::chrono::microseconds(random_.integer(0, 300)));
    }
    return steps;
  }

 private:
  void admit() {
    while (!waiting_.empty() && int(live_.size()) < limits_.max_sequences) {
      const size_t need = size_t(divide_up(int32_t(waiting_.back().text->size()), kPage));
      if (need > free_.size()) break;
      live_.push_back(std::move(waiting_.back()));
      waiting_.pop_back();
      for (size_t i = 0; i < need; ++i) live_.back().pages.push_back(take_page());
    }
  }

  int32_t take_page() {
    std::swap(free_[size_t(random_.integer(0, int(free_.size()) - 1))], free_.back());
    const int32_t page = free_.back();
    free_.pop_back();
    return page;
  }

  // False when the dice left the step without chunks.
  bool step(std::string* fault) {
    Batch batch;
    std::vector<Draw> draws;
    for (Sequence& s : live_) {
      const int room = limits_.max_tokens - int(batch.tokens.size());
      if (room == 0 || random_.chance(0.3)) continue;
      const int left = int(s.text->size()) - s.position, count = random_count(random_, std::min(room, left));
      const int most = std::min(count, limits_.max_draws - int(draws.size()));
      const int rows = random_.chance(0.3) ? random_.integer(0, most) : count == left || random_.chance(0.7) ? std::min(1, most) : 0;
      const Sampling sampling = random_sampling(random_);
      batch.add(*s.text, s.position, count, s.pages, rows, sampling);
      s.position += count;
      for (int i = s.position - rows; i < s.position; ++i) draws.push_back({&s, i, s.position / 2, sampling});
    }
    if (batch.chunks == 0) return false;
    compare(executor_.step(batch.request()), draws, fault);
    return true;
  }

  void compare(int drawn, const std::vector<Draw>& draws, std::string* fault) {
    if (size_t(drawn) != draws.size()) return (void)(*fault = "a step drew another number of tokens than asked");
    const auto vocab = size_t(limits_.vocab);
    for (size_t i = 0; i < draws.size(); ++i) {
      const Draw& d = draws[i];
      const float* expected = d.of->expected->data() + size_t(d.position) * vocab;
      const std::string where = " after position " + std::to_string(d.position) + " of " +
                                std::to_string(d.of->text->size());
      if (std::memcmp(executor_.logits_of(int32_t(i)), expected, vocab * sizeof(float)))
        *fault = "logits differ from those of the whole text" + where;
      else if (executor_.draws().token[i] != draw_again(expected, d))
        *fault = "a draw differs from one made alone" + where;
    }
  }

  int32_t draw_again(const float* logits, const Draw& d) {
    const auto vocab = size_t(limits_.vocab), blocks = size_t(blocks_of(limits_.vocab));
    std::vector<float> copy(vocab), maxima(blocks), sums(blocks);
    std::vector<Candidate> candidates(vocab);
    std::vector<int32_t> said(vocab);
    const int seen = penalises(d.sampling) ? d.position + 1 : 0;
    const Context context{d.position, d.of->text->data(), seen, std::min(seen, d.generated), nullptr, nullptr, 0, nullptr};
    return sample(logits, limits_.vocab, d.sampling, context,
                  {copy.data(), candidates.data(), said.data(), maxima.data(), sums.data()});
  }

  void retire() {
    std::erase_if(live_, [&](const Sequence& s) {
      const bool done = s.position == int(s.text->size());
      if (done) free_.insert(free_.end(), s.pages.begin(), s.pages.end());
      return done;
    });
  }

  // A request that reaches past the limits is refused, and leaves no trace in the steps that follow.
  void check_refusal(std::string* fault) {
    Batch batch;
    const bool token = random_.chance(0.5);  // else a position
    const Text text(size_t(limits_.max_context) + 1, token ? limits_.vocab : 0);
    batch.add(text, token ? 0 : limits_.max_context - 1, 2, {0}, 1, kGreedy);
    try {
      executor_.step(batch.request());
      *fault = "a senseless request was taken";
    } catch (const std::invalid_argument&) {
    }
  }

  Executor& executor_;
  const Limits limits_;
  Random& random_;
  std::vector<Sequence> waiting_, live_;
  std::vector<int32_t> free_;
};

}  // namespace

std::vector<Logits> score_all(Executor& executor, const std::vector<Text>& texts) {
  const Limits& limits = executor.limits();
  std::vector<Logits> all;
  for (const Text& text : texts) {
    std::vector<int32_t> pages;
    for (int32_t page = 0; page < divide_up(int32_t(text.size()), kPage); ++page) pages.push_back(page);
    Logits logits(text.size() * size_t(limits.vocab));
    for (int at = 0; at < int(text.size()); at += limits.max_tokens) {
      Batch batch;
      batch.add(text, at, std::min(limits.max_tokens, int(text.size()) - at), pages, 0, kGreedy);
      executor.score(batch.request(), logits.data() + size_t(at) * size_t(limits.vocab));
    }
    all.push_back(std::move(logits));
  }
  return all;
}

int run_mixed(Executor& executor, const std::vector<Text>& texts, const std::vector<Logits>& expected, Random& random,
              std::string* fault) {
  return Mixer(executor, texts, expected, random).run(fault);
}

}  // namespace intaglio::stress
