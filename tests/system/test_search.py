"""TASDER's search: what it takes, when it stops, what becomes of it."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

import intaglio
from intaglio import terms
from intaglio.compression.blocks import task
from intaglio.compression.search import most, searched
from intaglio.compression.ways import Move, taken
from intaglio.compression.workers import solve
from intaglio.engine import score
from intaglio.engine.executor import Executor
from intaglio.engine.sampling import Sampling
from intaglio.errors import IntaglioError, UsageError
from intaglio.export import export
from intaglio.formats import Floating, Largest
from intaglio.models import open_checkpoint, roles, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.density import pseudo_density
from intaglio.models.observe import Observation
from intaglio.recipe import Recipe, Rule, assign, load_recipe, sites
from intaglio.solvers import Prune
from intaglio.terms import NM, Coded, Dense, Metric
from intaglio.types import Array
from tests.engine.small import generate
from tests.system.small import SET, save_model


def windows(count: int = 8) -> Array:
    return np.random.default_rng(0).integers(4, 60, (count, 32))


def model(directory: Path) -> Checkpoint:
    """Of its matrices `down` has two of every eight inputs, without loss."""
    checkpoint = open_checkpoint(save_model(directory))
    sparse = {}
    for layer in range(checkpoint.spec.num_layers):
        name = roles.site(layer, "down")
        w = terms.decode(checkpoint.linears[name])
        kept = terms.decode(Prune("magnitude").solve(w, (NM(2, 8),), Metric()))
        plain = {"0.value": kept.half().numpy()}
        sparse[name] = Coded(checkpoint.linears[name].shape, (Dense(Floating()),), plain)
    return checkpoint.replace(sparse)


def ways(checkpoint: Checkpoint, recipe: Recipe) -> dict[str, str]:
    found = assign(recipe, sites(checkpoint.spec))
    return {name: "+".join(f"{t.n}:{t.m}" for t in rule.terms) for name, rule in found.items()}  # type: ignore[union-attr]


def test_a_move_is_made_if_it_makes_its_matrix_smaller() -> None:
    moves = [Move("a", 0, 0.1, 50), Move("b", 1, 0.2, 30), Move("a", 2, 0.3, 60), Move("b", 0, 0.4, 20)]
    assert taken(moves[:0]) == {}
    assert taken(moves[:3]) == {"a": 0, "b": 1}
    assert taken(moves) == {"a": 0, "b": 0}


@pytest.mark.parametrize("limit", [0, 1, 37, 99, 100])
def test_the_bound_is_found_by_few_questions(limit: int) -> None:
    asked: list[int] = []

    def allowed(count: int) -> bool:
        asked.append(count)
        return count <= limit

    assert most(100, 20, allowed) == limit
    assert len(asked) <= 1 + math.ceil(math.log2(100))
    assert limit - 100 / 2**4 <= most(100, 5, allowed) <= limit


def test_what_is_sparse_already_is_found(tmp_path: Path) -> None:
    checkpoint = model(tmp_path)
    recipe = load_recipe("tasder", ["search.within=0.000001"])
    found = searched(checkpoint, recipe, windows())
    assert found.search is None
    chosen = ways(checkpoint, found)
    assert {chosen[roles.site(layer, "down")] for layer in range(3)} == {"2:8"}


def test_what_counts_is_the_loss_not_a_matrix_s_own_output(tmp_path: Path) -> None:
    """A matrix that adds next to nothing to the stream: of its own output it would lose what others do."""
    checkpoint = open_checkpoint(save_model(tmp_path))
    name = roles.site(1, "down")
    faint = terms.decode(checkpoint.linears[name]) * 1e-3
    source = Coded(checkpoint.linears[name].shape, (Dense(Floating()),), {"0.value": faint.half().numpy()})
    recipe = load_recipe("tasder", ["search.within=0.002"])
    checkpoint = checkpoint.replace({name: source})
    assert ways(checkpoint, searched(checkpoint, recipe, spoken(checkpoint, 16), threads=1))[name] == "1:8"


def test_a_wide_bound_takes_the_cheapest_everywhere(tmp_path: Path) -> None:
    checkpoint = model(tmp_path)
    found = searched(checkpoint, load_recipe("tasder", ["search.within=1000"]), windows())
    assert set(ways(checkpoint, found).values()) == {"1:8"}
    assert len(ways(checkpoint, found)) == 7 * checkpoint.spec.num_layers


def test_what_a_run_finds_is_written_as_rules(tmp_path: Path) -> None:
    source = save_model(tmp_path / "model")
    report = intaglio.compress(
        source, "tasder", tmp_path / "out", set=(*SET, "search.within=0.02", "limits.kl=100"), threads=1
    )
    coded = open_checkpoint(tmp_path / "out")
    assert report.coverage.coded == report.coverage.targeted > 0
    assert {type(term) for name in coded.linears for term in coded.linears[name].terms} == {Dense, NM}
    again = intaglio.compress(
        source, tmp_path / "out" / "recipe.yaml", tmp_path / "again", set=SET, threads=1
    )
    assert again.sites == report.sites


def test_a_model_that_was_pruned_and_exported_is_searched_as_any_other(tmp_path: Path) -> None:
    source, pruned, plain = (tmp_path / name for name in ("model", "pruned", "plain"))
    two_of_eight = ("weights.0.terms.nm.m=8", "limits.kl=100")
    intaglio.compress(save_model(source), "wanda-2of4", pruned, set=(*SET, *two_of_eight), threads=1)
    export(pruned, plain, dense=True)
    menu = ("search.menu=[[{type: nm, n: 2, m: 8}]]", "search.within=0.000001")
    report = intaglio.compress(plain, "tasder", tmp_path / "out", set=(*SET, *menu), threads=1)
    assert [site.error for site in report.sites] == [0] * 21


def test_impossible_searches_are_refused(tmp_path: Path) -> None:
    for other in ("search.inputs=[{n: 2, m: 4}]", "search.menu=[]"):
        with pytest.raises(UsageError, match="by `menu` or of their `inputs`: give one of the two"):
            load_recipe("tasder", [other])
    with pytest.raises(UsageError, match="goes with no transforms"):
        load_recipe("tasder", ["transforms=[{type: rotate}]"])
    with pytest.raises(IntaglioError, match="at least 4 calibration windows, got 3"):
        searched(model(tmp_path), load_recipe("tasder"), windows(3))


def spoken(checkpoint: Checkpoint, count: int) -> Array:
    """Windows that the model drew itself, so that whatever changes it makes them less likely."""
    executor = Executor(checkpoint, threads=1, max_context=64, max_sequences=1)
    said = [generate(executor, [4 + i], 31, params=Sampling(temperature=1.0, seed=i)) for i in range(count)]
    return np.array([[4 + i, *tokens] for i, tokens in enumerate(said)])


def perplexity(checkpoint: Checkpoint, text: Array) -> float:
    executor = Executor(checkpoint, threads=1, max_context=64, max_sequences=1)
    lost = [score.nll(executor.logits(one)[:-1], one[1:]) for one in text.astype(np.int32)]
    return math.exp(float(np.concatenate(lost).mean()))


def coded(checkpoint: Checkpoint, recipe: Recipe, text: Array) -> Checkpoint:
    """The model by the recipe's rules."""
    spec, rules, made = checkpoint.spec, assign(recipe, sites(checkpoint.spec)), {}
    x = transformer.embed(spec, transformer.outer_weights(checkpoint), torch.from_numpy(text))
    for layer in range(spec.num_layers):
        w = transformer.layer_weights(checkpoint, layer)
        seen = Observation(spec, layer, w, [x])
        for point, members in roles.INPUTS.items():
            for role in members:
                if rule := rules.get(name := roles.site(layer, role)):
                    metric = Metric(seen.hessian(point))
                    made[name] = solve(task(rule, w, roles.LINEARS[role], metric, name))
        x = transformer.block(spec, layer, w, x)
    return checkpoint.replace(made)


