"""Metrics of all replicas as one text, each sample with its replica's name as a label."""

from __future__ import annotations

import re
from collections.abc import Mapping

ABOUT = re.compile(r"# (?P<what>HELP|TYPE) (?P<name>\S+) .*")
SAMPLE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>.+)")


def gathered(texts: Mapping[str, str]) -> str:
    """Prometheus' text format, by replica -> the same: families whole, and described once."""
    families: dict[str, _Family] = {}
    for replica, text in texts.items():
        family = families.setdefault("", _Family())
        for line in text.splitlines():
            if about := ABOUT.fullmatch(line):
                family = families.setdefault(about["name"], _Family())
                family.described.setdefault(about["what"], line)
            elif sample := SAMPLE.fullmatch(line):
                family.samples.append(_labelled(sample, replica))
    lines = [line for family in families.values() for line in (*family.described.values(), *family.samples)]
    return "".join(line + "\n" for line in lines)


class _Family:
    """What one metric is, and its samples."""

    def __init__(self) -> None:
        self.described: dict[str, str] = {}
        self.samples: list[str] = []


def _labelled(sample: re.Match[str], replica: str) -> str:
    labels = f",{sample['labels']}" if sample["labels"] else ""
    return f'{sample["name"]}{{replica="{replica}"{labels}}} {sample["value"]}'
