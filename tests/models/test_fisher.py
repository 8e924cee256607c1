"""The Fisher information: that of differentiating the whole model at once, squared per sequence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from intaglio.compression import fisher
from intaglio.models import roles, transformer
from intaglio.models.checkpoint import Checkpoint
from tests.engine.small import plain

WANTED = frozenset({roles.site(0, "q"), roles.site(0, "down"), roles.site(1, "up")})


def loss_gradients(checkpoint: Checkpoint, tokens: Tensor) -> dict[str, Tensor]:
    """d loss / d W of the mean loss over all sequences, by the whole model at once."""
    spec, outer = checkpoint.spec, transformer.outer_weights(checkpoint)
    layers = [transformer.layer_weights(checkpoint, i) for i in range(spec.num_layers)]
    leaves = {}
    for name in WANTED:
        layer, inside = int(name.split(".")[2]), name.split(".", 3)[3]
        leaves[name] = layers[layer][f"{inside}.weight"].requires_grad_()
    h = transformer.embed(spec, outer, tokens)
    for i, w in enumerate(layers):
        h = transformer.block(spec, i, w, h)
    logits = transformer.head(spec, outer, h)
    loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("case", ["llama-biased", "gemma2"])
def test_it_is_the_mean_of_each_sequences_squares(
    case: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = plain(case)
    tokens = torch.randint(checkpoint.spec.vocab_size, (3, 12), generator=torch.Generator().manual_seed(0))
    each = [loss_gradients(checkpoint, one[None]) for one in tokens]
    directory = tmp_path_factory.mktemp("run") / "fisher"
    with torch.no_grad():  # as a run is
        fisher.measure(checkpoint, tokens.numpy(), WANTED, directory)
    found = {**fisher.read(directory, 0), **fisher.read(directory, 1)}
    assert found.keys() == WANTED
    together = loss_gradients(checkpoint, tokens)
    for name in WANTED:
        expected = torch.stack([one[name].square() for one in each]).mean(0)
        assert torch.allclose(found[name], expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
        assert not math.isclose(float(found[name].sum()), float(together[name].square().sum()), rel_tol=0.1)
    assert sorted(path.name for path in directory.iterdir()) == [
        f"{i:05d}.safetensors" for i in range(checkpoint.spec.num_layers)
    ]
