// Which of all pairs of a coded scale and a coded zero a group's weights err least with.
#pragma once
#include <cstdint>
#include <vector>

namespace intaglio {

// A group of each of n outputs: x (inputs, n), and what every code of a scale, of a zero means to each output, scales and
// zeros (their codes, n). A weight rounded to scale * (0..highest - zero) costs the square of its error times cost (inputs),
// but no more than `limit`. Of pairs that cost the same the first is taken, zeros turning faster: its index for each output.
std::vector<uint16_t> best_pairs(const float* x, const float* cost, int32_t inputs, const float* scales, int32_t scale_codes,
                                 const float* zeros, int32_t zero_codes, int32_t n, float highest, float limit);

}  // namespace intaglio
