"""How codes are found: `solver.solve(w, terms, metric) -> Coded`."""

from __future__ import annotations

from intaglio.solvers.clip import Clip
from intaglio.solvers.greedy import Greedy
from intaglio.solvers.obs import Obs
from intaglio.solvers.prune import Prune

Solver = Greedy | Obs | Prune

__all__ = ["Clip", "Greedy", "Obs", "Prune", "Solver"]
