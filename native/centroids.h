// Weighted k-means of numbers on a line, exactly: clusters are intervals of the sorted numbers, and which is a matter of
// dynamic programming (Wang and Song 2011) over divide and conquer, since where the last interval begins only moves one way
// (Grønlund et al. 2017): count * n * log(n) steps a row instead of starts and iterations that may end anywhere.
#pragma once
#include <cstdint>
#include <vector>

namespace intaglio {

// Centers (rows, count), rising, with the least sum of weights * squared distances to the closest; of values (rows, n), all
// finite, and their weights, none negative. Where fewer numbers than centers weigh anything, each is a center and the last
// repeated; where none does, centers are 0.
std::vector<float> centroids(const float* values, const float* weights, int32_t rows, int32_t n, int32_t count, int threads);

}  // namespace intaglio
