// What learning a dictionary spends its time with: finding the few atoms of each signal, and improving the atoms.
// Every sum has an order of its own, whatever the number of threads.
#pragma once
#include <cstdint>
#include <vector>

namespace intaglio {

// Codes of n signals, `nonzeros` each: indices of atoms, rising in a signal, and their coefficients.
struct Codes {
  int32_t n, nonzeros;
  std::vector<uint16_t> index;
  std::vector<float> value;
};

// Orthogonal matching pursuit by Gram matrices alone (Batch-OMP, Rubinstein et al. 2008): gram (atoms, atoms) of the atoms,
// each of length 1, and correlations (n, atoms) of the signals with them. Atoms are chosen `picks` at a time, by the largest
// correlation with what is left, then all coefficients so far are fitted anew. Atoms that the chosen ones span get 0.
// Of each bin of `per_bin` atoms, one after the other, at most one is chosen: nonzeros <= atoms / per_bin, which must be whole.
Codes pursue(const float* gram, int32_t atoms, const float* correlations, int32_t n, int32_t nonzeros, int32_t per_bin,
             int32_t picks, int threads);

// K-SVD's update of one atom after the other (Aharon et al. 2006): atom and coefficients become the best matrix of rank 1
// of what the others leave of the signals that use it, by `steps` steps of the power method from the atom as it is.
// atoms (k, dim) and residual = signals - codes * atoms (n, dim) are overwritten.
void update_atoms(float* atoms, int32_t k, int32_t dim, float* residual, Codes* codes, int32_t steps, int threads);

}  // namespace intaglio
