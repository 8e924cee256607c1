"""The fields of a recipe, their types and ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from intaglio.attention import Codec
from intaglio.formats import Activation, Largest
from intaglio.models import texts
from intaglio.solvers import Clip, Greedy, Prune, Solver
from intaglio.terms import Dictionary, Term
from intaglio.train import Tune
from intaglio.transforms import Transform

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=64)]
_RANGE = r"(-?\d{1,5}|\d{1,5}-\d{1,5})"
Layers = Annotated[str, Meta(pattern=f"^{_RANGE}(,{_RANGE})*$", max_length=200)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What becomes of the matrices it matches. Of several that match one matrix, the last in the list holds.

    `match`: roles (q, k, v, o, gate, up, down, embedding, lm_head; a tied lm_head is the embedding), `linear`
    for the seven of every layer, or `re:` and a pattern that must cover a site's whole name. `layers`:
    "0-3,29", or "-1" for the last; None means all. No terms: the matrix is left as it is. `metric`: what says
    which errors cost: what the matrix reads (`activations`), the model's loss by its diagonal Fisher
    information (`fisher`), or nothing (`identity`).
    `order`: columns are coded by rising power (mean x^2) of their inputs, which are gathered so at run time.
    `share`: matrices of one input (q, k, v; gate, up) are coded as one, their rows one below the other: one
    dictionary of atoms for all, stored and applied to the input once.
    """

    match: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(min_length=1)] = (
        "linear",
    )
    layers: Layers | None = None
    terms: tuple[Term, ...] = ()
    solver: Solver = Greedy()
    metric: Literal["activations", "fisher", "identity"] = "activations"
    clip: Clip | None = None
    activation: Activation | None = None  # what the input is quantized to at run time
    order: Literal["power"] | None = None
    share: bool = False

    def __post_init__(self) -> None:
        if not self.share:
            return
        if len(self.terms) != 1 or not isinstance(self.terms[0], Dictionary):
            given = ", ".join(str(term.__struct_config__.tag) for term in self.terms) or "none"
            raise ValueError(f"`share` is of the atoms of one dictionary alone: the terms are {given}")
        if self.terms[0].rows is not None:
            raise ValueError("`share` says itself how many `rows` a dictionary is for")
        if self.order or self.metric == "fisher":
            raise ValueError(
                "`share` goes with no `order`, and no metric of each matrix by itself (`fisher`)"
            )


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Gives each matrix it matches in the layers the cheapest way to run it that quality allows.

    `menu`: sums of terms that may stand for it. Or `inputs`: how thinned it may read its input, itself in
    plain float16; of the two factors of a product one alone is made sparse.
    `within`: how much the perplexity of calibration text may rise by all of them, relative. `steps`: how
    often it is asked for. What is found becomes rules behind the recipe's own (TASDER, 2403.07953).
    """

    match: tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...] = ("linear",)
    menu: tuple[Annotated[tuple[Term, ...], Meta(min_length=1)], ...] = ()
    inputs: tuple[Largest, ...] = ()
    solver: Solver = Prune("wanda")
    within: Annotated[float, Meta(gt=0)] = 0.05
    steps: Annotated[int, Meta(ge=1, le=32)] = 8

    def __post_init__(self) -> None:
        if bool(self.menu) == bool(self.inputs):
            raise ValueError("a search is of the weights by `menu` or of their `inputs`: give one of the two")


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`samples` windows of `seq_len` tokens, drawn from the text by `seed`."""

    samples: Annotated[int, Meta(ge=1, le=1 << 16)] = 32
    seq_len: Annotated[int, Meta(ge=2, le=1 << 17)] = 512
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    text: Annotated[str, Meta(min_length=1)] = texts.DEFAULT


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Beyond these, on held-out windows, the result counts as broken: damage, not a matter of taste."""

    kl: Annotated[float, Meta(gt=0)] = 3.0  # mean, nats, from the original
    perplexity: Annotated[float, Meta(gt=1)] = 10.0  # times the original's


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is promised of this recipe beside another (or, without one, beside full precision).

    `kl_mean`, the divergence from full precision, tells apart what is so near that perplexities are equal.
    `better_than` alone: a lower value. With `closes`: of the log-perplexity gap to full precision that recipe
    leaves, this one closes at least that share. `within`: at most this much above full precision, relative.
    """

    metric: Literal["perplexity", "kl_mean", "bits_per_weight"]
    better_than: Name | None = None
    closes: Annotated[float, Meta(gt=0, le=1)] | None = None
    within: Annotated[float, Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        if (self.better_than is None) == (self.within is None):
            raise ValueError("a claim names either `better_than` (a recipe) or `within` (of full precision)")
        if self.metric == "kl_mean" and (self.within is not None or self.closes is not None):
            raise ValueError("a claim on kl_mean is `better_than` a recipe alone: full precision has none")


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """W ~ T^-1(sum of terms): the transforms, then for every matrix its terms and how they are found."""

    name: Name
    source: str
    summary: str
    transforms: tuple[Transform, ...] = ()
    weights: Annotated[tuple[Rule, ...], Meta(min_length=1)]
    search: Search | None = None
    rest: Literal["float16", "bfloat16"] | None = (
        "float16"  # of what no rule codes: float32 is stored so; None: as is
    )
    tune: Tune | None = None  # how coded matrices are trained afterwards
    cache: Codec | None = None
    calibration: Calibration = Calibration()
    propagate: Literal["original", "quantized"] = "quantized"  # what the blocks before hand to a block
    limits: Limits = Limits()
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        if self.search is not None and self.transforms:
            raise ValueError("a search codes the model as it is: it goes with no transforms")


def json_schema() -> dict[str, Any]:
    """JSON schema of a recipe, for editors."""
    return msgspec.json.schema(Recipe)
