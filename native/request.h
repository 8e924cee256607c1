// One step as it is asked for, and what is refused of it: everything is checked here, before anything runs.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace intaglio {

// Throws std::invalid_argument with the parts joined to a sentence.
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::string sentence;
  const auto append = [&](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>) {
      sentence += std::to_string(part);
    } else {
      sentence += part;
    }
  };
  (append(parts), ...);
  throw std::invalid_argument(sentence);
}

void check_range(const char* what, int64_t value, int64_t low, int64_t high);

// Everything that fixes the size of the executor's memory.
struct Limits {
  int32_t threads, max_tokens, max_sequences, max_context, pages;
  int32_t vocab, layers, heads, kv_heads, head_dim, kv_bits;
};

// One step as it is asked for; `table` is chunks x kColumns, the arrays behind it are concatenated over the chunks.
struct Request {
  enum Column { kCount, kPosition, kPages, kSample, kTopK, kHistory, kColumns };

  int32_t chunks, tokens, pages, history;  // lengths
  const int32_t* table;
  const int32_t* token_ids;
  const int32_t* page_ids;
  const int32_t* history_ids;
  const float* settings;  // chunks x (temperature, top_p, min_p, repetition_penalty)
  const uint64_t* seeds;  // chunks
};

// `limits`, or a refusal when they make no sense.
const Limits& checked(const Limits& limits);

// Calls body(chunk, first token, first page, first of the history) for each chunk.
template <class F>
void each_chunk(const Request& r, F body) {
  int32_t first = 0, page = 0, history = 0;
  for (int32_t i = 0; i < r.chunks; ++i) {
    body(i, first, page, history);
    const int32_t* row = r.table + i * Request::kColumns;
    first += row[Request::kCount];
    page += row[Request::kPages];
    history += row[Request::kHistory];
  }
}

// Refuses requests that reach past the limits: afterwards every index of a step lies inside the executor's memory.
class RequestCheck {
 public:
  explicit RequestCheck(const Limits& limits) : limits_(limits), written_(static_cast<size_t>(limits.pages), 0) {}
  void operator()(const Request& request);

 private:
  void check_lengths(const Request& request) const;
  void check_chunk(const Request& request, int32_t i, int32_t first, int32_t page0, int32_t history0);
  void check_pages(int32_t chunk, int32_t position, int32_t count, const int32_t* pages, int32_t n);

  const Limits limits_;
  std::vector<int64_t> written_;  // by page: the last request that writes it
  int64_t requests_ = 0;
};

}  // namespace intaglio
