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
  int32_t threads, max_tokens, max_sequences, max_draws, max_context, pages;  // max_draws: rows of logits of a step
  int32_t vocab, layers, heads, kv_heads, head_dim, kv_bits;
  bool pin_threads = false;
};

// One step as it is asked for; `table` is chunks x kColumns, the arrays behind it are concatenated over the chunks.
// A chunk draws after each of its last kDraws tokens. Its history, if it has one, ends with its last token; the draw
// after an earlier token does not see what follows that.
struct Request {
  enum Column {
    kCount,
    kPosition,
    kPages,
    kDraws,
    kTopK,
    kHistory,
    kPrompt,    // tokens of the history that were not generated
    kBiases,
    kMasks,     // 0, or as many as it draws
    kLogprobs,  // -1, or how many likeliest tokens are wanted beside the drawn one
    kColumns
  };
  enum Setting { kTemperature, kTopP, kMinP, kRepetition, kPresence, kFrequency, kSettings };

  int32_t chunks, tokens, pages, history, biases, masks;  // lengths
  const int32_t* table;
  const int32_t* token_ids;
  const int32_t* page_ids;
  const int32_t* history_ids;
  const int32_t* bias_ids;
  const float* bias_values;
  const uint32_t* mask_words;  // masks x words_of(vocab)
  const float* settings;       // chunks x kSettings
  const uint64_t* seeds;       // chunks
};

// Where the parts of a chunk begin in the arrays of its request.
struct Offsets {
  int32_t token, page, history, bias, mask;
};

// `limits`, or a refusal when they make no sense.
const Limits& checked(const Limits& limits);

// Calls body(chunk, its row of the table, its offsets) for each chunk.
template <class F>
void each_chunk(const Request& r, F body) {
  Offsets at = {};
  for (int32_t i = 0; i < r.chunks; ++i) {
    const int32_t* row = r.table + i * Request::kColumns;
    body(i, row, at);
    at.token += row[Request::kCount];
    at.page += row[Request::kPages];
    at.history += row[Request::kHistory];
    at.bias += row[Request::kBiases];
    at.mask += row[Request::kMasks];
  }
}

// Refuses requests that reach past the limits: afterwards every index of a step lies inside the executor's memory.
class RequestCheck {
 public:
  explicit RequestCheck(const Limits& limits) : limits_(limits), written_(static_cast<size_t>(limits.pages), 0) {}
  void operator()(const Request& request);

 private:
  void check_lengths(const Request& request) const;
  void check_chunk(const Request& request, int32_t i, const int32_t* row, const Offsets& at);
  void check_draws(const Request& request, int32_t i, const int32_t* row, const Offsets& at) const;
  void check_tokens(int32_t chunk, const char* what, const int32_t* ids, int32_t n) const;
  void check_pages(int32_t chunk, int32_t position, int32_t count, const int32_t* pages, int32_t n);

  const Limits limits_;
  std::vector<int64_t> written_;  // by page: the last request that writes it
  int64_t requests_ = 0;
};

}  // namespace intaglio
