import numpy as np
import pytest

from mtmed.errors import InputError
from mtmed.transforms.tissue_tables import TISSUE_TABLES, read_tissue_table, relabel_tissue


def test_named_tables_give_csf_1_grey_2_white_3() -> None:
    freesurfer = np.array([0, 4, 43, 24, 3, 42, 10, 17, 1007, 2030, 2, 41, 16, 77, 251])
    expected = [0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]
    assert relabel_tissue(freesurfer, read_tissue_table("synthseg")).tolist() == expected
    assert relabel_tissue(np.arange(4), read_tissue_table("fast")).tolist() == [0, 1, 2, 3]
    assert read_tissue_table(None) == read_tissue_table("mtmed") == {1: 1, 2: 2, 3: 3}
    assert relabel_tissue(np.arange(4), read_tissue_table("spm")).tolist() == [0, 2, 3, 1]


def test_left_and_right_get_the_same_tissue() -> None:
    table = TISSUE_TABLES["synthseg"]
    pairs = {2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54, 26: 58, 28: 60}
    for left, right in (pairs | {30: 62, 31: 63, 78: 79, 81: 82, 1034: 2034, 3034: 4034}).items():
        assert table[left] == table[right], (left, right)


def test_every_number_that_synthseg_writes_is_in_its_table() -> None:
    shared = {14, 15, 16, 24}
    left = {2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 26, 28}
    right = {41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60}
    parcels = {side * 1000 + number for side in (1, 2) for number in range(1, 36) if number != 4}
    assert shared | left | right | parcels <= set(TISSUE_TABLES["synthseg"])


def test_a_table_takes_names_and_keys_as_text() -> None:
    table = read_tissue_table({"7": "white_matter", 9: 2, "11": "CSF", 13: "outside"})
    assert relabel_tissue(np.array([[7, 9], [11, 13]], np.int16), table).tolist() == [[3, 2], [1, 0]]


def test_stored_rounding_is_forgiven() -> None:
    values = np.array([0.0, 0.99999, 2.004, 3.0], np.float32)
    assert relabel_tissue(values, read_tissue_table("fast")).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 4, 99], "holds the values 4, 99, which the tissue table does not have"),
        ([0, 1, 0.73], "holds values such as 0.73, so that it is no label map"),
        ([0, 1, np.nan], "no label map"),
        ([0, 0, 0], "holds no tissue"),
    ],
)
def test_maps_that_do_not_fit_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        relabel_tissue(np.array(values), read_tissue_table("fast"), name="tissue.nii.gz")
    assert raised.value.culprit == "tissue.nii.gz"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("freesurfer7", "known are mtmed, fast, spm, synthseg"),
        ({"grey": 2}, "'grey', which is no whole number"),
        ({1: "bone"}, "maps 1 to 'bone', allowed are 0 .outside., 1 .csf."),
        ({1: 4}, "maps 1 to 4"),
        ({0: "csf", 1: 2}, "maps 0 to a tissue"),
        ({}, "names no tissue"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(table: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_tissue_table(table)  # type: ignore[arg-type]
