"""How codes are found: `solver.solve(w, terms, metric) -> Coded`."""

from __future__ import annotations

from intaglio.solvers.clip import Clip
from intaglio.solvers.greedy import Greedy
from intaglio.solvers.ksvd import Ksvd
from intaglio.solvers.obs import Obs

Solver = Greedy | Obs | Ksvd

__all__ = ["Clip", "Greedy", "Ksvd", "Obs", "Solver"]