def test_what_is_found_keeps_the_bound_with_less_than_any_single_way(tmp_path: Path) -> None:
    """On the windows that it asked."""
    checkpoint = model(tmp_path)
    text, recipe = spoken(checkpoint, 16), load_recipe("tasder")
    assert recipe.search is not None
    seen, asked = np.delete(text, np.s_[::4], axis=0), text[::4]
    bound = (1 + recipe.search.within) * perplexity(checkpoint, asked)
    mine = coded(checkpoint, searched(checkpoint, recipe, text, threads=1), seen)
    assert perplexity(mine, asked) <= bound * (1 + 1e-6)
    single = [
        coded(checkpoint, structs.replace(recipe, weights=(rule,), search=None), seen)
        for rule in (Rule(terms=way, solver=recipe.search.solver) for way in recipe.search.menu)
    ]
    kept = [one.nbytes for one in single if perplexity(one, asked) <= bound]
    assert mine.nbytes < min([checkpoint.nbytes, *kept])


INPUTS = ["search.menu=[]", "search.inputs=[{n: 6, m: 8}, {n: 4, m: 8}, {n: 2, m: 8}, {n: 1, m: 8}]"]


def kept(checkpoint: Checkpoint, recipe: Recipe) -> dict[str, Fraction]:
    """Of every matrix in a layer the share of its inputs that it reads."""
    found = assign(recipe, sites(checkpoint.spec))
    forms = {name: rule.activation for name, rule in found.items()}
    assert all(isinstance(form, Largest) for form in forms.values())
    return {name: Fraction(form.n, form.m) for name, form in forms.items()}  # type: ignore[union-attr]


