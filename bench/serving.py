"""How much of the engine's own throughput the HTTP server keeps.

    python bench/serving.py MODEL [--rounds 5] [--streams 32] [--requests 96] [--against URL]

The same load for all: `--streams` users at once, each sends prompts of 128 tokens and takes 64. In turn, a
round of each: the engine asked from Python, `intaglio serve` asked by `intaglio bench-serve`, and with
`--against` another server that runs already. Prints medians of tokens a second, in and out together.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

TOKENS_IN, TOKENS_OUT = 128, 64
SCRIPT = f"""
import sys, time
import numpy as np
from intaglio import LLM, SamplingParams

model, streams, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
llm = LLM(model, max_sequences=streams)
rng = np.random.default_rng(0)
vocab = llm.checkpoint.spec.vocab_size
params = SamplingParams(max_tokens={TOKENS_OUT}, ignore_eos=True, temperature=1.0)

def prompts(n):
    return [rng.integers(0, vocab, {TOKENS_IN}).tolist() for _ in range(n)]

def generate(asked):
    # as many at once as there are users: the next begins when one has ended
    waiting, running = list(asked), []
    while waiting or running:
        while waiting and len(running) < streams:
            running.append(llm.submit(waiting.pop(), params))
        llm.step()
        running = [request for request in running if not request.finished]

generate(prompts(streams))
for line in sys.stdin:
    asked = prompts(count)
    start = time.perf_counter()
    generate(asked)
    print(time.perf_counter() - start, flush=True)
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def server(command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers, stopped between its rounds so that it takes nothing from others."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(f"{url}/v1/models", timeout=5).read()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > until:
                        raise SystemExit(f"{command[0]} did not start") from None
                    time.sleep(0.2)
            yield process
        finally:
            process.terminate()


def load(url: str, streams: int, count: int) -> float:
    """Tokens a second of one round of `bench-serve`."""
    command = [sys.executable, "-m", "intaglio", "bench-serve", url, "--num-prompts", str(count)]
    command += [
        "--json",
        "-q",
        "--max-concurrency",
        str(streams),
        "--random-input-len",
        str(TOKENS_IN),
        "--ignore-eos",
    ]
    command += ["--random-output-len", str(TOKENS_OUT), "--token-ids", "--warmup", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["overall"]["total_tokens_per_s"])


class Engine:
    """The engine in a process of its own."""

    def __init__(self, model: str, streams: int, requests: int) -> None:
        self._file = tempfile.NamedTemporaryFile("w", suffix=".py")  # noqa: SIM115 - as long as the process
        self._file.write(SCRIPT)
        self._file.flush()
        command = [sys.executable, self._file.name, model, str(streams), str(requests)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self) -> float:
        """One round's."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--against", metavar="URL")
    a = parser.parse_args()
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "intaglio", "serve", a.model, "--port", url.rsplit(":", 1)[1]]
    engine = Engine(a.model, a.streams, a.requests)
    rates: dict[str, list[float]] = {"engine": [], "server": []} | ({"other": []} if a.against else {})
    with server([*command, "--max-num-seqs", str(a.streams), "--log-level", "warning"], url):
        for _ in range(a.rounds):
            rates["engine"].append(a.requests * (TOKENS_IN + TOKENS_OUT) / engine.seconds())
            rates["server"].append(load(url, a.streams, a.requests))
            if a.against:
                rates["other"].append(load(a.against, a.streams, a.requests))
    engine.close()
    middle = {name: statistics.median(each) for name, each in rates.items()}
    for name, each in rates.items():
        print(f"{name:8}{middle[name]:8,.0f} tokens/s   {' '.join(f'{r:,.0f}' for r in each)}")
    print(f"the server keeps {middle['server'] / middle['engine']:.0%} of the engine's")
    if a.against:
        print(f"and is {middle['server'] / middle['other']:.1f} times the other")


if __name__ == "__main__":
    main()
