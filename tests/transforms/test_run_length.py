import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from slice_folder import plain_run_lengths

from mtmed.errors import InputError
from mtmed.transforms import decode_run_lengths, encode_run_lengths

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def plain_mask(text, shape):
    """Decode pixel by pixel."""
    rows, columns = shape
    mask = [[False] * columns for _ in range(rows)]
    numbers = [int(field) for field in text.split()]
    for first, length in zip(numbers[::2], numbers[1::2], strict=True):
        for position in range(first - 1, first - 1 + length):
            mask[position // columns][position % columns] = True
    return np.array(mask)


def problem(text, shape=(3, 4)):
    with pytest.raises(InputError) as caught:
        decode_run_lengths(text, shape)
    assert "\n" not in str(caught.value)
    return caught.value.problem


@given(MASKS)
def test_what_is_encoded_is_decoded_again(mask):
    np.testing.assert_array_equal(decode_run_lengths(encode_run_lengths(mask), mask.shape), mask)


@given(MASKS)
def test_texts_and_masks_are_those_of_walking_over_the_pixels(mask):
    text = plain_run_lengths(mask)
    assert encode_run_lengths(mask) == text
    np.testing.assert_array_equal(decode_run_lengths(text, mask.shape), plain_mask(text, mask.shape))


def test_pixels_count_from_one_along_the_rows():
    mask = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]], bool)
    assert encode_run_lengths(mask) == "1 1 8 3"
    np.testing.assert_array_equal(decode_run_lengths("1 1 8 3", (3, 4)), mask)


def test_a_mask_of_any_kind_of_number_and_order_in_memory_is_encoded():
    mask = np.array([[0, 2, 2], [7, 0, 0]])
    for given_mask in (mask, mask.astype(np.float32), np.asfortranarray(mask), mask.astype(np.uint8)[::1, ::1]):
        assert encode_run_lengths(given_mask) == "2 3"


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_text_is_an_empty_mask(text):
    assert not decode_run_lengths(text, (3, 4)).any()
    assert encode_run_lengths(np.zeros((3, 4), bool)) == ""


def test_runs_may_touch_come_in_any_order_and_end_with_the_image():
    for text in ("2 3 5 8", "5 8 2 3", " 5  8\t2 3 ", "5 8\r\n2 3\n"):
        np.testing.assert_array_equal(decode_run_lengths(text, (3, 4)), plain_mask("2 11", (3, 4)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", "have 1 fields, an odd number"),
        ("1 2 3", "have 3 fields, an odd number"),
        ("1 2.5", "have the field '2.5'"),
        ("1 x", "have the field 'x'"),
        ("1,2", "have the field '1,2'"),
        ("1_0 2", "have the field '1_0'"),
        ("1 " + "9" * 5000, "have the field '99999999999999999999'"),
        ("1\xa02", r"have the field '1\xa02'"),
        ("1 2\u2003", r"have the field '2\u2003'"),
        ("1\v2", r"have the field '1\x0b2'"),
        ("1\x852 3 4", r"have the field '1\x852'"),
        ("\u0661 2", "have the field '\u0661'"),
        ("- 2", "have the field '-'"),
        ("0 2", "have a run from 0 of length 2"),
        ("-3 2", "have a run from -3 of length 2"),
        ("4 1 6 0", "have a run from 6 of length 0"),
        ("4 -1", "have a run from 4 of length -1"),
        ("12 2", "have a run from pixel 12 to 13, the image has 4x3 = 12 pixels"),
        ("1 1 999999999999999999 999999999999999999", "have a run from pixel 999999999999999999 to"),
        ("1 3 3 2", "overlap: a run goes from pixel 1 to 3, another starts at 3"),
        ("7 2 1 3 7 1", "overlap: a run goes from pixel 7 to 8, another starts at 7"),
    ],
)
def test_a_text_that_is_no_mask_of_the_image_is_refused(text, expected):
    assert problem(text).startswith(expected)


def test_only_one_slice_is_encoded_at_a_time():
    with pytest.raises(ValueError, match="3 dimensions"):
        encode_run_lengths(np.zeros((2, 3, 4)))
