"""A made-up comparison, with what a real one has."""

from __future__ import annotations

from intaglio.comparison import Comparison, Row
from intaglio.comparison.dominance import dominated_by
from intaglio.comparison.result import Verdict
from intaglio.compression.report import SiteReport
from intaglio.evaluation import Result
from intaglio.models import roles


def result(model: str, bits: float, perplexity: float, **changes: object) -> Result:
    values = {
        "kl_mean": perplexity / 15 - 1 or None,
        "top1_agreement": 0.8,
        "bytes": int(bits * 17e6),
        "decode_tokens_per_s": 1500 / bits,
        "peak_rss_bytes": int(bits * 20e6 + 1e8),
    } | changes
    return Result(
        model=model,
        perplexity=perplexity,
        bits_per_weight=bits,
        parameters=135_000_000,
        prefill_tokens_per_s=1000.0,
        text="pydoc (evaluation half)",
        text_sha256="0" * 64,
        windows=4,
        seq_len=512,
        runtime="native",
        dtype="int4",
        threads=2,
        versions={"intaglio": "0.1.0"},
        **values,  # type: ignore[arg-type]
    )


NUMBERS = {
    "rtn-w4": (5.25, 25.5),
    "gptq-w4": (5.251, 22.45),
    "awq-w4": (5.252, 26.0),
    "rtn-w3": (4.46, 61.06),
    "gptq-w3": (4.461, 31.03),
    "qserve": (5.27, 24.44),
}


def row(name: str, *, over_budget: bool = False) -> Row:
    measured = {other: result(other, *numbers) for other, numbers in NUMBERS.items()}
    sites = [
        SiteReport(name=roles.site(layer, role), bits_per_weight=4.5, error=0.01 * (layer + 1), notes={})
        for layer in range(30)
        for role in roles.LINEARS
    ]
    return Row(
        recipe=name,
        summary=f"what {name} <does>",
        commands=(f"intaglio compress m --recipe {name} --output kept/{name}", f"intaglio eval kept/{name}"),
        result=measured[name],
        sites=tuple(sites),
        claims=(Verdict("perplexity below that of rtn-w3", name != "awq-w4"),),
        baseline=name.startswith("rtn"),
        dominated_by=dominated_by(name, measured),
        over_budget=over_budget,
    )


def comparison(model: str = "smollm2-135m") -> Comparison:
    failed = Row(recipe="broken", summary="a failure", commands=("a", "b"), failure="its logits are <NaN>")
    return Comparison(
        model=model,
        command=f"intaglio compare {model} --recipes all",
        original=result(model, 16.0, 15.0, kl_mean=None),
        rows=(*(row(name, over_budget=name == "qserve") for name in NUMBERS), failed),
        budget_bits=5.26,
        best="gptq-w4",
        calibration="pydoc",
        versions={"intaglio": "0.1.0", "torch": "2"},
    )
