"""Opinions between our own processes, as JSON that keeps every bit of a float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.canonical import plain
from domain.opinion import Opinion
from domain.quantiles import Quantiles


def opinion_to(opinion: Opinion) -> dict[str, Any]:
    """Return an opinion as JSON."""
    return dict(plain(opinion))


def opinion_from(body: Mapping[str, Any]) -> Opinion:
    """Read an opinion back.

    Raises
    ------
    KeyError, TypeError : if fields are missing or unknown.
    """
    fields = dict(body)
    quantiles = fields.pop("quantiles")
    return Opinion(
        **fields,
        quantiles=None
        if quantiles is None
        else Quantiles(tuple(quantiles["levels"]), tuple(quantiles["values"])),
    )
