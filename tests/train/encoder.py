"""A small encoder, and a task it learns in seconds: name the token at the place that the first one says."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

HIDDEN, TOKENS, LENGTH = 64, 12, 10


class Block(nn.Module):
    """Attention of four heads, then an MLP, after a norm each."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.qkv, self.o = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.up, self.down = nn.Linear(HIDDEN, 2 * HIDDEN), nn.Linear(2 * HIDDEN, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in self.qkv(self.before(x)).chunk(3, -1))
        x = x + self.o(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(torch.relu(self.up(self.between(x))))


class Encoder(nn.Module):
    """Two blocks; the first place's output, compared with a vector of each token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(TOKENS, HIDDEN), nn.Embedding(TOKENS, HIDDEN)
        self.places = nn.Parameter(0.5 * torch.randn(LENGTH, HIDDEN))
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.embedding(tokens) + self.places)
        return 0.3 * x[:, 0] @ self.head.weight.T


def examples(count: int, gen: torch.Generator) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(TOKENS, (count, LENGTH), generator=gen)
    return tokens, tokens.gather(1, tokens[:, :1] % (LENGTH - 1) + 1)[:, 0]


def task(model: nn.Module, seed: int) -> Callable[[int], Tensor]:
    """The loss of a batch for each step."""
    gen = torch.Generator().manual_seed(seed)

    def loss(step: int) -> Tensor:
        tokens, answers = examples(64, gen)
        return nn.functional.cross_entropy(model(tokens), answers)

    return loss


def trained(seed: int, steps: int) -> Encoder:
    torch.manual_seed(seed)
    model = Encoder()
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=2e-3), task(model, seed)
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    return model


def quality(model: nn.Module) -> tuple[float, float]:
    """Accuracy and loss on examples that none was trained on."""
    tokens, answers = examples(2000, torch.Generator().manual_seed(999))
    with torch.no_grad():
        logits = copy.deepcopy(model).eval()(tokens)
        right = (logits.argmax(1) == answers).float().mean()
        return float(right), float(nn.functional.cross_entropy(logits, answers))
