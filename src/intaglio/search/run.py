"""The search: measure, choose, and say what was chosen as a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from intaglio.compression import InterruptedRunError, outer, plan
from intaglio.compression.calibration import Windows, draw
from intaglio.compression.key import key
from intaglio.compression.report import versions
from intaglio.compression.run import working
from intaglio.engine.executor import count_threads
from intaglio.errors import UsageError
from intaglio.evaluation.measure import Progress, silent
from intaglio.models import open_checkpoint, roles, scheme
from intaglio.models.checkpoint import Checkpoint
from intaglio.recipe import Recipe
from intaglio.search import integer_program, rules, text
from intaglio.search.candidates import Candidate, left_out, named
from intaglio.search.measure import Layer, Measurement
from intaglio.search.problem import Problem
from intaglio.search.request import Request
from intaglio.search.result import Found
from intaglio.search.seconds import rest
from intaglio.types import Array


def search(request: Request, progress: Progress = silent) -> Found:
    """The best choice under the request's limits; measurements that were kept are not made again."""
    candidates = named(request.candidates)
    integer_program.ready()
    checkpoint = open_checkpoint(request.model)
    plan.check_weights(checkpoint)
    with working(request.threads):
        layers = _measured(request, checkpoint, candidates, progress)
    threads = count_threads(request.threads)
    problem = Problem(
        layers,
        [candidate.name for candidate in candidates],
        outside_bytes(checkpoint, candidates[0]),
        rest(checkpoint, threads),
        scheme.parameters(checkpoint),
        threads,
    )
    return _found(request, checkpoint, candidates, problem)


def outside_bytes(checkpoint: Checkpoint, candidate: Candidate) -> int:
    """Of what an artifact stores beside the layers' matrices, whatever is chosen for these."""
    recipe = Recipe(name="outside", source="", summary="", weights=(candidate.rule,))
    changed = outer.code(plan.make(checkpoint, recipe).coding, checkpoint).linears
    inside = {roles.site(i, role) for i in range(checkpoint.spec.num_layers) for role in roles.LINEARS}
    matrices = (
        changed.get(name) or checkpoint.linears[name] for name in checkpoint.linears if name not in inside
    )
    return sum(one.nbytes for one in matrices) + sum(vector.nbytes for vector in checkpoint.vectors.values())


def _measured(
    request: Request, checkpoint: Checkpoint, candidates: Sequence[Candidate], progress: Progress
) -> list[Layer]:
    windows = _windows(request, checkpoint)
    observed, scored = windows.tokens[: -request.windows], windows.tokens[-request.windows :]
    depends_on = {
        "model": checkpoint.fingerprint,
        "text": windows.text,
        "calibration": repr(request.calibration),
        "windows": request.windows,
        "candidates": repr(candidates),
        "versions": versions(),
    }
    directory = request.kept / f"measured-{key(**depends_on)}"
    measurement = Measurement(checkpoint, candidates, observed, scored, directory, progress)
    try:
        return measurement.layers()
    except KeyboardInterrupt:
        count, of = measurement.finished(), checkpoint.spec.num_layers
        kept = f"{count} of {of} measured layers are kept in {directory}: the same command goes on"
        raise InterruptedRunError(f"interrupted; {kept}") from None


def _windows(request: Request, checkpoint: Checkpoint) -> Windows:
    """Those to observe, and at the end those to score, which nothing was fitted to."""
    settings = request.calibration
    wanted = replace(settings, samples=settings.samples + request.windows)
    windows = draw(checkpoint, request.text or settings.text, wanted)
    count, scored = len(windows.tokens), request.windows
    if count <= scored:
        raise UsageError(
            f"a search needs at least {scored + 1} windows of {settings.seq_len} tokens (--windows {scored} "
            f"to measure losses on, and one to observe), {windows.name} has {count}: "
            "give a longer text, or a smaller --seq-len or --windows"
        )
    return windows


def _found(
    request: Request, checkpoint: Checkpoint, candidates: Sequence[Candidate], problem: Problem
) -> Found:
    chosen: Array = problem.solve(request)
    point = problem.point("chosen", chosen)
    groups = dict(zip(problem.groups, (candidates[i] for i in chosen), strict=True))
    counts = ", ".join(f"{count} {name}" for name, count in point.counts.items())
    summary = f"{point.bits_per_weight:.2f} bits per weight; of {len(groups)} groups of matrices {counts}"
    choice: dict[str, dict[str, str]] = {}
    for (layer, where), candidate in groups.items():
        choice.setdefault(str(layer), {})[where] = candidate.name
    calibration = replace(request.calibration, text=text.name(request))
    return Found(
        model=request.model,
        command=request.command,
        limits=request.limits,
        chosen=point,
        recipe=rules.recipe(checkpoint.name, groups, calibration, summary),
        uniform=tuple(problem.uniform()),
        curve=tuple(problem.curve()),
        choice=choice,
        left_out=left_out(candidates),
    )
