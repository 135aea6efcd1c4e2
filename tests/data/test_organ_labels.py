"""Values of label files turned into packed masks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mtmed.data import Cohort, Manifest, organ_bits
from mtmed.data.organ_labels import values_of_organs
from mtmed.errors import InputError
from mtmed.organ_masks import unpack_masks
from mtmed.transforms import GroupLabelsd


def manifest(name, labels, *, overlapping=False):
    return Manifest(name, Path(), ("MR",), labels, (), (), "", "", has_groups=True, overlapping=overlapping)


EXCLUSIVE = manifest("hearts", {0: "background", 1: "right", 2: "wall", 3: "left"})
OVERLAPPING = manifest("bowels", {0: "background", 1: "left", 2: "wall", 4: "right"}, overlapping=True)
JOINED = manifest("joined", {0: "background", 1: "right", 2: "wall", 3: "left", 5: "wall + left"})


def test_the_value_of_organ_k_becomes_bit_k_where_labels_exclude_each_other():
    assert organ_bits(Cohort((EXCLUSIVE,)), ["right", "wall", "left"]) == {"hearts": {1: 1, 2: 2, 3: 4}}
    assert organ_bits(Cohort((EXCLUSIVE,)), ["left", "right"]) == {"hearts": {3: 1, 1: 2}}


def test_every_sum_of_bits_is_turned_where_masks_may_overlap():
    same = organ_bits(Cohort((OVERLAPPING,)), ["left", "wall", "right"])
    assert same == {"bowels": {value: value for value in range(1, 8)}}
    turned = organ_bits(Cohort((OVERLAPPING,)), ["right", "left"])
    assert turned == {"bowels": {1: 2, 3: 2, 4: 1, 5: 3, 6: 1, 7: 3}}


def test_data_sets_of_both_kinds_give_the_same_masks():
    cohort = Cohort((EXCLUSIVE, OVERLAPPING))
    organs = cohort.organs()
    assert organs == ["right", "wall", "left"]
    group = GroupLabelsd("label", values=organ_bits(cohort, organs))
    files = {"hearts": [0, 1, 2, 3], "bowels": [0, 4, 2, 1]}
    for dataset, values in files.items():
        packed = group({"case": f"{dataset}/a", "label": torch.tensor([[values]])})["label"]
        masks = unpack_masks(packed.numpy(), 3)[:, 0]
        assert np.array_equal(masks, [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    both = group({"case": "bowels/a", "label": torch.tensor([[[5]]])})["label"]
    assert unpack_masks(both.numpy(), 3).ravel().tolist() == [1, 0, 1]


def test_a_joined_name_says_that_a_voxel_belongs_to_several_organs():
    cohort = Cohort((EXCLUSIVE, JOINED))
    assert cohort.organs() == ["right", "wall", "left"]
    bits = organ_bits(cohort, cohort.organs())
    assert bits == {"hearts": {1: 1, 2: 2, 3: 4}, "joined": {1: 1, 2: 2, 3: 4, 5: 6}}
    assert organ_bits(Cohort((JOINED,)), ["left", "right"])["joined"] == {1: 2, 3: 1, 5: 1}
    assert values_of_organs(JOINED) == {"right": (1,), "wall": (2, 5), "left": (3, 5)}
    assert values_of_organs(OVERLAPPING) == {"left": (1, 3, 5, 7), "wall": (2, 3, 6, 7), "right": (4, 5, 6, 7)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wall + apex", r"data set odd: label 5 'wall \+ apex' joins 'apex', which is no label of its own; join the"),
        ("wall + wall", r"data set odd: label 5 'wall \+ wall' joins 'wall' with itself"),
    ],
)
def test_a_joined_name_of_what_is_no_organ_is_refused(name, message):
    cohort = Cohort((manifest("odd", {0: "background", 1: "wall", 5: name}),))
    for look in (cohort.organs, lambda: organ_bits(cohort, ["wall"])):
        with pytest.raises(InputError, match=message):
            look()


def test_bits_that_no_label_has_are_not_turned():
    gap = manifest("gap", {0: "background", 1: "left", 8: "right"}, overlapping=True)
    assert organ_bits(Cohort((gap,)), ["left", "right"]) == {"gap": {1: 1, 8: 2, 9: 3}}


@pytest.mark.parametrize(
    ("organs", "message"),
    [
        (["right", "spleen"], "data set hearts: has no label 'spleen'; use organs that it has: right, wall, left"),
        (["background"], "has no label 'background'"),
        ([], "organs: are none"),
        (["wall", "wall"], "organs: are wall, wall"),
    ],
)
def test_organs_that_cannot_be_meant_are_refused(organs, message):
    with pytest.raises(InputError, match=message):
        organ_bits(Cohort((EXCLUSIVE,)), organs)


def test_organs_of_a_cohort_must_be_the_same_in_all_data_sets():
    other = manifest("other", {0: "background", 1: "right", 2: "wall"})
    with pytest.raises(InputError, match="data set other: 'left' is a label of only one of hearts and other"):
        Cohort((EXCLUSIVE, other)).organs()
    with pytest.raises(InputError, match="data set blank: names no organ"):
        Cohort((manifest("blank", {0: "background"}),)).organs()
