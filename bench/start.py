"""How soon a model answers, and in how much memory.

    python bench/start.py artifacts/smollm2-135m-qserve

From the start of a process to the first token after a prompt of 32, beyond what Python itself takes to
start; the file is in the system's cache. Memory is the peak beside the packed weights and the KV pages used.
The median of five processes counts; exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

RUNS = 5
MOST_SECONDS = 0.5
MOST_MB = 150

FIRST_TOKEN = """
import json, sys
import intaglio
from intaglio.engine.pages import pages_for
llm = intaglio.LLM(sys.argv[1])
llm.generate(list(range(100, 132)), intaglio.SamplingParams(max_tokens=1, ignore_eos=True))
print("token", flush=True)
executor = llm.executor
weights = sum(line.nbytes for line in executor.plan)
pages = executor.cache_nbytes // executor.pool.count * pages_for(33)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(json.dumps({"peak": peak, "weights": weights, "pages": pages}))
"""


def first_token(model: Path) -> tuple[float, dict[str, Any]]:
    """Seconds until the token was there, and bytes of memory by what they are."""
    began = time.perf_counter()
    command = [sys.executable, "-c", FIRST_TOKEN, str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = time.perf_counter() - began
        rest = process.stdout.read()
    if process.returncode or first != "token\n":
        sys.exit(f"{model} did not answer")
    return seconds, json.loads(rest)


def bare_python() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="an artifact's directory")
    model = parser.parse_args().model
    first_token(model)  # into the cache
    python = median(bare_python() for _ in range(RUNS))
    taken, memory = zip(*(first_token(model) for _ in range(RUNS)), strict=True)
    seconds = median(taken) - python
    beside = median((m["peak"] - m["weights"] - m["pages"]) / 1e6 for m in memory)
    print(f"first token    {seconds:6.3f} s   beyond Python's {python:.3f} s; target {MOST_SECONDS} s")
    print(
        f"memory         {beside:6.1f} MB  beside {memory[0]['weights'] / 1e6:.1f} MB of weights and "
        f"{memory[0]['pages'] / 1e6:.1f} MB of KV pages; target {MOST_MB} MB"
    )
    return int(seconds > MOST_SECONDS or beside > MOST_MB)


if __name__ == "__main__":
    sys.exit(main())
