"""How the scores of a study were measured: what its evaluations say of themselves."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mtmed.studies.results import Result, read_protocol

__all__ = ["protocol_lines", "study_protocol"]

_OF_A_RUN = ("checkpoint", "ensemble_with", "model_sha256", "interval")
_LONGEST = 200  # characters of a line of differing values


def study_protocol(results: Sequence[Result]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The protocols of all runs with scores, from the ``summary.json`` of their evaluations.

    Args:
        results: all runs of the study.

    Returns:
        What all of them state alike, and the different values of the rest; None stands for a run that does not state
        it. What belongs to one run alone is left out: its checkpoint, the hash of that, and how its own intervals
        are made.
    """
    stated = [
        read_protocol(result.evaluation)
        for result in results
        if result.scores is not None and result.evaluation is not None
    ]
    common: dict[str, Any] = {}
    differing: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for one in stated for key in one if key not in _OF_A_RUN):
        values: list[Any] = []
        for one in stated:
            if one.get(key) not in values:
                values.append(one.get(key))
        if len(values) == 1:
            common[key] = values[0]
        else:
            differing[key] = values
    return common, differing


def protocol_lines(common: Mapping[str, Any], differing: Mapping[str, Sequence[Any]]) -> list[str]:
    """The protocol in words, a line per key."""
    lines = [f"{_name(key)}: {_words(value)}" for key, value in common.items()]
    for key, values in differing.items():
        words = "; ".join("not stated" if value is None else _words(value) for value in values)
        words = words if len(words) <= _LONGEST else f"{len(values)} values"
        lines.append(f"{_name(key)} differs between the runs: {words}")
    return lines


def _name(key: str) -> str:
    return key.replace("_", " ")


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
