"""Whether a network is scored on patients that it was trained on."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from mtmed.data import Case
from mtmed.errors import InputError
from mtmed.networks import load_weights

__all__ = ["patient_digests", "patients_of", "refuse_other_labels", "refuse_seen_patients"]


def patient_digests(cases: Sequence[Case], *, key: str = "patient") -> list[str]:
    """Digests of the patients of some cases, for the settings of a weights file: they tell patients apart, not who.

    Args:
        cases: the training cases.
        key: what the split keeps together, ``patient`` or ``patient_day``.
    """
    return sorted({_digest(case, key) for case in cases})


def patients_of(paths: Sequence[str]) -> list[str]:
    """Digests of the patients that any of some networks was trained on, such as the teachers of a student.

    Args:
        paths: their weights files.
    """
    return sorted({digest for path in paths for digest in load_weights(path)["settings"].get("trained_on", ())})


def refuse_seen_patients(
    cases: Sequence[Case], settings: Mapping[str, Any], *, key: str, allowed: bool, ensemble_with: Sequence[str] = ()
) -> None:
    """Refuse to score patients that the network was trained on.

    Args:
        cases: what is to be scored.
        settings: of the weights file; without ``trained_on`` nothing is known and nothing refused. ``split_key`` says
            what its digests are of; without it they are taken to be of `key`.
        key: what the split keeps together.
        allowed: score them all the same.
        ensemble_with: weights files of networks that predict together with it; the same holds for each.

    Raises:
        InputError: naming the first such patient, or a split of another key, whose digests cannot be compared.
    """
    if allowed:
        return
    _refuse_seen(cases, settings, key, "the network")
    for path in ensemble_with:
        _refuse_seen(cases, load_weights(path)["settings"], key, path)


def _refuse_seen(cases: Sequence[Case], settings: Mapping[str, Any], key: str, network: str) -> None:
    seen = set(settings.get("trained_on", ()))
    if not seen:
        return
    remedy = "pass the --split_key, --fold, --folds or --shares, --fraction and --split_seed of its training"
    remedy += ", or --allow_seen true"
    its_key = settings.get("split_key", key)
    if its_key != key:
        problem = f"is {key}, and {network} was trained on a split by {its_key}, so it may have seen these patients"
        raise InputError("split_key", problem, remedy)
    found = [case for case in cases if _digest(case, key) in seen]
    if found:
        problem = f"{len(found)} of {len(cases)} cases are of patients that {network} was trained on"
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
