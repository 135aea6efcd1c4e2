"""Hints that a label is another image's."""

import numpy as np
import pytest

from mtmed.data import Case
from mtmed.data.pairing_hints import image_sample, label_brightness, pairing_hints

NAMES = {0: "background", 1: "liver"}


def listed(number: int, label: str) -> Case:
    return Case(str(number), (f"/{number}.nii.gz",), label, str(number), "Toy")


def case(number: int, *, other: int | None = None, scale: float = 1.0) -> tuple[Case, dict[int, float]]:
    """A bright organ, which lies elsewhere in each case, and its label or another case's."""
    image = np.random.default_rng(number).normal(0, 5, (24, 20, 16))
    label = np.zeros((8, 24, 20, 16), np.uint8)
    for index in range(8):
        label[index, 3 * index : 3 * index + 3] = 1
    image[label[number] == 1] += 100
    own = label[number if other is None else other]
    return listed(number, f"/label_{number}.nii.gz"), label_brightness(own, {0: 1, 1: 1}, image_sample(scale * image))


def test_nothing_is_said_of_right_labels_whatever_the_scale_of_the_images():
    assert list(pairing_hints([case(number, scale=10.0**number) for number in range(8)], NAMES)) == []


def test_two_exchanged_labels_are_both_hinted_at():
    facts = [case(0), case(1, other=5), *map(case, (2, 3, 4)), case(5, other=1), *map(case, (6, 7))]
    hints = dict(pairing_hints(facts, NAMES))
    assert set(hints) == {"Toy/1", "Toy/5"}
    assert hints["Toy/1"].startswith("what is labelled liver is darker than in other cases")


def test_a_label_that_two_cases_share_is_named_in_a_cohort_of_any_size():
    hints = list(pairing_hints([(listed(0, "/a/label.nii.gz"), {}), (listed(1, "/a/b/../label.nii.gz"), {})], NAMES))
    assert hints == [("Toy/1", "has the same label as Toy/0; check that it is this image's")]


def test_cases_may_share_a_table_of_masks():
    assert list(pairing_hints([(listed(0, "/masks.csv"), {}), (listed(1, "/masks.csv"), {})], NAMES)) == []


@pytest.mark.parametrize("shape", [(300, 200, 100), (40, 30, 20), (500, 400, 1), (30, 20, 10, 2)])
def test_brightness_is_the_area_under_the_roc_curve(shape):
    random = np.random.default_rng(0)
    image = random.normal(0, 1, shape).astype(np.float32)
    label = (random.random(shape[:3]) < 0.2).astype(np.uint8)
    image[label == 1] += 1
    found = label_brightness(label, {0: 1, 1: 1}, image_sample(image))[1]
    volume = image[..., 0] if image.ndim == 4 else image
    inside, whole = volume[label == 1][:2000], volume.ravel()[:5000]
    expected = (inside[:, None] > whole[None]).mean() + 0.5 * (inside[:, None] == whole[None]).mean()
    assert found == pytest.approx(expected, abs=0.03)
