"""Label values of several data sets become those of their groups."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mtmed.errors import InputError
from mtmed.transforms import GroupLabelsd

VALUES = {"plain": {1: 1}, "kits": {1: 1, 2: 1}, "organs": {3: 2, 300: 1}}


def grouped(label, case="kits/case_1", values=VALUES):
    return GroupLabelsd("label", values=values)({"label": label, "case": case, "image": "kept"})


def label_of(values, dtype=torch.uint8):
    return torch.tensor(values, dtype=dtype).reshape(1, -1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_files_of_kidneys_alone_and_with_tumours_get_the_same_values(dtype):
    plain = grouped(label_of([0, 1, 1, 0], dtype), "plain/a")["label"]
    kits = grouped(label_of([0, 1, 2, 0], dtype))["label"]
    assert plain.flatten().tolist() == kits.flatten().tolist() == [0, 1, 1, 0]
    assert plain.dtype == kits.dtype == torch.uint8


def test_values_equal_a_table_in_numpy():
    labels = np.random.default_rng(0).choice([0, 1, 3, 5, 300], (1, 6, 5, 4)).astype(np.int16)
    table = np.zeros(301, int)
    table[3], table[300] = 2, 1
    np.testing.assert_array_equal(grouped(torch.from_numpy(labels), "organs/x/y")["label"], table[labels])


def test_values_that_are_not_listed_become_background():
    assert grouped(label_of([0, 1, 2, 3, 255]))["label"].flatten().tolist() == [0, 1, 1, 0, 0]


def test_values_swap_without_touching_one_another():
    assert grouped(label_of([1, 2]), values={"kits": {1: 2, 2: 1}})["label"].flatten().tolist() == [2, 1]


def test_rounding_errors_of_a_scaled_label_are_rounded_and_fractions_refused():
    assert grouped(label_of([0.9999, 2.0004], torch.float32))["label"].flatten().tolist() == [1, 1]
    odd = MetaTensor(label_of([1.5, 2], torch.float32), meta={"filename_or_obj": "case_1/segmentation.nii.gz"})
    with pytest.raises(InputError, match=r"case_1/segmentation.nii.gz: holds the label value 1.5"):
        grouped(odd)
    with pytest.raises(InputError, match="kits/case_1: holds the label value nan"):
        grouped(label_of([1, np.nan], torch.float32))


def test_geometry_and_applied_operations_stay():
    label = MetaTensor(label_of([1, 2]), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])), meta={"name": "x"})
    label.push_applied_operation({"class": "Flip"})
    result = grouped(label)
    assert torch.equal(result["label"].affine, label.affine)
    assert result["label"].meta["name"] == "x"
    assert result["label"].applied_operations == label.applied_operations
    assert result["image"] == "kept"
    assert label.flatten().tolist() == [1, 2]


def test_an_unknown_data_set_is_named():
    with pytest.raises(InputError, match="chest/1: the data set 'chest' has no label groups, known are plain, kits"):
        grouped(label_of([1]), "chest/1")


def test_a_case_without_label_is_passed_on():
    assert GroupLabelsd("label", values=VALUES, allow_missing_keys=True)({"case": "kits/1"}) == {"case": "kits/1"}


def test_tables_of_a_json_file_have_text_as_keys():
    assert grouped(label_of([1, 2]), values={"kits": {"1": 1, "2": 1}})["label"].flatten().tolist() == [1, 1]
    with pytest.raises(InputError, match="1 to 255"):
        GroupLabelsd("label", values={"kits": {1: 256}})


@pytest.mark.parametrize(
    ("dtype", "highest"),
    [
        (torch.bool, 1),
        (torch.uint8, 255),
        (torch.int8, 127),
        (torch.int16, 32767),
        (torch.uint16, 65535),
        (torch.int32, 2**31 - 1),
        (torch.int64, 2**62),
        (torch.float32, 2**40),
        (torch.float64, 2**40),
    ],
)
def test_negative_and_large_values_equal_comparing_each(dtype, highest):
    table = {-40000: 9, -32768: 8, -7: 7, 0: 6, 1: 5, 127: 4, 200: 3, 32767: 2, 40000: 1, 2**40: 10, 2**30: 11}
    lowest = 0 if dtype in (torch.bool, torch.uint8, torch.uint16) else -highest
    near = {value + step for value in table for step in (-1, 0, 1)} | {lowest, highest, 65536, 65536 + 1, -65535}
    values = [value for value in sorted(near) if lowest <= value <= highest]
    label = label_of(values, dtype)
    expected = [table.get(int(value), 0) for value in label.flatten().tolist()]
    assert grouped(label, values={"kits": table})["label"].flatten().tolist() == expected


def test_a_turned_label_map_is_grouped_in_its_own_order():
    labels = np.random.default_rng(1).integers(0, 4, (1, 3, 4, 5), np.int16)
    turned = torch.from_numpy(labels).permute(0, 3, 2, 1)
    expected = np.isin(labels, [1, 2]).astype(np.uint8).transpose(0, 3, 2, 1)
    np.testing.assert_array_equal(grouped(turned)["label"], expected)
