"""The fingerprint of transforms tells apart what computes something else."""

import functools

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    Lambdad,
    RandFlipd,
)

from mtmed.data.fingerprint import fingerprint
from mtmed.errors import InputError
from mtmed.transforms.reading import LoadVolumed


class _Doubled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, data):
        return data


def test_fingerprint_sees_values_and_refuses_what_it_cannot_see():
    same = [fingerprint([_Doubled(np.array([1, 2])), Compose([LoadVolumed("image")])]) for _ in range(2)]
    assert same[0] == same[1]
    differing = [1, 1.0, "1", True, None, torch.ones(1), np.ones(1), [1], {"a": 1}, np.clip, functools.partial(max, 1)]
    assert len({fingerprint(_Doubled(value)) for value in differing}) == len(differing)
    with pytest.raises(InputError, match="lambda"):
        fingerprint([Lambdad("image", lambda x: x)])
    with pytest.raises(InputError, match="random transform"):
        fingerprint([RandFlipd("image")])
    with pytest.raises(InputError, match="no attributes"):
        fingerprint(_Doubled(object()))


class _OnDevice:
    not_in_fingerprint = ("device",)

    def __init__(self, device, value):
        self.device, self.value = device, value


def test_where_a_transform_works_is_not_part_of_what_it_computes():
    assert fingerprint(_OnDevice("cpu", 1)) == fingerprint(_OnDevice("cuda:1", 1))
    assert fingerprint(_OnDevice("cpu", 1)) != fingerprint(_OnDevice("cpu", 2))


def test_code_that_a_transform_calls_is_part_of_it(monkeypatch):
    before = fingerprint(LoadVolumed("image"))
    monkeypatch.setattr("mtmed.data.fingerprint._own_sources", lambda: "another version")
    assert fingerprint(LoadVolumed("image")) != before
