"""`intaglio bench` from end to end on a two-layer model, its workers, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

import intaglio
from intaglio.benchmark import entrants
from intaglio.benchmark.engines import Job
from intaglio.benchmark.field import Field, rotated
from intaglio.benchmark.process import Worker
from intaglio.benchmark.worker import Answer, Failure, Ready, Timed, serve
from intaglio.benchmark.workloads import Workload
from intaglio.cli import app as cli
from intaglio.errors import IntaglioError
from tests import tiny_llm

QUICK = ("--repeats", "2", "--threads", "1", "--prefill", "none", "--context", "64", "--batch", "none", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("bench") / "tiny")


@pytest.fixture(scope="module")
def artifact(model: Path) -> Path:
    output = model.with_name("w4a8kv4")
    intaglio.compress(model, "rtn-w4a8kv4-channel", output, seq_len=64)
    return output


def run(*args: str) -> Result:
    return CliRunner().invoke(cli.app, ["bench", *args], prog_name="intaglio")


def job(model: Path, **changes: Any) -> Job:
    return Job(
        **{
            "engine": "intaglio",
            "format": "",
            "model": str(model),
            "threads": 1,
            "positions": 192,
            "streams": 3,
        }
        | changes
    )


def test_a_run_measures_every_workload(artifact: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    args = ("--repeats", "2", "--threads", "1", "--prefill", "17,512", "--context", "64,200", "--batch", "3")
    done = run(str(artifact), *args, "--peers", "none", "--json", "--html", str(page))
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    workloads = ["prefill 17", "decode at 64", "decode at 200", "batch of 3", "batch of 32"]
    assert [cell["workload"] for cell in record["cells"]] == workloads
    for cell in record["cells"]:
        assert 2 <= cell["rounds"] <= 6
        assert cell["median"] > 0
        assert cell["intensity"] > 0
    assert record["cells"][3]["generated_per_s"] == pytest.approx(record["cells"][3]["median"] / 3)
    assert record["decode"] == {"intaglio": record["cells"][1]["median"]}
    assert record["prefill"] == {}
    assert record["batch32"]["intaglio"] > 0
    assert record["limits"]["dram_gb_s"] > 0
    assert record["limits"]["samples"] == len(workloads)
    [start] = record["starts"]
    assert 0 < start["load_s"] < start["first_token_s"]
    assert 0 < start["beyond_python_s"] < start["first_token_s"]
    assert start["peak_rss_bytes"] > 10_000_000
    assert "left out, the model has 256 positions: prefill 512" in record["notes"]
    assert page.read_text().count('class="point intaglio"') == len(workloads)


def test_a_missing_engine_is_a_note_and_the_run_goes_on(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        entrants, "find_spec", lambda name: None if name == "openvino_genai" else find_spec(name)
    )
    done = run(str(artifact), *QUICK[:-1], "--peers", "openvino")
    assert done.exit_code == 0, done.output
    assert "openvino: openvino-genai is not installed: pip install 'intaglio[peers]'\n" in done.stderr
    assert "decode at 64" in done.stdout


def test_an_original_that_is_gone_is_a_note(tmp_path: Path) -> None:
    original = tiny_llm.write_model(tmp_path / "original")
    intaglio.compress(original, "rtn-w4a8kv4-channel", tmp_path / "made", seq_len=64)
    shutil.rmtree(original)
    done = run(str(tmp_path / "made"), *QUICK, "--peers", "transformers", "--json")
    assert done.exit_code == 0, done.output
    why = json.loads(done.stdout)["skipped"]["transformers"]
    assert why.startswith(f"the model was compressed from {original}, give --against: no model at")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--peers", "vllm"), "no engine 'vllm'; known are llama.cpp, openvino, transformers"),
        (("--batch", "4,x"), "--batch: 'x' is no size"),
        (("--context", "8"), "decode of 8 cannot be measured: the least is 33"),
        (("--html", "/nowhere/page.html"), "--html: /nowhere is no directory"),
        (("--html", "/"), "--html: / is a directory, expected a file"),
        (("--isa", "z80"), "isa is 'z80'"),
        (("--kv", "fp4"), "kv is 'fp4', expected one of fp32"),
        (("--prefill", "512", "--context", "none", "--batch", "none"), "256 positions: nothing to measure"),
    ],
)
def test_senseless_requests_end_with_2(artifact: Path, args: tuple[str, ...], sentence: str) -> None:
    done = run(str(artifact), *args)
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_worker_answers_in_lines(model: Path) -> None:
    asked = [job(model), Workload("prefill", 20), Workload("decode", 64), Workload("batch", 3)]
    answers = BytesIO()
    serve(BytesIO(b"".join(msgspec.json.encode(line) + b"\n" for line in asked)), answers)
    ready, *timed = [msgspec.json.decode(line, type=Answer) for line in answers.getvalue().splitlines()]
    assert isinstance(ready, Ready)
    assert ready.format == "float32 x float, kv fp16"
    assert ready.kv_bits == 16
    assert all(isinstance(answer, Timed) and answer.seconds > 0 for answer in timed)
    assert len(timed) == 3


def test_a_worker_says_why_it_cannot(tmp_path: Path) -> None:
    answers = BytesIO()
    serve(BytesIO(msgspec.json.encode(job(tmp_path)) + b"\n"), answers)
    failure = msgspec.json.decode(answers.getvalue(), type=Answer)
    assert isinstance(failure, Failure)
    assert "config.json" in failure.reason
    with pytest.raises(IntaglioError, match=r"intaglio failed: .*config.json"):
        Worker(job(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_stands_still_between_rounds_and_ends_when_closed(model: Path) -> None:
    worker = Worker(job(model))
    try:
        assert worker.time(Workload("decode", 64)) > 0
        assert awaited(lambda: state(worker.pid) == "T")
    finally:
        worker.close()
    assert state(worker.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_who_fails_leaves_and_the_others_go_on(model: Path) -> None:
    lost: list[str] = []
    with Field(lambda one, reason: lost.append(reason)) as field:
        for positions in (20, 40, 192):  # too few to open, too few for the workload, enough
            field.enter(job(model, positions=positions))
        workers = list(field.workers)
        assert [worker.job.positions for worker in workers] == [40, 192]
        rounds = field.race(Workload("decode", 64), 2, workers)
        assert [worker.job.positions for worker in rounds] == [192]
        assert [worker.job.positions for worker in field.workers] == [192]
    assert [reason.startswith("intaglio failed: ") for reason in lost] == [True, True]
    assert [state(worker.pid) for worker in workers] == [None, None]


def test_every_engine_is_first_in_turn() -> None:
    assert [rotated("abc", index) for index in range(3)] == [list("abc"), list("bca"), list("cab")]
    assert rotated([], 3) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process(artifact: Path, tmp_path: Path, end: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "intaglio",
        "bench",
        str(artifact),
        "--peers",
        "none",
        "--repeats",
        "500",
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        workers = awaited(lambda: [pid for pid in children(process.pid) if state(pid) == "T"])
        process.send_signal(end)
        _, err = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[end]
    assert err == b""
    assert awaited(lambda: all(state(pid) in (None, "Z") for pid in workers))
    assert end == signal.SIGKILL or not list(tmp_path.iterdir())


def awaited(found: Any) -> Any:
    """What `found` gives once it is true."""
    for _ in range(600):
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("waited for too long")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state(pid: int) -> str | None:
    """R, S, T (stopped), Z … of a process; None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
