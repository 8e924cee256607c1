"""How codes are found: `solver.solve(w, terms, metric) -> Coded`."""

from __future__ import annotations

from intaglio.solvers.clip import Clip
from intaglio.solvers.greedy import Greedy
from intaglio.solvers.kmeans import KMeans
from intaglio.solvers.obs import Obs

Solver = Greedy | Obs | KMeans

__all__ = ["Clip", "Greedy", "KMeans", "Obs", "Solver"]
