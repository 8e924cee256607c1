"""The command line: verbs, exit codes, one sentence for every mistake, JSON, and how fast it starts."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import intaglio
from intaglio.cli import app as cli
from intaglio.cli.anatomy import dissect
from intaglio.cli.explain import grouped, ranges
from intaglio.engine.matrices import Line
from intaglio.models import open_checkpoint
from tests import tiny_llm

HEAVY = ("torch", "transformers", "numpy", "tokenizers", "jinja2", "yaml", "msgspec", "rich")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llm.write_model(tmp_path_factory.mktemp("cli") / "tiny"))


@pytest.fixture(scope="module")
def artifact(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("artifacts") / "w4"
    result = run("compress", model, "-r", "rtn-w4", "-o", str(output), "--quiet")
    assert result.exit_code == 0, result.output
    assert result.output == ""
    return str(output)


def run(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli.app, list(args), input=stdin, prog_name="intaglio")


def answer(*args: str, stdin: str | None = None) -> Any:
    """What --json printed: one object on stdout."""
    result = run(*args, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(code: int, *args: str) -> str:
    """The one sentence of a request that cannot be carried out."""
    result = run(*args)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def start(*args: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "intaglio", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def imported(code: str) -> set[str]:
    """Top-level modules that are loaded after this code ran in a new process."""
    script = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


# --- how it starts


@pytest.mark.parametrize(
    "code",
    [
        "import intaglio",
        "from intaglio.cli import app\ntry: app.main(['--help'])\nexcept SystemExit: pass",
        "from intaglio.cli import app\ntry: app.main(['eval', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_start_imports_nothing_heavy(code: str) -> None:
    assert not imported(code) & set(HEAVY)


@pytest.mark.parametrize("args", [["-c", "import intaglio"], ["-m", "intaglio", "--help"]])
def test_start_takes_less_than_three_tenths_of_a_second(args: list[str]) -> None:
    def seconds() -> float:
        """Of processor time: the machine may be busy with other things."""
        process = subprocess.Popen([sys.executable, *args], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_utime + used.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3


def test_every_verb_is_listed_and_has_help() -> None:
    listing = run("--help").stdout
    for verb, (_, line) in cli.VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(line)}$", listing, re.MULTILINE)
        shown = run(verb, "-h")
        assert shown.exit_code == 0
        assert line in shown.stdout


def test_version_is_the_packages_and_python_m_works() -> None:
    process = start("--version")
    out, _ = process.communicate()
    assert out == f"intaglio {intaglio.__version__}\n"
    project = Path(__file__).parent.parent / "pyproject.toml"
    assert f'version = "{intaglio.__version__}"' in project.read_text()


def test_lazy_exports() -> None:
    assert {"LLM", "SamplingParams", "compress", "evaluate", "load_recipe"} < set(dir(intaglio))
    for name in intaglio.__all__:
        assert getattr(intaglio, name) is not None
    assert callable(intaglio.compress)
    assert callable(intaglio.evaluate)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = intaglio.nothing  # type: ignore[attr-defined]


# --- what it does


def test_generate_streams_the_text_and_counts_on_stderr(model: str) -> None:
    result = run("generate", model, "héllo", "-n", "12", "--ignore-eos")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"\[prompt 6 tokens, [\d.]+ tokens/s · answer 12 tokens, [\d.]+ tokens/s\]\n", result.stderr
    )
    record = answer("generate", model, "-", "-n", "12", "--ignore-eos", stdin="héllo\n")
    assert record["prompt"] == "héllo"
    assert record["text"] + "\n" == result.stdout
    assert (record["prompt_tokens"], record["output_tokens"], record["finish_reason"]) == (6, 12, "length")
    assert run("generate", model, "héllo", "-n", "12", "--ignore-eos", "-q").stderr == ""


def test_generate_draws_by_seed_and_stops_at_strings(model: str) -> None:
    drawn = ["generate", model, "x", "-n", "30", "--ignore-eos", "--temperature", "1.5", "--top-k", "80"]
    first, again, other = (answer(*drawn, "--seed", seed)["token_ids"] for seed in "778")
    assert first == again != other
    text = answer(*drawn)["text"]
    stop = next(c for c in text[3:] if c not in text[:3])
    stopped = answer(*drawn, "--stop", stop, "--stop", "@@@@")
    assert (stopped["text"], stopped["stop_reason"]) == (text.split(stop)[0], stop)


def test_drafts_change_the_counts_and_not_the_text(model: str) -> None:
    asked = ["generate", model, "abab", "-n", "40", "--ignore-eos", "--logit-bias", "70=100"]
    plain = answer(*asked)
    assert (plain["steps"], plain["drafted"], plain["accepted"]) == (40, 0, 0)
    for draft in ("prompt-lookup", model):
        drafted = answer(*asked, "--draft", draft, "--max-draft", "4")
        assert drafted["token_ids"] == plain["token_ids"]
        assert drafted["accepted"] > 0
        assert drafted["steps"] + drafted["accepted"] == 40
        notes = run(*asked, "--draft", draft).stderr
        assert re.search(r" · \d+ of \d+ guesses right\]\n$", notes)
    assert run("chat", model, "-n", "8", "--draft", "prompt-lookup", stdin="abab").exit_code == 0


def test_generate_tells_log_probabilities(model: str) -> None:
    record = answer("generate", model, "x", "-n", "3", "--ignore-eos", "--logprobs", "2")
    assert [one["tokens"][0] for one in record["logprobs"]] == record["token_ids"]
    assert all(one["rank"] == 1 and len(one["logprobs"]) == 2 for one in record["logprobs"])
    assert answer("generate", model, "x", "-n", "1")["logprobs"] is None


def test_the_options_of_drawing_reach_the_draws(model: str) -> None:
    asked = ["generate", model, "x", "-n", "9", "--ignore-eos"]
    biased = answer(*asked, "--logit-bias", "70=100", "--logit-bias", "71=-100")
    assert set(biased["token_ids"]) == {70}
    tired = answer(*asked, "--logit-bias", "70=8", "--frequency-penalty", "2", "--presence-penalty", "1")
    assert len(set(tired["token_ids"])) > 1
    assert "--min-tokens" in run("chat", "--help").stdout


def test_chat_reads_lines_and_obeys_commands(model: str) -> None:
    talk = "hello\n\n/help\nagain\n/reset\n/what\nlast\n/exit\nnever\n"
    result = run("chat", model, "-n", "8", "--seed", "3", "--system", "S", stdin=talk)
    assert result.exit_code == 0
    assert "/reset  forget" in result.stderr
    assert "there is no /what" in result.stderr
    first, second, third = map(int, re.findall(r"prompt (\d+) tokens", result.stderr))
    assert second > first > third - 1  # after /reset the prompt is short again
    assert run("chat", model, "-n", "8", "-q", stdin="end of input").exit_code == 0


def test_chat_forgets_the_oldest_when_the_context_is_full(model: str) -> None:
    lines = "".join(f"{'word ' * 8}\n" for _ in range(6))
    result = run("chat", model, "-n", "16", "--max-context", "160", "--seed", "1", stdin=lines)
    assert result.exit_code == 0
    assert re.search(
        r"the context of 160 tokens is full: the oldest \d+ messages are forgotten", result.stderr
    )
    assert result.stderr.count("answer") == 6
    long = run("chat", model, "--max-context", "160", stdin=f"{'x' * 200}\nshort\n")
    assert re.search(r"error: the prompt has \d+ tokens, the context 160", long.stderr)
    assert long.stderr.count("answer") == 1


def test_chat_needs_a_template(model: str, tmp_path: Path) -> None:
    settings = json.dumps({"eos_token": "<eos>"}).encode()
    assert "no chat template" in refused(
        2, "chat", damaged(model, tmp_path / "m", tokenizer_config__json=settings)
    )


def test_recipes_are_listed_and_shown() -> None:
    names = [recipe["name"] for recipe in answer("recipes")["recipes"]]
    assert "qserve" in names
    assert all(name in run("recipes").stdout for name in names)
    assert "name: qserve" in run("recipes", "qserve").stdout
    assert answer("recipes", "qserve")["name"] == "qserve"


def test_inspect_counts_every_byte(model: str, artifact: str) -> None:
    plain, ours = answer("inspect", model), answer("inspect", artifact)
    assert (plain["kind"], ours["kind"]) == ("plain model", "Intaglio artifact")
    assert plain["bits_per_weight"] == pytest.approx(32)
    assert ours["bits_per_weight"] < plain["bits_per_weight"]
    assert ours["parameters"] == plain["parameters"]
    assert ours["recipe"] == "rtn-w4"
    assert sum(group["bytes"] for group in ours["groups"]) <= ours["bytes"]
    assert {one["weights"] for one in ours["linears"] if one["role"] == "q"} == {"int4 g64 x float"}
    assert all(one["error"] > 0 for one in ours["linears"] if one["role"] in "qkvo")
    shown = run("inspect", artifact).stdout
    assert "all files verified" in shown
    assert "largest errors" in shown
    assert "largest errors" not in run("inspect", artifact, "--worst", "0").stdout


@pytest.mark.parametrize("report", [b"", b"[]", b'{"sites": [{"name": 1}]}', b'{"sites": 5}', b"\xff"])
def test_inspect_survives_a_strange_report(artifact: str, report: bytes) -> None:
    checkpoint = open_checkpoint(artifact)
    strange = dataclasses.replace(checkpoint, files={**checkpoint.files, "report.json": report})
    assert all(one.error is None for one in dissect(strange).linears)


def test_explain_groups_layers_and_names_reasons(artifact: str) -> None:
    plan = answer("explain", artifact)["plan"]
    shown, every = run("explain", artifact).stdout, run("explain", artifact, "--all").stdout
    assert "layers 0-1: self_attn.q_proj + self_attn.k_proj + self_attn.v_proj" in shown
    assert "model.layers.1.self_attn.q_proj" not in shown
    for line in plan:
        assert line["kernel"] in shown
        assert line["sites"][0] in every
    assert "reads int8 activations" in shown
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


def test_explain_tells_inputs_that_are_rounded_but_not_multiplied_as_integers() -> None:
    line = Line(("model.layers.0.mlp.down_proj",), "w8", "float of 8 bits", "avx2", 1000, ())
    assert grouped([line])[0][1] == "w8 (float of 8 bits)"


def test_compress_reports_as_json_and_on_stderr(model: str, tmp_path: Path) -> None:
    report = answer("compress", model, "-r", "rtn-w4", "-o", str(tmp_path / "a"), "--seq-len", "64")
    assert report["coverage"]["coded"] == report["coverage"]["targeted"] == 14
    shown = run("compress", model, "-r", "rtn-w8a8", "-o", str(tmp_path / "b"), "--seq-len", "64")
    assert shown.stdout == ""
    assert "14/14 linears" in shown.stderr
    assert (tmp_path / "a" / "config.json").exists()


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": "active"}, "active"),
        ({"GOMP_SPINCOUNT": "9"}, None),
        ({"KMP_BLOCKTIME": "9"}, None),
    ],
)
def test_compress_lets_torchs_threads_sleep(chosen: dict[str, str], found: str | None) -> None:
    """Told before torch is imported, and only if the user did not say how they wait."""
    script = """
