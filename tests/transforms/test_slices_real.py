"""25 real slices of 8 patients, rescaled to 512 x 512, with masks in colours."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from skimage import io

from mtmed.transforms import LoadVolumed
from mtmed.transforms.reading import read_label, read_volume

pytestmark = pytest.mark.real

STOMACH, LARGE_BOWEL, SMALL_BOWEL = 1, 2, 3  # red, green, red and green
# pixels of the 25 slices; the data's own totals are of 36, of which these are a part
PIXELS = {STOMACH: 87_060, LARGE_BOWEL: 124_029, SMALL_BOWEL: 133_970}
PIXELS_OF_ALL = {STOMACH: 120_596, LARGE_BOWEL: 152_911, SMALL_BOWEL: 167_908}
MAGENTA = 5  # red and blue: a few pixels in five slices, whose meaning the data do not explain


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    folder = real_data / "gi_tract_uwm_2d"
    if not folder.is_dir():
        pytest.skip("no slices of the GI tract beside the project")
    return folder


def test_all_pairs_are_read_with_the_organs_that_they_hold(folder: Path) -> None:
    paths = sorted((folder / "images").glob("*.png"))
    assert len(paths) == 25
    assert len({path.name.split("_")[0] for path in paths}) == 8
    pixels: Counter[int] = Counter()
    for path in paths:
        image = read_volume(path)
        label = read_label(folder / "masks" / path.name, image)
        assert image.data.shape == label.data.shape == (512, 512, 1)
        assert image.data.dtype == label.data.dtype == np.uint8
        assert image.notes == ("declares no spacing, 1 mm is taken",)
        np.testing.assert_array_equal(image.data[..., 0].T, io.imread(path)[..., 0])
        red, green, blue = np.moveaxis(io.imread(folder / "masks" / path.name)[..., :3] > 127, -1, 0)
        assert not (green & blue).any()
        np.testing.assert_array_equal(label.data[..., 0].T, red + 2 * green + 4 * blue)
        values, counts = np.unique(label.data, return_counts=True)
        assert set(values.tolist()) <= {0, STOMACH, LARGE_BOWEL, SMALL_BOWEL, MAGENTA}
        pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    assert {value: pixels[value] for value in PIXELS} == PIXELS
    assert all(count <= PIXELS_OF_ALL[value] for value, count in PIXELS.items())
    assert pixels[MAGENTA] == 255


def test_a_slice_without_bowel_holds_the_stomach_only(folder: Path) -> None:
    name = "case101_day22_slice_0070.png"
    loaded = LoadVolumed(["image", "label"])({"image": folder / "images" / name, "label": folder / "masks" / name})
    assert loaded["image"].shape == loaded["label"].shape == (1, 512, 512, 1)
    assert set(np.unique(loaded["label"]).astype(int).tolist()) == {0, STOMACH}


def test_the_stomach_lies_to_the_left_of_the_patient(folder: Path) -> None:
    """Columns grow to the left: in slices with enough stomach it lies beyond the middle of the body."""
    beyond = []
    for path in sorted((folder / "images").glob("*.png")):
        image = read_volume(path)
        stomach = read_label(folder / "masks" / path.name, image).data[..., 0] == STOMACH
        if stomach.sum() > 2000:
            beyond.append(float(np.argwhere(stomach)[:, 0].mean()) > 256)
    assert len(beyond) >= 10
    assert np.mean(beyond) > 0.8
