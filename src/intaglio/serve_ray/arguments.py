"""What the application is told: on the command line of `serve run`, or under `args` of a Serve config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from intaglio.server.opening import KV, name_of

Texts = Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)]


class Arguments(BaseModel):
    """`model` to `threads` are what `intaglio serve` has, for each replica; the rest is how many there are.

    `threads`: CPUs that a replica holds; None: all of the smallest machine, so that each has one replica.
    `target_ongoing_requests`: a replica's, above which another one is started; None: half of max_num_seqs.
    `max_waiting`: requests that may wait at an ingress for a replica, before others get 429.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Texts = Field(min_length=1)
    served_model_name: Texts | None = None
    max_model_len: int | None = Field(default=None, ge=2)
    kv_cache_memory: ByteSize | None = None
    kv_bits: int | None = None
    max_num_seqs: int = Field(default=32, ge=1, le=1024)
    threads: PositiveInt | None = None

    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 1
    target_ongoing_requests: PositiveFloat | None = None
    upscale_delay_s: float = Field(default=10.0, ge=0)
    downscale_delay_s: float = Field(default=300.0, ge=0)
    max_waiting: PositiveInt = 256
    ingress_replicas: PositiveInt = 1
    drain_seconds: float = Field(default=30.0, ge=0)
    allowed_origin: Texts = []
    log_format: Literal["text", "json"] = "text"
    otlp_traces_endpoint: str | None = None

    @property
    def names(self) -> list[str]:
        """What clients call the models: as given, or the last part of a path."""
        return self.served_model_name or [name_of(model) for model in self.model]

    @property
    def kv(self) -> str | None:
        """The name of the codec of keys and values."""
        return None if self.kv_bits is None else KV[self.kv_bits]

    @model_validator(mode="after")
    def _fits(self) -> Arguments:
        if len(self.names) != len(self.model):
            raise ValueError(f"{len(self.model)} models and {len(self.names)} names: give one for each")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"two models would be called {self.names[0]!r}: give served_model_name")
        if self.kv_bits not in (None, *KV):
            raise ValueError(f"kv_bits is {self.kv_bits}, expected {', '.join(map(str, KV))}")
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, min_replicas {self.min_replicas}")
        return self
