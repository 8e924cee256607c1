// Texts fed to an executor in random steps, and what must come out whatever the steps were.
#pragma once
#include <string>
#include <vector>

#include "model.h"

namespace intaglio::stress {

using Text = std::vector<int32_t>;
using Logits = std::vector<float>;  // tokens x vocab

// Every token's logits of each text, one text after another, in chunks as large as the executor takes.
std::vector<Logits> score_all(Executor& executor, const std::vector<Text>& texts);

// Runs all texts to their ends in random mixes of chunks over few pages, which are used again and again. Compares
// the logits of every drawn token with `expected`, bit by bit, and the draw with one made from them here.
// Gives the number of steps, and in `fault` what went wrong, if anything did.
int run_mixed(Executor& executor, const std::vector<Text>& texts, const std::vector<Logits>& expected, Random& random,
              std::string* fault);

}  // namespace intaglio::stress
