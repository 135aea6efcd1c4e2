"""Features of slices and how they are distributed over a cohort."""

import math

import numpy as np
import pytest
from slice_cohort import scan_cohort

from mtmed.data.slice_features import FEATURES, feature_statistics, slice_features
from mtmed.errors import InputError

ROWS = [("p1", 3), ("p2", 5), ("p3", 1)]
FACTS = [{"pixel_height": 1.5, "pixel_width": 2.0}, {"pixel_height": 1.625, "pixel_width": 2.0 + 1e-6}, {}]
METADATA = [{"day_number": 4, "pixel_width": 9.0, "site": "a"}, {"day_number": 0.5, "site": 3}, {"pixel_width": 2.0}]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return scan_cohort(tmp_path_factory.mktemp("scans"), ROWS, facts=FACTS, metadata=METADATA)


def test_facts_come_before_metadata_and_the_unknown_is_nan(volumes):
    names = ["pixel_width", "slice_position", "day_number", "site", "pixel_height"]
    nan = math.nan
    np.testing.assert_allclose(slice_features(volumes[0], 1, names), [2.0, 0.5, 4.0, nan, 1.5])
    np.testing.assert_allclose(slice_features(volumes[1], 4, names), [2.0 + 1e-6, 1.0, 0.5, 3.0, 1.625])
    np.testing.assert_allclose(slice_features(volumes[2], 0, names), [2.0, 0.0, nan, nan, nan])
    assert slice_features(volumes[0], 1, names).dtype == np.float32
    assert slice_features(volumes[0], 1, []).shape == (0,)


@pytest.mark.parametrize("value", [True, "4", None, math.inf, math.nan])
def test_what_is_no_finite_number_is_not_known(tmp_path, value):
    volumes = scan_cohort(tmp_path, [("p1", 2)], metadata=[{"day_number": value}])
    assert np.isnan(slice_features(volumes[0], 0, ["day_number"])).all()


def test_statistics_are_those_of_all_slices_of_all_scans(volumes):
    names = ["slice_position", "pixel_height", "day_number"]
    found = feature_statistics(volumes, names)
    positions = np.array([0, 0.5, 1, 0, 0.25, 0.5, 0.75, 1, 0])
    heights, days = np.array([1.5] * 3 + [1.625] * 5), np.array([4] * 3 + [0.5] * 5)
    np.testing.assert_allclose(found["mean"], [positions.mean(), heights.mean(), days.mean()])
    np.testing.assert_allclose(found["deviation"], [positions.std(), heights.std(), days.std()])
    assert all(isinstance(value, float) for value in found["mean"] + found["deviation"])


def test_a_feature_of_one_value_has_the_deviation_zero(volumes):
    found = feature_statistics(volumes, ["pixel_width"])
    assert found["deviation"] == [0.0], "2 mm, but for rounding"
    assert found["mean"] == pytest.approx([2.0])
    assert feature_statistics(volumes[2:], ["slice_position"]) == {"mean": [0.0], "deviation": [0.0]}


def test_a_feature_that_no_case_has_is_named(volumes):
    with pytest.raises(InputError, match="feature case_number: is known of none of the 3 cases; give it in the metad"):
        feature_statistics(volumes, ["day_number", "case_number"])


def test_every_feature_of_images_is_described():
    assert list(FEATURES) == ["slice_position", "pixel_height", "pixel_width", "image_height", "image_width"]
    assert all(FEATURES.values())
