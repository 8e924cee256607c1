"""`intaglio bench-serve`: from the command line to the numbers."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from intaglio.cli import app as cli
from tests.load.fake import END, HEAD, Asked, Fake, event, piece, plain, streaming

# a shell's background job ignores interrupts, and what it starts does too
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from intaglio.cli import main
main()
"""
FEW = ["--num-prompts", "6", "--random-input-len", "16", "--random-output-len", "4"]


def run(*args: str, **options: Any) -> Result:
    return CliRunner().invoke(cli.app, ["bench-serve", *args], prog_name="intaglio", **options)


def answer(*args: str) -> Any:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(code: int, *args: str) -> str:
    result = run(*args)
    assert result.exit_code == code, result.output
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    return result.stderr


def test_everything_is_reported(tmp_path: Path) -> None:
    saved = tmp_path / "requests.jsonl"
    with Fake(streaming(gap=0.05, cached_tokens=8)) as fake:  # long beside what the client itself takes
        found = answer(fake.url, *FEW, "--save", str(saved), "--goodput", "ttft:60000", "--ignore-eos")
    overall = found["overall"]
    assert (found["model"], found["endpoint"], found["url"]) == ("fake-model", "/v1/completions", fake.url)
    assert (overall["completed"], overall["failed"], overall["errors"]) == (6, 0, {})
    assert (overall["prompt_tokens"], overall["output_tokens"], overall["cached_tokens"]) == (96, 24, 48)
    assert overall["output_tokens_per_s"] == pytest.approx(24 / found["duration_s"])
    assert overall["goodput"]["share"] == 1.0
    assert [overall[name]["count"] for name in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")] == [6, 18, 6, 6]
    assert set(overall["ttft_ms"]) == {"count", "mean", "median", "p90", "p95", "p99", "max"}
    assert (found["environment"]["server"], found["environment"]["server_version"]) == ("fake", "1.2.3")
    assert (found["settings"]["request_rate"], found["settings"]["goodput_ms"]) == ("inf", {"ttft": 60000.0})
    assert (found["parts"], found["notes"], found["interrupted"]) == ({}, [], False)
    assert len(fake.measured) == 7  # one to warm up
    assert all(one.body["ignore_eos"] and one.body["max_tokens"] == 4 for one in fake.measured)
    records = [json.loads(line) for line in saved.read_text().splitlines()]
    assert sorted(one["index"] for one in records) == list(range(6))
    assert all(len(one["itl_ms"]) == 3 and one["id"] == "cmpl-1" for one in records)


def test_a_mix_is_reported_part_by_part() -> None:
    with Fake(streaming()) as fake:
        mix = ["--mix", "short:8/3:0.75,long:200/2:0.25", "--num-prompts", "8", "--max-concurrency", "2"]
        found = answer(fake.url, *mix)
        shown = run(fake.url, *mix, "--goodput", "e2e:60000").stdout
    assert list(found["parts"]) == ["short", "long"]
    assert {name: one["completed"] for name, one in found["parts"].items()} == {"short": 6, "long": 2}
    assert {name: one["prompt_tokens"] for name, one in found["parts"].items()} == {"short": 48, "long": 400}
    assert found["overall"]["completed"] == 8
    for words in (["short", "TTFT"], ["long", "ITL"], ["all", "end", "to", "end"], ["all", "8", "0"]):
        assert any(line.split()[: len(words)] == words for line in shown.splitlines()), (words, shown)
    assert "100.0%" in shown


def test_prompts_and_arrivals_repeat_for_a_seed() -> None:
    with Fake(streaming()) as fake:
        for seed in ("1", "1", "2"):
            answer(fake.url, *FEW, "--request-rate", "500", "--seed", seed, "--warmup", "0")
    prompts = [one.body["prompt"] for one in fake.measured]
    assert sorted(prompts[:6]) == sorted(prompts[6:12])
    assert not set(prompts[:6]) & set(prompts[12:])


def test_chats_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": "hi"}], "part": "hello"},
        {"prompt": "a b", "max_tokens": 2},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Fake(streaming()) as fake:
        found = answer(fake.url + "/v1", "--dataset", str(path), "--endpoint", "/v1/chat/completions")
    assert list(found["parts"]) == ["hello", "file"]
    assert {one.path for one in fake.measured} == {"/v1/chat/completions"}
    assert {one.body["max_tokens"] for one in fake.measured[1:]} == {128, 2}
    assert found["settings"]["prompts"]["path"] == str(path)


def test_lists_of_tokens() -> None:
    with Fake(streaming()) as fake:
        assert answer(fake.url, *FEW, "--token-ids")["overall"]["prompt_tokens"] == 96
    assert all(isinstance(one.body["prompt"], list) for one in fake.measured)
    with Fake(streaming(), tokenize=False) as fake:
        assert "has no /tokenize" in refused(2, fake.url, "--token-ids")
        assert answer(fake.url, *FEW)["overall"]["prompt_tokens"] == 6 * 17  # words, and the server's own one


def test_headers_and_key_are_sent_and_not_shown() -> None:
    with Fake(streaming()) as fake:
        shown = run(
            fake.url, *FEW, "--header", "X-Team=a=b", "--extra-body", '{"temperature": 0}', "--json",
            env={"OPENAI_API_KEY": "secret"},
        )  # fmt: skip
        run(fake.url, *FEW, "--api-key", "other")
    assert fake.measured[0].headers["authorization"] == "Bearer secret"
    assert fake.measured[0].headers["x-team"] == "a=b"
    assert fake.measured[0].body["temperature"] == 0
    assert fake.measured[-1].headers["authorization"] == "Bearer other"
    assert json.loads(shown.stdout)["settings"]["headers"] == ["authorization", "x-team"]
    assert "secret" not in shown.output


def test_failures_are_counted_and_shown() -> None:
    async def answering(asked: Asked) -> AsyncIterator[bytes]:
        if asked.number in (2, 4):
            yield plain(503, {"error": {"message": "[full]"}})
        elif asked.number == 5:
            yield HEAD + event(piece("a"))
        else:
            yield HEAD + event(piece("a", "stop")) + event("[DONE]") + END

    with Fake(answering) as fake:
        result = run(fake.url, *FEW, "--max-concurrency", "1")
        quiet = run(fake.url, *FEW, "-q")
    assert result.exit_code == quiet.exit_code == 0
    assert (quiet.stderr, "TTFT" in quiet.stdout) == ("", True)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["HTTP", "503", "2", "[full]"] in lines
    assert any(line[:2] == ["disconnected", "1"] for line in lines)
    assert "3 answers came without usage" in result.stderr
    assert "answers ended after 1.0 of 4.0 tokens on average" in result.stderr


def test_if_all_fail_one_sentence_says_why(tmp_path: Path) -> None:
    prompts = str(tmp_path / "one.txt")
    Path(prompts).write_text("hello\n")

    async def answering(asked: Asked) -> AsyncIterator[bytes]:
        yield plain(401, {"error": {"message": "no key"}})

    with Fake(answering) as fake:
        said = refused(1, fake.url, *FEW)
        assert said.startswith(
            f"error: {fake.url}/v1/completions: HTTP 401: no key; give its key with --api-key"
        )
        assert len(fake.measured) == 1
        assert "all 6 requests failed (6 x HTTP 401)" in refused(1, fake.url, *FEW, "--warmup", "0")
    for args in ([], ["--model", "m"], ["--model", "m", "--dataset", prompts, "--warmup", "0"]):
        said = refused(1, "http://127.0.0.1:1", *args)
        said = said.replace("all 1 requests failed (1 x no connection): ", "")
        assert said.startswith(
            "error: http://127.0.0.1:1: connection refused: no server answers there; start one"
        )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["h:8000"], "URL h:8000"),
        (["--goodput", "ttft:200", "tpot:50"], "several --goodput go in one pair of quotes"),
        (["--goodput", "speed:1"], "'speed:1' is no objective"),
        (["--request-rate", "0"], "--request-rate 0.0: expected more than 0"),
        (["--request-rate", "nan"], "--request-rate nan"),
        (["--burstiness", "-1"], "--burstiness -1.0"),
        (["--endpoint", "/v1/embeddings"], "--endpoint /v1/embeddings"),
        (["--mix", "a:1/1", "--random-input-len", "3"], "leave out --random-input-len"),
        (["--mix", "a:1/1", "--random-output-len", "3"], "leave out --random-output-len"),
        (["--num-prefixes", "3"], "--num-prefixes needs --prefix-len"),
        (["--burstiness", "2"], "--burstiness needs --request-rate"),
        (["--dataset", "x.txt", "--random-range-ratio", "0.5"], "leave out --random-range-ratio"),
        (["--mix", "a"], "'a' is no part"),
        (["--dataset", "x.txt", "--mix", "a:1/1", "--token-ids"], "leave out --mix, --token-ids"),
        (
            ["--token-ids", "--endpoint", "/v1/chat/completions"],
            "--token-ids needs --endpoint /v1/completions",
        ),
        (["--extra-body", "[]"], "expected an object"),
        (["--extra-body", "{"], "--extra-body: "),
        (["--header", "novalue"], "expected KEY=VALUE"),
        (["--save", "/nowhere/x.jsonl"], "--save: /nowhere is no directory"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(args: list[str], said: str) -> None:
    assert said in refused(2, *args)


def test_ctrl_c_reports_what_was_measured() -> None:
    async def answering(asked: Asked) -> AsyncIterator[bytes]:
        yield HEAD + event(piece("a", "stop"))
        if asked.number > 4:
            if asked.number == 6:
                process.send_signal(signal.SIGINT)
            await asyncio.sleep(60)
        yield event("[DONE]") + END

    with Fake(answering) as fake:
        args = ["bench-serve", fake.url, "--num-prompts", "20", "--max-concurrency", "2", "--json"]
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = process.communicate(timeout=60)
    found = json.loads(out)
    assert process.returncode == 130
    assert (found["interrupted"], found["overall"]["completed"], found["unfinished"]) == (True, 4, 2)
    assert err.decode().endswith("interrupted: 4 requests had ended, 2 were under way\n")
    assert "Traceback" not in err.decode()


def test_a_terminal_shows_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    from intaglio.cli import console

    told: list[tuple[str, int, int]] = []

    class Shown:
        def __enter__(self) -> Any:
            return lambda what, done, of: told.append((what, done, of))

        def __exit__(self, *error: object) -> None:
            return

    monkeypatch.setattr(console, "progress", lambda quiet: Shown())
    with Fake(streaming()) as fake:
        answer(fake.url, *FEW, "--max-concurrency", "1")
    assert told[0] == ("warming up", 1, 1)
    assert told[-1] == ("0 under way", 6, 6)


def test_help_imports_nothing_heavy_and_needs_no_extra() -> None:
    script = (
        "import sys\nsys.modules['h11'] = None\nfrom intaglio.cli import app\n"
        "try: app.main(['bench-serve', '--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"numpy", "msgspec", "rich", "asyncio", "ssl", "httpx"}
    missing = script.replace("'--help'", "")
    done = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True, check=True)
    assert "error: h11 is needed for this and is not installed: pip install 'intaglio[load]'" in done.stderr
