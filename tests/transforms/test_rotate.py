from __future__ import annotations

import pytest
import torch

from intaglio.models import transformer
from intaglio.models.observe import Observation
from intaglio.transforms import Rotate
from tests.models.tiny import tokens
from tests.transforms.small import inside, rewrite, small

IDS = tokens(24, batch=2)


def peak(x: torch.Tensor) -> float:
    """Largest channel over the average one."""
    return float(x.max() / x.mean())


def observed(spec, weights, index: int) -> Observation:
    x = transformer.embed(spec, weights, IDS)
    for before in range(index):
        x = transformer.block(spec, before, inside(weights, before), x)
    return Observation(spec, index, inside(weights, index), [x])


@pytest.mark.parametrize("kind", ["hadamard", "random"])
@pytest.mark.parametrize("case", ["llama", "llama-tied"])
def test_outlier_channels_of_the_stream_are_spread(case: str, kind: str) -> None:
    spec, weights = small(case)
    weights["model.embed_tokens.weight"][:, [3, 17]] *= 40
    after = rewrite([Rotate(kind=kind)], spec, weights, IDS)
    for index in range(spec.num_layers):
        for point in ("attention_in", "mlp_in"):
            before, now = (peak(observed(spec, w, index).absmax(point)) for w in (weights, after))
            assert before > 3
            assert now < 2


def test_outlier_channels_of_v_are_spread_unless_told_otherwise() -> None:
    spec, weights = small("llama-biased")
    weights["model.layers.0.self_attn.v_proj.weight"][5] *= 40
    peaks = {
        heads: peak(observed(spec, rewrite([Rotate(heads=heads)], spec, weights, IDS), 0).absmax("o_in"))
        for heads in (True, False)
    }
    assert peaks[True] < peaks[False] / 3


def test_a_tied_table_is_stored_once_and_untouched() -> None:
    spec, weights = small("llama-tied")
    after = rewrite([Rotate()], spec, weights, IDS)
    assert after["model.embed_tokens.weight"] is weights["model.embed_tokens.weight"]
    assert "lm_head.weight" not in after
    square = (spec.hidden_size, spec.hidden_size)
    assert {name: after[name].shape for name in after.keys() - weights.keys()} == {
        "model.embed_proj.weight": square,
        "model.head_proj.weight": square,
    }


def test_an_untied_model_gains_no_tensor() -> None:
    spec, weights = small("qwen2")
    assert rewrite([Rotate()], spec, weights, IDS).keys() == weights.keys()


@pytest.mark.parametrize("case", ["llama-biased", "llama-tied"])
def test_gains_are_folded(case: str) -> None:
    spec, weights = small(case)
    after = rewrite([Rotate()], spec, weights, IDS)
    norms = [w for name, w in after.items() if name.endswith("norm.weight")]
    assert len(norms) == 2 * spec.num_layers + 1
    assert all(torch.equal(w, torch.ones_like(w)) for w in norms)


@pytest.mark.parametrize(("case", "name"), [("gemma2", "Gemma2"), ("olmo2", "Olmo2"), ("gemma3", "Gemma3")])
def test_post_norms_are_refused_in_a_sentence(case: str, name: str) -> None:
    sentence = Rotate().refuses(small(case)[0])
    assert sentence is not None
    assert sentence.startswith(f"rotate: {name}ForCausalLM normalises")
