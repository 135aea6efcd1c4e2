"""Real chest X-rays and the whole real table of pneumothorax masks."""

from pathlib import Path

import numpy as np
import pytest
from real_cohorts import pneumothorax_siim
from skimage import io

from mtmed.data import check_cases, load_cohort
from mtmed.inferers.cases import inference_cases
from mtmed.transforms import LoadVolumed, decode_relative_run_lengths
from mtmed.transforms.pneumothorax_table import PneumothoraxTable
from mtmed.transforms.reading import read_volume

pytestmark = pytest.mark.real

UID = "1.2.276.0.7230010.3.1.4.8323329"
POSITIVE, NEGATIVE = f"{UID}.5797.1517875190.762694", f"{UID}.5806.1517875190.997408"
DICOM = f"{UID}.6904.1517875201.850819"
SIZE = (1024, 1024)


@pytest.fixture(scope="module")
def folder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (real_data / "pneumothorax_siim").is_dir():
        pytest.skip("no X-rays beside the project")
    return pneumothorax_siim(real_data, tmp_path_factory.mktemp("x_rays") / "pneumothorax_siim")


def plain_runs(text: str) -> list[tuple[int, int]]:
    """First and past-the-last pixel of each run, counted down the columns."""
    runs, position = [], 0
    numbers = list(map(int, text.split()))
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        runs.append((position + gap, position + gap + length))
        position += gap + length
    return runs


def test_the_whole_table_is_decoded(folder: Path) -> None:
    table = PneumothoraxTable.read(folder / "train-rle.csv")
    texts = [text for rows in table.masks.values() for text in rows]
    negative = sum(not rows for rows in table.masks.values())
    assert (len(table.masks), negative, len(texts) + negative) == (12_047, 9_378, 12_954)
    assert not table.contradictory
    for text in texts:
        mask = decode_relative_run_lengths(text, SIZE)
        runs = plain_runs(text)
        down = mask.T.reshape(-1)
        assert np.count_nonzero(mask) == sum(end - start for start, end in runs)
        assert all(down[start] and down[end - 1] for start, end in runs)


def test_the_positive_image_has_its_mask_at_apex_and_base_of_one_lung(folder: Path) -> None:
    loaded = LoadVolumed(["image", "label"])(
        {"image": str(folder / "images" / f"{POSITIVE}.png"), "label": str(folder / "train-rle.csv")}
    )
    np.testing.assert_array_equal(loaded["image"][0, ..., 0].T, io.imread(folder / "images" / f"{POSITIVE}.png"))
    mask = loaded["label"][0, ..., 0].numpy().T
    rows, columns = np.nonzero(mask)
    assert mask.sum() == 18_648
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (176, 805, 649, 935)


def test_the_dicom_x_ray_is_read_with_its_pixel_size(folder: Path) -> None:
    volume = read_volume(folder / "images" / f"{DICOM}.dcm")
    assert volume.data.shape == (*SIZE, 1)
    assert volume.data.dtype == np.uint8
    assert volume.spacing == pytest.approx((0.168, 0.168, 1.0))
    pixels = volume.data[..., 0].T.astype(float)
    # air around the shoulders is dark, the spine is bright
    assert pixels[:150, :60].mean() < 60 < 120 < pixels[500:900, 450:560].mean()


def test_the_cohort_passes_the_check(folder: Path) -> None:
    report = check_cases(load_cohort(folder), include_test=True)
    assert report.errors == []
    foreground = {facts.key.partition("/")[2]: facts.voxels.get(1, 0) for facts in report.cases if facts.voxels}
    assert foreground == {POSITIVE: 18_648, NEGATIVE: 0, DICOM: 0}
    assert any("has rows for 12044 images that no case lists" in notice for notice in report.notices)


def test_every_x_ray_of_the_folders_is_a_case_to_predict(folder: Path) -> None:
    names = {
        case["output_name"]
        for part in ("images", "unlabelled")
        for case in inference_cases(folder / part, modalities=["CR"])
    }
    assert len(names) == 11
    assert {POSITIVE, NEGATIVE, DICOM} < names