def densities(checkpoint: Checkpoint, text: Array) -> dict[str, float]:
    """The pseudo-density of what every matrix in a layer reads."""
    spec, found = checkpoint.spec, {}
    x = transformer.embed(spec, transformer.outer_weights(checkpoint), torch.from_numpy(text))
    for layer in range(spec.num_layers):
        w = transformer.layer_weights(checkpoint, layer)
        seen = Observation(spec, layer, w, [x])
        for point, members in roles.INPUTS.items():
            found |= {
                roles.site(layer, role): pseudo_density(seen.rows(point, x.numel())) for role in members
            }
        x = transformer.block(spec, layer, w, x)
    return found


@pytest.mark.parametrize("within", [0.1, 1000])
def test_inputs_are_thinned_by_one_margin_beyond_their_own_sparsity(within: float, tmp_path: Path) -> None:
    """TASDER's rule: each gets the cheapest way with 1 - d <= z + alpha, whatever alpha the bound allows."""
    checkpoint = open_checkpoint(save_model(tmp_path))
    text = spoken(checkpoint, 16)
    recipe = load_recipe("tasder", [*INPUTS, f"search.within={within}", "search.steps=32"])
    found = searched(checkpoint, recipe, text, threads=1)
    chosen, dense = kept(checkpoint, found), densities(checkpoint, np.delete(text, np.s_[::4], axis=0))
    menu = [Fraction(n, 8) for n in (6, 4, 2, 1)]
    margin = max(dense[name] - share for name, share in chosen.items())
    for name, density in dense.items():
        allowed = [share for share in menu if density - share < margin - 1e-6]
        assert chosen.get(name, 1) <= min(allowed, default=1), name
    assert perplexity(thinned(checkpoint, found), text[::4]) <= (1 + within) * perplexity(
        checkpoint, text[::4]
    )
    assert (set(chosen.values()) == {menu[-1]} and len(chosen) == 21) == (within == 1000)


def thinned(checkpoint: Checkpoint, recipe: Recipe) -> Checkpoint:
    rules = assign(recipe, sites(checkpoint.spec))
    linears = checkpoint.linears
    return checkpoint.replace(
        {name: replace(linears[name], activation=rule.activation) for name, rule in rules.items()}
    )


def test_a_run_writes_what_inputs_become(tmp_path: Path) -> None:
    source = save_model(tmp_path / "model")
    intaglio.compress(
        source,
        "tasder",
        tmp_path / "out",
        set=(*SET, *INPUTS, "search.within=1000", "limits.kl=100"),
        threads=1,
    )
    coded = open_checkpoint(tmp_path / "out")
    inside = [one for name, one in coded.linears.items() if name.startswith("model.layers.")]
    assert {(one.activation, one.is_plain) for one in inside} == {(Largest(1, 8), True)}
