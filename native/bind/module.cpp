// The Python module intaglio._native: kernels for tests and explain, and the step executor.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

void bind_kernels(nb::module_& m);
void bind_executor(nb::module_& m);
void bind_sampler(nb::module_& m);
void bind_solvers(nb::module_& m);

NB_MODULE(_native, m) {
  m.doc() = "Intaglio's native core";
  bind_kernels(m);
  bind_executor(m);
  bind_sampler(m);
  bind_solvers(m);
}