import os, sys
from intaglio import cli, compression
def compress(*args, **settings):
    print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
    raise SystemExit
compression.compress = compress
cli.main(["compress", "model", "-r", "rtn-w4", "-o", "output"])
"""
    others = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, env=others | chosen, capture_output=True, text=True, check=True).stdout
    assert out == f"{found} False\n"


# --- what it refuses, and how


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["generate", "/nowhere", "x"], "no model at /nowhere"),
        (["inspect", "nowhere"], "no model at nowhere"),
        (["explain", "MODEL", "--kv", "int5"], "kv is 'int5', expected one of fp32, fp16, int8, int4"),
        (["generate", "MODEL", ""], "the prompt is empty"),
        (["generate", "MODEL", "x" * 300], "300 tokens, the context 256"),
        (["generate", "MODEL", "x", "--max-context", "257"], "max_context is 257"),
        (["generate", "MODEL", "x", "--stop", ""], "empty stop string"),
        (["generate", "MODEL", "x", "--top-p", "0"], "top_p"),
        (["generate", "MODEL", "x", "--logit-bias", "5"], "--logit-bias 5: expected a token's number"),
        (["generate", "MODEL", "x", "--logit-bias", "5=101"], "logit_bias"),
        (["generate", "MODEL", "x", "--logit-bias", "259=1"], "token 259 of logit_bias is outside"),
        (["generate", "MODEL", "x", "-n", "4", "--min-tokens", "5"], "min_tokens is 5"),
        (["generate", "MODEL", "x", "--draft", "/nowhere"], "no model at /nowhere"),
        (["recipes", "gptq-w5"], "did you mean gptq-w"),
        (["compress", "MODEL", "-r", "nothing", "-o", "OUT"], "no recipe is called 'nothing'"),
        (
            ["compress", "MODEL", "-r", "rtn-w4", "-o", "OUT", "--set", "weights.0.terms.0.format.bits=9"],
            "bits",
        ),
        (["compress", "MODEL", "-r", "rtn-w4", "-o", "OUT", "--set", "nonsense"], "expected path=value"),
        (["compress", "/nowhere", "-r", "rtn-w4", "-o", "OUT"], "no model at /nowhere"),
        (["eval", "MODEL", "--per-layer"], "give --against"),
        (["eval", "MODEL", "--seq-len", "300"], "256 positions, 300 are needed"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_senseless_requests_end_with_2(model: str, tmp_path: Path, args: list[str], sentence: str) -> None:
    places = {"MODEL": model, "OUT": str(tmp_path / "out")}
    assert sentence in refused(2, *(places.get(arg, arg) for arg in args))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "args", [["evil"], ["generate"], ["generate", "m", "p", "-n", "0"], ["eval", "m", "--x"]]
)
def test_wrong_usage_ends_with_2_and_names_the_help(args: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert "Usage: intaglio" in result.stderr
    assert "Traceback" not in result.stderr


def damaged(model: str, to: Path, **files: bytes | None) -> str:
    """A copy of the model with some files replaced."""
    to.mkdir()
    for file in Path(model).iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    for name, content in files.items():
        path = to / name.replace("__", ".")
        path.unlink() if content is None else path.write_bytes(content)
    return str(to)


def test_broken_models_end_with_1(model: str, artifact: str, tmp_path: Path) -> None:
    weights = (Path(model) / "model.safetensors").read_bytes()
    config = json.loads((Path(model) / "config.json").read_text())
    unknown = json.dumps({**config, "architectures": ["MambaForCausalLM"], "model_type": "mamba"}).encode()
    nan = weights[:-4] + np.float32(np.nan).tobytes()
    cases = {
        "cut": ({"model__safetensors": weights[:-100]}, "model.safetensors"),
        "arch": ({"config__json": unknown}, "MambaForCausalLM"),
        "json": ({"config__json": b"{"}, "config.json"),
        "tokenizer": ({"tokenizer__json": None}, "no tokenizer.json"),
    }
    for name, (files, sentence) in cases.items():
        assert sentence in refused(1, "generate", damaged(model, tmp_path / name, **files), "x")
    broken = damaged(model, tmp_path / "nan", model__safetensors=nan)
    assert "NaN" in refused(1, "compress", broken, "-r", "rtn-w4", "-o", str(tmp_path / "out"), "-q")
    assert not (tmp_path / "out").exists()
    flipped = bytearray((Path(artifact) / "model.safetensors").read_bytes())
    flipped[-5] ^= 1
    altered = damaged(artifact, tmp_path / "flip", model__safetensors=bytes(flipped))
    assert "was altered or damaged" in refused(1, "inspect", altered)
    lying = tmp_path / "lying.gguf"
    lying.write_bytes(b"GGUF" + np.array([3], "<u4").tobytes() + np.array([2**60, 2**60], "<u8").tobytes())
    assert "lying.gguf" in refused(1, "inspect", str(lying))


def test_text_that_cannot_be_used_ends_with_1(model: str, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("too short")
    sentence = refused(1, "eval", model, "--text", str(short), "--seq-len", "64", "-q")
    assert "short.txt has 9 tokens, shorter than one window of 64" in sentence
    assert "no such file" in refused(1, "eval", model, "--text", str(tmp_path / "none.txt"), "-q")


def test_an_output_in_the_way_is_kept(model: str, artifact: str) -> None:
    before = (Path(artifact) / "report.json").read_bytes()
    refused(2, "compress", model, "-r", "rtn-w8a8", "-o", artifact, "-q")
    assert (Path(artifact) / "report.json").read_bytes() == before


def test_an_export_goes_into_a_directory_or_a_file(artifact: str, tmp_path: Path) -> None:
    here, file = tmp_path / "here", tmp_path / "file"
    here.mkdir()
    file.touch()
    (here / "old").touch()
    refusal = refused(2, "export", artifact, "-o", str(here), "--format", "gguf", "--force")
    assert f"--output: {here} is a directory, expected a file" in refusal
    refusal = refused(2, "export", artifact, "-o", str(file / "below"), "--force")
    assert f"--output: {file} is a file, expected a directory" in refusal
    assert run("export", artifact, "-o", str(here), "--dense", "--force", "--quiet").exit_code == 0
    assert not (here / "old").exists()


def test_a_reader_that_leaves_is_no_error() -> None:
    process = start("recipes")
    assert process.stdout is not None
    process.stdout.close()
    with process:
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_interrupted_ends_with_130(model: str) -> None:
    process = start("chat", model, "-n", "4", "--seed", "1")
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    process.stderr.readline()  # the answer is there, the next line is awaited
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == ""


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    patient = tiny_llm.write_model(tmp_path, max_position_embeddings=16384)  # an answer of a second or more
    with start(
        "chat", str(patient), "-n", "16000", "--max-context", "16384", "--temperature", "0"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("hello\n")
        process.stdin.flush()
        process.stdout.read(1)  # the answer has begun
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().endswith(" stopped\n")
        _, err = process.communicate("/reset\n/exit\n", timeout=60)
    assert process.returncode == 0
    assert err == "The conversation is forgotten.\n"


@pytest.mark.parametrize("verb", [["generate", "x", "-n", "2", "-q"], ["inspect"], ["explain"]])
def test_running_needs_neither_torch_nor_transformers(artifact: str, verb: list[str]) -> None:
    args = [verb[0], artifact, *verb[1:]]
    code = f"from intaglio.cli import app\ntry: app.main({args!r})\nexcept SystemExit as e: assert not e.code"
    assert not imported(code) & {"torch", "transformers", "safetensors", "scipy"}


def test_bytes_that_are_no_text_are_an_error_and_poor_terminals_none(model: str) -> None:
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "intaglio", "generate", model, "-n", "12", "--ignore-eos", "-q"]
    done = subprocess.run([*command, "-"], input=b"abc\xff\xfe", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: the prompt is not valid Unicode at character 3\n"
    done = subprocess.run([*command, "x"], env=plain, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


def test_our_own_mistakes_are_short_unless_debugged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = KeyError("surprise")
    monkeypatch.delenv("INTAGLIO_DEBUG", raising=False)
    cli.report_unexpected(KeyError, error, None)
    err = capsys.readouterr().err
    assert "unexpected KeyError: 'surprise'" in err
    assert "INTAGLIO_DEBUG=1" in err
    monkeypatch.setenv("INTAGLIO_DEBUG", "1")
    cli.report_unexpected(KeyError, error, None)
    assert "INTAGLIO_DEBUG" not in capsys.readouterr().err


def test_an_opened_model_imports_only_what_a_prompt_needs(artifact: str) -> None:
    code = f"import intaglio; intaglio.LLM({artifact!r}).generate('x', intaglio.SamplingParams(max_tokens=2))"
    rest = {"torch", "transformers", "safetensors", "jinja2", "yaml", "intaglio.models.gguf_model"}
    assert not imported(code) & rest
