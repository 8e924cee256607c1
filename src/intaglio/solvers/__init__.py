"""How codes are found: `solver.solve(w, terms, metric) -> Coded`."""

from __future__ import annotations

from intaglio.solvers.alternate import Alternate
from intaglio.solvers.clip import Clip
from intaglio.solvers.greedy import Greedy
from intaglio.solvers.group_obs import GroupObs
from intaglio.solvers.group_prune import GroupPrune
from intaglio.solvers.hqq import Hqq
from intaglio.solvers.kmeans import KMeans
from intaglio.solvers.ksvd import Ksvd
from intaglio.solvers.obs import Obs
from intaglio.solvers.prune import Prune
from intaglio.solvers.ptqtp import Ptqtp
from intaglio.solvers.spqr import Spqr

Solver = Greedy | Obs | Hqq | KMeans | Spqr | Prune | GroupPrune | GroupObs | Ptqtp | Alternate | Ksvd

__all__ = [
    "Alternate",
    "Clip",
    "Greedy",
    "GroupObs",
    "GroupPrune",
    "Hqq",
    "KMeans",
    "Ksvd",
    "Obs",
    "Prune",
    "Ptqtp",
    "Solver",
    "Spqr",
]
