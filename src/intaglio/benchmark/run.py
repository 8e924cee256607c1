"""A run: every workload on every engine, interleaved, and between them what the machine can do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec

from intaglio.benchmark import synthetic
from intaglio.benchmark.cost import cost
from intaglio.benchmark.engines import ENGINES, Job
from intaglio.benchmark.entrants import Asked, base_of, entrants, versions
from intaglio.benchmark.field import Field, starts
from intaglio.benchmark.machine import Sample, limits, machine, measured
from intaglio.benchmark.process import Worker
from intaglio.benchmark.result import Cell, Model, Result, Shapes, Start, best, spread
from intaglio.benchmark.workloads import Kind, Workload, fitting, needs, planned
from intaglio.engine.executor import check_isa, check_kv, count_threads
from intaglio.errors import IntaglioError, UsageError
from intaglio.models.checkpoint import Checkpoint

Progress = Callable[[str, int, int], None]  # what, done, of
LONG = 4096  # tokens of context from which llama.cpp is measured with 4-bit keys and values too
LONG_KV = "q4_0"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. `peers` None: all that are installed; `command`: as it was typed."""

    model: str
    sizes: dict[Kind, tuple[int, ...]]
    peers: tuple[str, ...] | None = None
    against: str | None = None
    threads: int | None = None
    repeats: int = 5
    isa: str | None = None
    kv: str | None = None
    command: str = ""


def bench(request: Request, progress: Progress) -> Result:
    """Measure; what cannot be is named in the result's `skipped` and `notes`."""
    plan = planned(request.sizes)
    checkpoint = synthetic.open_model(request.model)
    workloads, left_out = fitting(plan, checkpoint.spec.max_position)
    if not workloads:
        raise UsageError(f"{request.model} has {checkpoint.spec.max_position} positions: nothing to measure")
    run = Run(request, checkpoint, workloads)
    if left_out:
        names = ", ".join(workload.name for workload in left_out)
        run.notes.append(f"left out, the model has {checkpoint.spec.max_position} positions: {names}")
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-") as folder, Field(run.lose) as field:
        run.open(field, Path(folder), progress)
        for done, workload in enumerate(workloads):
            progress(workload.name, done, len(workloads))
            run.measure(field, workload)
        progress("starts", len(workloads), len(workloads))
        run.start(field)
    return run.result()


class Run:
    """What has been measured so far."""

    def __init__(self, request: Request, checkpoint: Checkpoint, workloads: list[Workload]) -> None:
        positions, streams = needs(workloads)
        check_kv(checkpoint, request.kv)
        self.request = request
        self.checkpoint = checkpoint
        self.native = Job(
            engine="intaglio",
            format="",
            model=request.model,
            threads=count_threads(request.threads),
            positions=positions,
            streams=streams,
            isa=check_isa(request.isa),
            kv=request.kv,
        )
        self.base = base_of(request.model, checkpoint, request.against)
        self.notes: list[str] = []
        self._reasons: dict[str, str] = {}  # engine -> why a format of it was lost
        self.skipped: dict[str, str] = {}
        self.cells: list[Cell] = []
        self.starts: list[Start] = []
        self.samples: list[Sample] = []

    def lose(self, job: Job, reason: str) -> None:
        """An engine that failed is left out; without our own there is nothing to say."""
        if job.engine == "intaglio":
            raise IntaglioError(reason)
        self.notes.append(reason)
        self._reasons[job.engine] = reason

    def open(self, field: Field, folder: Path, progress: Progress) -> None:
        """Make the peers' files, start everybody."""
        progress("opening the model", 0, 0)
        field.enter(self.native)
        progress("writing the model for other engines", 0, 0)
        asked = Asked(self.request.model, self.request.against, self.request.peers, self.native)
        for found in entrants(asked, self.base, folder):
            if isinstance(found, Job):
                progress(f"opening {ENGINES[found.engine][1]} {found.format}", 0, 0)
                field.enter(found)
            else:
                self.skipped[found[0]] = found[1]

    def measure(self, field: Field, workload: Workload) -> None:
        """Limits, then all rounds of one workload."""
        assert self.native.isa is not None
        self.samples.append(measured(self.native.isa, self.native.threads, self.checkpoint.nbytes))
        long = workload.kind == "decode" and workload.size >= LONG
        if long:
            self._enter_long(field)
        workers = [w for w in field.workers if long or not _is_long(w)]
        for worker, seconds in field.race(workload, self.request.repeats, workers).items():
            self.cells.append(self._cell(workload, worker, seconds))

    def start(self, field: Field) -> None:
        """Load times; those of a synthetic model would be those of making it up."""
        if synthetic.is_synthetic(self.request.model):
            self.notes.append("load time and memory are not measured: a synthetic model is made when opened")
            return
        jobs = [worker.job for worker in field.workers if not _is_long(worker)]
        self.starts = starts(jobs, self.request.repeats, self.lose)

    def result(self) -> Result:
        assert self.native.isa is not None
        engines = [engine for engine in ENGINES if any(cell.engine == engine for cell in self.cells)]
        return Result(
            model=_model(self.checkpoint),
            base=self.base or None,
            command=self.request.command,
            threads=self.native.threads,
            machine=machine(self.native.isa),
            limits=limits(self.samples),
            cells=self.cells,
            starts=self.starts,
            skipped=self.skipped | {e: why for e, why in self._reasons.items() if e not in engines},
            notes=self.notes,
            versions=versions(engines),
        )

    def _enter_long(self, field: Field) -> None:
        """llama.cpp's best format so far once more, with 4-bit keys and values."""
        theirs = [worker.job for worker in field.workers if worker.job.engine == "llama_cpp"]
        if not theirs or any(job.kv for job in theirs):
            return
        fastest = [c.format for c in best(self.cells) if c.engine == "llama_cpp" and c.kind == "decode"]
        job = next((job for job in theirs if fastest and job.format == fastest[-1]), theirs[0])
        field.enter(msgspec.structs.replace(job, kv=LONG_KV))

    def _cell(self, workload: Workload, worker: Worker, seconds: list[float]) -> Cell:
        typical, job, ready = median(seconds), worker.job, worker.ready
        work = cost(self.checkpoint.spec, workload, ready.weight_bytes, ready.kv_bits)
        return Cell(
            workload=workload.name,
            kind=workload.kind,
            size=workload.size,
            engine=job.engine,
            format=f"{ready.format} kv {job.kv}" if _is_long(worker) else ready.format,
            median=workload.tokens / typical,
            best=workload.tokens / min(seconds),
            spread=spread(seconds),
            rounds=len(seconds),
            generated_per_s=workload.generated / typical if workload.kind == "batch" else None,
            intensity=work.intensity,
            gmac_s=work.macs / typical / 1e9,
        )


def _is_long(worker: Worker) -> bool:
    """Whether it is there for long contexts only."""
    return worker.job.engine == "llama_cpp" and worker.job.kv is not None


def _model(checkpoint: Checkpoint) -> Model:
    spec = checkpoint.spec
    shapes = Shapes(
        layers=spec.num_layers,
        hidden=spec.hidden_size,
        intermediate=spec.intermediate_size,
        heads=spec.num_heads,
        kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        vocab=spec.vocab_size,
        positions=spec.max_position,
    )
    return Model(checkpoint.name, checkpoint.nbytes, shapes)
