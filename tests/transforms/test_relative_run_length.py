import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtmed.errors import InputError
from mtmed.transforms import decode_relative_run_lengths, encode_relative_run_lengths

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def plain_mask(text, shape):
    """Decode pixel by pixel, down the columns."""
    rows, columns = shape
    mask = [[False] * columns for _ in range(rows)]
    numbers = [int(field) for field in text.split()]
    position = 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += gap
        for _ in range(length):
            mask[position % rows][position // rows] = True
            position += 1
    return np.array(mask)


def problem(text, shape=(3, 4)):
    with pytest.raises(InputError) as caught:
        decode_relative_run_lengths(text, shape)
    assert "\n" not in str(caught.value)
    return caught.value.problem


@given(MASKS)
def test_what_is_encoded_is_decoded_again(mask):
    text = encode_relative_run_lengths(mask)
    np.testing.assert_array_equal(decode_relative_run_lengths(text, mask.shape), mask)


@given(MASKS)
def test_masks_are_those_of_walking_down_the_columns(mask):
    text = encode_relative_run_lengths(mask)
    if mask.any():
        np.testing.assert_array_equal(plain_mask(text, mask.shape), mask)
    else:
        assert text == "-1"


def test_gaps_count_from_the_end_of_the_run_before():
    mask = np.array([[0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 1]], bool)
    assert encode_relative_run_lengths(mask) == "2 3 6 1"
    np.testing.assert_array_equal(decode_relative_run_lengths("2 3 6 1", (3, 4)), mask)
    np.testing.assert_array_equal(decode_relative_run_lengths(" 2  1\n0 2 6 1 ", (3, 4)), mask)


def test_a_mask_of_any_kind_of_number_and_order_in_memory_is_encoded():
    mask = np.array([[0, 2, 2], [7, 0, 0]])
    for given_mask in (mask, mask.astype(np.float32), np.asfortranarray(mask), mask.astype(np.uint8)):
        assert encode_relative_run_lengths(given_mask) == "1 2 1 1"


@pytest.mark.parametrize("text", ["-1", " -1", "-1\n", "", "  "])
def test_minus_one_and_an_empty_text_are_an_empty_mask(text):
    mask = decode_relative_run_lengths(text, (3, 4))
    assert (mask.shape, mask.dtype, mask.any()) == ((3, 4), np.bool_, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 3 6", "have 3 fields, an odd number"),
        ("2 three", "have the field 'three'"),
        ("2 1.5", "have the field '1.5'"),
        ("2,3", "have the field '2,3'"),
        ("-1 3", "have a gap of -1 before a run of length 3"),
        ("0 1 0 0", "have a gap of 0 before a run of length 0"),
        ("2 -3", "have a gap of 2 before a run of length -3"),
        ("2 3 6 2", "have a gap of 6 and a run of 2 that lead out of the image of 4x3 = 12 pixels"),
        ("12 1", "have a gap of 12 and a run of 1 that lead out of the image of 4x3 = 12 pixels"),
    ],
)
def test_a_text_that_is_no_mask_of_the_image_is_refused(text, expected):
    assert problem(text) == expected


def test_huge_numbers_do_not_wrap_around():
    huge = "9" * 18
    assert f"have a gap of {huge}" in problem(" ".join(["0 1", *[f"{huge} {huge}"] * 12]))


def test_only_one_image_can_be_encoded():
    with pytest.raises(ValueError, match="3 dimensions, allowed are 2"):
        encode_relative_run_lengths(np.zeros((1, 2, 3)))
