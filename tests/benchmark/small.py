"""A made-up result, with what a real one has, and a tiny model to measure."""

from __future__ import annotations

from intaglio.benchmark.machine import Machine, Sample, limits
from intaglio.benchmark.result import Cell, Model, Result, Shapes, Start


def cell(workload: str, engine: str, form: str, median: float, intensity: float = 2.0) -> Cell:
    kind, size = workload.split()[0], int(workload.split()[-1])
    return Cell(
        workload=workload,
        kind=kind,  # type: ignore[arg-type]
        size=size,
        engine=engine,
        format=form,
        median=median,
        best=median,
        spread=0.02,
        rounds=5,
        intensity=intensity,
        gmac_s=median / 10,
    )


CELLS = [
    cell("prefill 512", "intaglio", "int4", 2000, 600),
    cell("prefill 512", "llama_cpp", "Q4_0", 900, 580),
    cell("prefill 512", "llama_cpp", "Q4_1", 950, 560),
    cell("decode at 64", "intaglio", "int4", 400),
    cell("decode at 64", "llama_cpp", "Q4_0", 200),
    cell("batch of 32", "intaglio", "int4", 1500, 30),
]


def result(name: str = "tiny") -> Result:
    return Result(
        model=Model(name, 88_000_000, Shapes(2, 64, 96, 4, 2, 16, 131, 256)),
        base="base",
        command=f"intaglio bench {name}",
        threads=2,
        machine=Machine("a <processor> & more", 2, "avx2", 1 << 34),
        limits=limits([Sample(50, 20, 400), Sample(60, 19, 380), Sample(40, 10, 100)]),
        cells=CELLS,
        starts=[
            Start(
                engine="intaglio",
                format="int4",
                load_s=0.1,
                first_token_s=0.3,
                beyond_python_s=0.28,
                peak_rss_bytes=123_000_000,
                rounds=5,
            )
        ],
        skipped={"openvino": "openvino-genai is not installed: pip install 'intaglio[peers]'"},
        notes=["left out: decode at 8192"],
        versions={"intaglio": "0.1.0"},
    )
