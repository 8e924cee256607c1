"""Factorized: a linear layer trained straight through its factorization (DSFormer, 2312.13211)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from intaglio import _native
from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.solvers.ksvd import Ksvd
from intaglio.terms import Coded, DenseSparse, Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

RIDGE = 1e-5  # of a vector's own square: two of a basis may be alike


class Factorized(torch.nn.Module):
    """y = x (codes bases)^T + bias, the codes being those of a latent W (out, in) in every forward pass.

    The gradient of the product goes to W as it is, so that W moves freely and with it the choice of vectors;
    to the bases it goes through the product, the codes held constant. Every `every` training passes the
    places of the codes are chosen anew, in between their values fitted. After `freeze` there is no W, and the
    codes are trained.
    """

    def __init__(self, linear: torch.nn.Linear, term: DenseSparse, every: int = 10) -> None:
        super().__init__()
        w = linear.weight.detach().float()
        self.term, self.every, self.age = term, every, 0
        self.shape = (w.shape[0], w.shape[1])
        self.layout = term.codes(self.shape)
        bases, codes = term.factors(self.shape)
        self.basis, self.nonzeros, self.per_bin = term.sizes(self.shape)
        self.blocks = codes.shape[1] // self.basis
        state = Ksvd().solve(w, (term,), Metric()).term_state(0)
        columns, values = self.layout.parts(codes.state(state), codes.shape)
        self.latent: torch.nn.Parameter | None = torch.nn.Parameter(w.clone())
        self.bases = torch.nn.Parameter(torch.from_numpy(bases.state(state)["value"].astype(np.float32)))
        self.codes: Tensor | torch.nn.Parameter = self._by_block(torch.from_numpy(values.astype(np.float32)))
        self.places = self._by_block(torch.from_numpy(columns.astype(np.int64))) % self.basis
        self.bias = None if linear.bias is None else torch.nn.Parameter(linear.bias.detach().float().clone())
        self.changed = 0.0  # the share of places that the last choice changed

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return torch.nn.functional.linear(x, self.weight(), self.bias)

    def weight(self) -> Tensor:
        """codes bases (out, in)."""
        if self.latent is None:
            return self._product(self.codes)
        with torch.no_grad():
            if self.training:
                if self.age % self.every == 0:
                    self._choose(self.latent)
                self.age += 1
            self.codes = self._fitted(self.latent)
        return self._product(self.codes) + (self.latent - self.latent.detach())

    def distance(self) -> Tensor:
        """Mean square of W less what stands for it: its gradient pulls W towards what can be represented."""
        if self.latent is None:
            return torch.zeros(())
        return (self.latent - self._product(self.codes).detach()).square().mean()

    def freeze(self) -> None:
        """From now on the codes are trained where they are, and W is gone."""
        if self.latent is None:
            return
        with torch.no_grad():
            fitted = self._fitted(self.latent)
        self.latent = None
        del self.codes
        self.codes = torch.nn.Parameter(fitted)

    def coded(self) -> Coded:
        """As it is stored and executed; frozen before."""
        assert self.latent is None, "freeze first"
        bases, codes = self.term.factors(self.shape)
        columns = self._by_row(self.places + torch.arange(self.blocks)[:, None, None] * self.basis)
        values = to_numpy(self._by_row(self.codes.detach()))
        stored = self.layout.store(columns.numpy().astype(np.uint16), values, codes.shape[1])
        state = {**bases.rename({"value": to_numpy(self.bases.detach().half())}), **codes.rename(stored)}
        bias = None if self.bias is None else to_numpy(self.bias)
        return Coded(self.shape, (self.term,), {f"0.{name}": a for name, a in state.items()}, bias=bias)

    def _choose(self, w: Tensor) -> None:
        """Places of the codes by orthogonal matching pursuit."""
        before = self.places
        found = []
        for block, basis in zip(self._split(w), self._split(self.bases), strict=True):
            unit = basis / basis.norm(dim=1, keepdim=True).clamp(min=1e-12)
            gram, correlations = to_numpy(unit @ unit.T), to_numpy((block @ unit.T).contiguous())
            places, _ = _native.pursue(gram, correlations, self.nonzeros, per_bin=self.per_bin)
            found.append(torch.from_numpy(places.astype(np.int64)))
        self.places = torch.stack(found)
        self.changed = float(
            (self._chosen(before) != self._chosen(self.places)).float().sum() / 2 / before.numel()
        )

    def _chosen(self, places: Tensor) -> Tensor:
        return torch.zeros(*places.shape[:2], self.basis).scatter_(2, places, 1.0)

    def _fitted(self, w: Tensor) -> Tensor:
        """The codes of least squares at their places, (blocks, out, nonzeros)."""
        bases = self._split(self.bases)
        gram = bases @ bases.mT + torch.diag_embed(
            RIDGE * bases.square().sum(-1) + 1e-12
        )  # (blocks, basis, basis)
        block = torch.arange(self.blocks)[:, None, None, None]
        among = gram[block, self.places[..., :, None], self.places[..., None, :]]
        with_w = (self._split(w) @ bases.mT).gather(2, self.places)
        fitted: Tensor = torch.linalg.solve(among, with_w[..., None])[..., 0]
        return fitted

    def _product(self, codes: Tensor) -> Tensor:
        dense = torch.zeros(self.blocks, self.shape[0], self.basis).scatter(2, self.places, codes)
        product = dense @ self._split(self.bases)  # (blocks, out, width)
        return product.transpose(0, 1).reshape(self.shape[0], -1)[:, : self.shape[1]]

    def _split(self, w: Tensor) -> Tensor:
        """(rows, in) -> (blocks, rows, width), the last block filled up with zeros."""
        missing = self.blocks * self.term.width - w.shape[1]
        return torch.nn.functional.pad(w, (0, missing)).reshape(len(w), self.blocks, -1).transpose(0, 1)

    def _by_block(self, codes: Tensor) -> Tensor:
        """(out, blocks * nonzeros) -> (blocks, out, nonzeros)."""
        return codes.reshape(len(codes), self.blocks, -1).transpose(0, 1).contiguous()

    def _by_row(self, codes: Tensor) -> Tensor:
        return codes.transpose(0, 1).reshape(self.shape[0], -1).contiguous()
