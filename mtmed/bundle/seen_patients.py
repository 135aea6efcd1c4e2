"""Whether a network is scored on patients that it was trained on."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from mtmed.data import Case
from mtmed.errors import InputError

__all__ = ["patient_digests", "refuse_other_labels", "refuse_seen_patients"]


def patient_digests(cases: Sequence[Case], *, key: str = "patient") -> list[str]:
    """Digests of the patients of some cases, for the settings of a weights file: they tell patients apart, not who.

    Args:
        cases: the training cases.
        key: what the split keeps together, ``patient`` or ``patient_day``.
    """
    return sorted({_digest(case, key) for case in cases})


def refuse_seen_patients(cases: Sequence[Case], settings: Mapping[str, Any], *, key: str, allowed: bool) -> None:
    """Refuse to score patients that the network was trained on.

    Args:
        cases: what is to be scored.
        settings: of the weights file; without ``trained_on`` nothing is known and nothing refused.
        key: what the split keeps together.
        allowed: score them all the same.

    Raises:
        InputError: naming the first such patient.
    """
    seen = set(settings.get("trained_on", ()))
    found = [case for case in cases if _digest(case, key) in seen]
    if found and not allowed:
        problem = f"{len(found)} of {len(cases)} cases are of patients that the network was trained on"
        remedy = "pass the --fold, --folds, --fraction and --split_seed of its training, or --allow_seen true"
        raise InputError(found[0].key, problem, remedy)


def refuse_other_labels(unused: Sequence[Case], labels_of: Sequence[str], *, key: str, allowed: bool) -> None:
    """Refuse an encoder that learnt from labels of this data set that the training does not use.

    A comparison at a fraction of the labels means nothing if the pre-training had more of them.

    Args:
        unused: labelled cases of the data set that are not trained on.
        labels_of: digests of the patients whose labels the encoder learnt from, see `patient_digests`.
        key: what the split keeps together.
        allowed: train all the same.

    Raises:
        InputError: naming how many patients.
    """
    found = {_digest(case, key) for case in unused} & set(labels_of)
    if found and not allowed:
        problem = f"learnt from the labels of {len(found)} patients that this training does not use"
        remedy = "pre-train with the same --fold, --folds, --fraction and --split_seed, or pass --allow_seen true"
        raise InputError("pretrained", problem, remedy)


def _digest(case: Case, key: str) -> str:
    whose = [case.dataset, case.group, *([str(case.visit)] if key == "patient_day" else [])]
    return hashlib.blake2b("\0".join(whose).encode(), digest_size=8).hexdigest()
