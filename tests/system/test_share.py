"""One dictionary for matrices that read the same input: coded together, stored once, half the cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import intaglio
from intaglio.compression import Event, InterruptedRunError, share
from intaglio.compression.workers import Here, Task
from intaglio.engine.executor import Executor
from intaglio.errors import UsageError
from intaglio.evaluation import layers
from intaglio.export import export
from intaglio.models import artifact, open_checkpoint, roles
from intaglio.recipe import Rule, load_recipe
from intaglio.solvers import Ksvd
from intaglio.terms import Coded, Dictionary, Metric, decode
from tests.system.small import SET, contents, save_model

QUICK = (*SET, "weights.0.solver.sweeps=2", "limits.kl=100", "limits.perplexity=1e9")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), "llama-biased", num_hidden_layers=2)


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out"
    compress(model, output)
    return output


def compress(model: Path, output: Path, **options: object) -> intaglio.Report:
    return intaglio.compress(model, "cospadi-shared", output, set=QUICK, threads=1, **options)  # type: ignore[arg-type]


def subspaces(out: int, cols: int, seed: int = 0) -> tuple[torch.Tensor, Metric]:
    """Rows of several small subspaces, and correlated inputs."""
    gen = torch.Generator().manual_seed(seed)
    kinds = [
        torch.randn(out // 4, cols // 8, generator=gen) @ torch.randn(cols // 8, cols, generator=gen)
        for _ in range(4)
    ]
    x = torch.randn(400, cols, generator=gen) @ torch.randn(cols, cols, generator=gen)
    return torch.cat(kinds) + 0.1 * torch.randn(out, cols, generator=gen), Metric(x.T @ x / len(x))


def solved(matrices: dict[str, torch.Tensor], rule: Rule, metric: Metric) -> dict[str, Coded]:
    return share.solve([[Task(rule, w, None, metric, name) for name, w in matrices.items()]], Here())


def test_one_dictionary_for_two_identical_matrices_is_as_close_at_half_its_cost() -> None:
    w, metric = subspaces(64, 64)
    solver = Ksvd(sweeps=12, picks=1, tolerance=0)
    alone = solved({"a": w}, Rule(terms=(Dictionary(0.4),), solver=solver), metric)["a"]
    both = Dictionary(1 - 0.6 / 1.5)  # at these sizes as many atoms for two as those for one
    pair = solved({"a": w, "b": w}, Rule(terms=(both,), solver=solver, share=True), metric)
    assert {one.notes["atoms"] for one in pair.values()} == {alone.notes["atoms"]}
    assert all(one.notes["error"] <= 1.02 * alone.notes["error"] for one in pair.values())
    atoms = alone.state["0.atoms.value"].nbytes
    assert sum(one.nbytes for one in pair.values()) == 2 * alone.nbytes - atoms


def test_each_matrix_has_the_error_that_is_its_own() -> None:
    (w, metric), (other, _) = subspaces(64, 64), subspaces(32, 64, seed=1)
    rule = Rule(terms=(Dictionary(0.3),), solver=Ksvd(sweeps=2), share=True)
    matrices = {"a": w, "b": 3 * other}
    found = solved(matrices, rule, metric)
    for name, one in found.items():
        error = metric.relative(matrices[name], matrices[name] - decode(one))
        assert one.notes["error"] == pytest.approx(error, rel=1e-6)
    assert found["a"].notes["error"] != found["b"].notes["error"]


def test_matrices_of_different_rules_do_not_share() -> None:
    (w, metric), term = subspaces(32, 32), Dictionary(0.3)
    rules = [Rule(terms=(term,), solver=Ksvd(sweeps=n), share=n < 3) for n in (1, 2, 1, 3, 3)]
    tasks = [Task(rule, w, None, metric, f"{i}") for i, rule in enumerate(rules)]
    found = share.solve([tasks, [tasks[0]._replace(name="other input")]], Here())
    assert {name: one.shared for name, one in found.items() if one.shared} == {"2": "0"}
    assert found["other input"].terms == found["1"].terms == (term,)


def test_a_run_says_and_stores_what_it_shares(model: Path, whole: Path) -> None:
    found, plain = artifact.read(whole), open_checkpoint(model)
    v, up = (found.linears[roles.site(1, role)] for role in ("v", "up"))
    assert (v.shared, up.shared) == (roles.site(1, "q"), roles.site(1, "gate"))
    assert v.bias is not None
    linears = [roles.site(layer, role) for layer in range(2) for role in roles.LINEARS]
    stored = sum(found.linears[name].nbytes - found.linears[name].bias.nbytes for name in linears)  # type: ignore[union-attr]
    weights = sum(plain.linears[name].shape[0] * plain.linears[name].shape[1] for name in linears)
    assert 0.7 * 2 * weights < stored < 0.85 * 2 * weights


def test_the_report_counts_every_matrix_as_coded(model: Path, tmp_path: Path) -> None:
    report = compress(model, tmp_path / "out")
    assert report.coverage.targeted == report.coverage.coded == 14
    assert report.nbytes == artifact.read(tmp_path / "out").nbytes
    bits = {site.name: site.bits_per_weight for site in report.sites}
    assert bits[roles.site(0, "k")] < bits[roles.site(0, "q")]
    assert all(site.error > 0 for site in report.sites)


def test_every_matrix_can_be_written_plain(whole: Path, tmp_path: Path) -> None:
    export(artifact.read(whole), tmp_path / "out", dense=True)
    coded, plain = artifact.read(whole).linears, open_checkpoint(tmp_path / "out").linears
    for name in (roles.site(1, role) for role in roles.LINEARS):
        np.testing.assert_allclose(decode(plain[name]), decode(coded[name]), rtol=1e-3, atol=1e-3)


def test_a_layer_alone_can_be_exchanged(model: Path, whole: Path) -> None:
    plain, coded = open_checkpoint(model), artifact.read(whole)
    tokens = np.arange(40, dtype=np.int32) % plain.spec.vocab_size
    one, both = (
        Executor(each, threads=1, max_context=64).logits(tokens)
        for each in (plain.with_layer(1, coded), coded)
    )
    found = layers.measure(coded, plain, [tokens], lambda *progress: None)
    assert [result.layer for result in found] == [0, 1]
    assert all(result.kl_mean > 0 for result in found)
    assert np.abs(one - both).max() > 0


class Interrupt:
    """Ctrl-C after the first block."""

    def __call__(self, event: Event) -> None:
        if event.done == 1:
            raise KeyboardInterrupt


def test_an_interrupted_run_continues_to_the_same_bytes(model: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        compress(model, tmp_path / "out", progress=Interrupt())
    compress(model, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == contents(whole)


def test_processes_write_the_same_bytes(model: Path, whole: Path, tmp_path: Path) -> None:
    compress(model, tmp_path / "out", jobs=2)
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["weights.0.terms=[{type: low_rank, rank: 4}]"], "the terms are low_rank"),
        (
            ["weights.0.terms=[{type: dictionary}, {type: outliers}]"],
            "of one dictionary alone: the terms are dictionary, outliers",
        ),
        (["weights.0.terms=[]"], "the terms are none"),
        (["weights.0.terms=[{type: dictionary, rows: 9}]"], "says itself how many `rows`"),
        (["weights.0.order=power"], "no `order`"),
        (["weights.0.metric=fisher"], "`fisher`"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        load_recipe("cospadi-shared", changes)
    assert caught.value.exit_code == 2
