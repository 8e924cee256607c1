"""lm-eval tasks through our executor, from a local file, without the network."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.engine.score import nll
from tests import tiny_llm

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

DOCS = [
    {"question": "one and one", "choices": [" two", " three", " x"], "answer": 0},
    {"question": "the letter", "choices": ["a", "b", "c"], "answer": 2},
    {"question": "", "choices": ["yes", "no", "maybe"], "answer": 1},
    {"question": "héllo 🎉", "choices": ["漢字", "é", "zz"], "answer": 1},
]
CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list: [{metric: acc}]
"""
ROLLING = """
task: tiny_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}} {{choices | join(' ')}} {{'long ' * 80}}"
metric_list: [{metric: byte_perplexity}]
"""
UNTIL = """
task: tiny_until
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n", "é"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("harness") / "tiny")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tasks")
    data = directory / "docs.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))
    for name, text in {"choice": CHOICE, "rolling": ROLLING, "until": UNTIL}.items():
        (directory / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    return directory


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return {**os.environ, "HF_HOME": cache, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def choices_by_hand(model: Path) -> float:
    """Accuracy from the logits of each whole sequence."""
    llm, right = LLM(model), 0
    for doc in DOCS:
        scores = []
        for choice in doc["choices"]:  # type: ignore[attr-defined]
            context = llm.tokenizer.encode(str(doc["question"])) or [llm.tokenizer.eos_ids[0]]
            tokens = np.array([*context, *llm.tokenizer.encode(choice)])
            scores.append(
                -nll(llm.executor.logits(tokens)[len(context) - 1 : -1], tokens[len(context) :]).sum()
            )
        right += int(np.argmax(scores)) == doc["answer"]
    return right / len(DOCS)


def test_eval_runs_local_tasks(model: Path, tasks: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "intaglio", "eval", str(model), "--tasks", "tiny_choice,tiny_rolling"]
    command += ["--tasks", "tiny_until", "--include-path", str(tasks), "--json", "--runtime", "native"]
    command += ["--windows", "1", "--seq-len", "32"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["tasks"]
    assert set(found) == {"tiny_choice", "tiny_rolling", "tiny_until"}
    assert found["tiny_choice"]["acc"] == choices_by_hand(model)
    assert found["tiny_rolling"]["byte_perplexity"] > 1
    assert found["tiny_until"]["exact_match"] == 0


OWN_COMMANDS = {
    "bare": [sys.executable, "-m", "lm_eval"],  # what the script lm_eval runs
    "module": [sys.executable, "-m", "intaglio.evaluation.harness"],
}


@pytest.mark.parametrize("own", OWN_COMMANDS)
def test_lm_evals_own_command_line(
    own: str, model: Path, tasks: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    if own == "bare" and importlib.util.find_spec("lm_eval_intaglio") is None:
        pytest.skip("integrations/lm-eval is not installed")
    command = [*OWN_COMMANDS[own], "run", "--model", "intaglio"]
    command += ["--model_args", f"pretrained={model},threads=1", "--tasks", "tiny_choice"]
    command += ["--include_path", str(tasks), "--output_path", str(tmp_path / "out.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("out*.json")
    assert json.loads(written.read_text())["results"]["tiny_choice"]["acc,none"] == choices_by_hand(model)


def test_the_integration_costs_nothing_until_lm_eval_is_imported() -> None:
    """Its module loads no other, and minds neither lm-eval's absence nor ours."""
    script = """
import sys
before = set(sys.modules)
import lm_eval_intaglio
print(set(sys.modules) - before)
try:
    import lm_eval.models
except ModuleNotFoundError as error:
    print(error.name)
"""
    integration = Path(__file__).parents[2] / "integrations" / "lm-eval"
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.append({str(integration)!r})" + script,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "{'lm_eval_intaglio'}\nlm_eval\n"


def test_an_unknown_task_is_one_sentence(model: Path, tasks: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "intaglio", "eval", str(model), "--tasks", "tiny_nothing"]
    command += ["--include-path", str(tasks), "--runtime", "native", "--windows", "1", "--seq-len", "32"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: lm-eval knows no task 'tiny_nothing'")


@pytest.mark.filterwarnings("default")
def test_what_sequences_share_is_computed_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intaglio.evaluation.harness import Prefix

    executor = LLM(model, threads=1).executor
    rng = np.random.default_rng(0)
    context = rng.integers(3, tiny_llm.VOCAB, 130).tolist()
    sequences = [[*context, *rng.integers(3, tiny_llm.VOCAB, n).tolist()] for n in (3, 70, 0, 1)] + [
        context[:5]
    ]
    whole = [executor.logits(sequence) for sequence in sequences]
    lengths: list[int] = []
    extend = executor.extend
    monkeypatch.setattr(executor, "extend", lambda t, *rest: lengths.append(len(t)) or extend(t, *rest))
    with Prefix(executor) as prefix:
        for sequence, expected in zip(sequences, whole, strict=True):
            np.testing.assert_allclose(prefix.logits(sequence, 2), expected[-2:], rtol=1e-4, atol=1e-4)
    assert lengths == [133, 70, 2, 2, 2]
    assert executor.pool.available == executor.pool.count


@pytest.mark.filterwarnings("default")
def test_requests_are_answered_in_their_order_and_truncated_on_the_left(model: Path) -> None:
    from lm_eval.api.instance import Instance

    from intaglio.evaluation.harness import IntaglioLM

    lm = IntaglioLM(str(model), threads=1, max_length=64)

    def ask(kind: str, *arguments: tuple[object, ...]) -> list[Instance]:
        return [Instance(request_type=kind, doc={}, arguments=one, idx=0) for one in arguments]

    long = "x" * 100
    pairs = [("ab", "c"), (long, "yz"), ("ab", "d"), ("", "abc"), ("ab", "cd")]
    together = lm.loglikelihood(ask("loglikelihood", *pairs), disable_tqdm=True)
    alone = [lm.loglikelihood(ask("loglikelihood", pair), disable_tqdm=True)[0] for pair in pairs]
    assert [value for value, _ in together] == pytest.approx([value for value, _ in alone], rel=1e-5)
    assert [greedy for _, greedy in together] == [greedy for _, greedy in alone]
    tokens = np.array(lm.tok_encode(long + "yz")[-65:])
    expected = -nll(lm.llm.executor.logits(tokens[:-1])[-2:], tokens[-2:]).sum()
    assert together[1][0] == pytest.approx(expected)
    whole = lm.loglikelihood_rolling(ask("loglikelihood_rolling", ("hello",)), disable_tqdm=True)[0]
    assert whole == pytest.approx(
        lm.loglikelihood(ask("loglikelihood", ("", "hello")), disable_tqdm=True)[0][0]
    )
    settings = {"until": ["q"], "max_gen_toks": 8}
    answers = lm.generate_until(ask("generate_until", ("ab", settings), (long, settings)), disable_tqdm=True)
    params = SamplingParams(max_tokens=8, stop=["q"])
    outputs = lm.llm.generate([lm.tok_encode("ab"), lm.tok_encode(long)[-56:]], params)
    assert answers == [output.outputs[0].text for output in outputs]
