"""Speed and memory of a model, measured in a fresh process, so that nothing else is counted.

Runs as `python -m intaglio.evaluation.speed`: a Job as JSON on stdin, a Speed as JSON on stdout.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

import msgspec

from intaglio.engine.memory import peak_rss
from intaglio.errors import IntaglioError
from intaglio.evaluation.energy import Meter
from intaglio.evaluation.runtime import Name, Runtime, Seconds, open_runtime
from intaglio.models import open_checkpoint

REPEATS = 3
DECODE = 32  # tokens of a timed answer
WARM = 4  # of an untimed one before
PATIENCE = 60.0  # seconds


class Job(msgspec.Struct, frozen=True):
    """`prompt` is prefilled, then DECODE tokens follow; REPEATS times, or fewer when that is slow."""

    model: str
    runtime: Name
    threads: int
    prompt: list[int]


class Speed(msgspec.Struct, frozen=True):
    """Medians over the runs; the peak of the process's resident memory."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_rss_bytes: int
    joules_per_token: float | None


def measure(job: Job) -> Speed:
    """In a new process."""
    command = [sys.executable, "-m", "intaglio.evaluation.speed"]
    done = subprocess.run(command, input=msgspec.json.encode(job), capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise IntaglioError(f"{job.model}: measuring its speed failed: {reason}")
    return msgspec.json.decode(done.stdout, type=Speed)


def medians(speeds: Sequence[Speed]) -> Speed:
    """Of several measurements of one model; energy only where each has it."""
    joules = [one.joules_per_token for one in speeds if one.joules_per_token is not None]
    return Speed(
        prefill_tokens_per_s=median(one.prefill_tokens_per_s for one in speeds),
        decode_tokens_per_s=median(one.decode_tokens_per_s for one in speeds),
        peak_rss_bytes=max(one.peak_rss_bytes for one in speeds),
        joules_per_token=median(joules) if len(joules) == len(speeds) else None,
    )


def run(job: Job) -> Speed:
    """In this process."""
    context = len(job.prompt) + DECODE + 1
    runtime = open_runtime(open_checkpoint(job.model), job.runtime, job.threads, context)
    runtime.time(job.prompt, WARM)
    runs = _repeated(runtime, job.prompt)
    prefill = len(job.prompt) / median(run.prefill for run in runs)
    decode = 1 / median(second for run in runs for second in run.decode)
    return Speed(prefill, decode, peak_rss(), _joules_per_token(runtime, job.prompt))


def _repeated(runtime: Runtime, prompt: list[int]) -> list[Seconds]:
    """REPEATS runs, fewer of a model so slow that they would take longer than PATIENCE."""
    started, runs = time.monotonic(), [runtime.time(prompt, DECODE)]
    while len(runs) < REPEATS and time.monotonic() - started < PATIENCE * len(runs) / (len(runs) + 1):
        runs.append(runtime.time(prompt, DECODE))
    return runs


def _joules_per_token(runtime: Runtime, prompt: list[int]) -> float | None:
    """Of decoding: what an answer costs beyond its prompt alone."""
    if Meter().joules() is None:
        return None
    spent = []
    for tokens in (1, 1 + DECODE):
        meter = Meter()
        runtime.time(prompt, tokens)
        spent.append(meter.joules())
    alone, whole = spent
    return None if alone is None or whole is None else max(whole - alone, 0.0) / DECODE


def main() -> None:
    try:
        speed = run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))
    except IntaglioError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(speed))


if __name__ == "__main__":
    main()
