"""The demo cohort of chest X-rays: readable as the SIIM-ACR data, sensible, the same on every run."""

import csv
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy.ndimage import binary_dilation, binary_erosion, label

from mtmed.data import load_cohort
from mtmed.data.check import check_cases
from mtmed.data.demo import demo_chest_xray
from mtmed.data.demo.chest_anatomy import paint_chest
from mtmed.data.demo.chest_patient import draw_chest_patient, draw_pneumothorax
from mtmed.data.layout import match_layout, read_layout
from mtmed.errors import InputError
from mtmed.transforms.reading import read_label, read_volume


@dataclass(frozen=True)
class Xray:
    """Grey values and outline (rows, columns) as they lie in the files."""

    path: Path
    grey: np.ndarray
    mask: np.ndarray
    photometry: str

    @property
    def air(self) -> np.ndarray:
        """Grey values, the darkest where fewest rays are absorbed."""
        return 255 - self.grey if self.photometry == "MONOCHROME1" else self.grey


def mask_of(texts: list[str], shape: tuple[int, int]) -> np.ndarray:
    """Relative run lengths by a loop: down the columns, each gap from the end of the run before; rows are OR-ed."""
    rows = shape[0]
    mask = np.zeros(shape, bool)
    for text in texts:
        numbers, at = [int(field) for field in text.split()], 0
        for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
            at += gap
            for pixel in range(at, at + length):
                mask[pixel % rows, pixel // rows] = True
            at += length
    return mask


def read_dicom(path: Path) -> tuple[np.ndarray, str]:
    """Stored values by their place at the end of the file (SimpleITK inverts some), the header by SimpleITK."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    columns, rows = reader.GetSize()[:2]
    values = np.frombuffer(path.read_bytes()[-rows * columns :], np.uint8).reshape(rows, columns)
    return values, reader.GetMetaData("0028|0004").strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(demo_chest_xray(tmp_path_factory.mktemp("xray"), labelled=36, unlabelled=60))


@pytest.fixture(scope="module")
def table(folder: Path) -> dict[str, list[str]]:
    with (folder / "train-rle.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["ImageId", " EncodedPixels"]
    texts: dict[str, list[str]] = {}
    for name, text in lines[1:]:
        texts.setdefault(name, []).append(text)
    return texts


@pytest.fixture(scope="module")
def xrays(folder: Path, table: dict[str, list[str]]) -> list[Xray]:
    """The labelled images."""
    found = []
    for path in sorted(folder.rglob("*.dcm")):
        if path.stem in table:
            grey, photometry = read_dicom(path)
            texts = [text for text in table[path.stem] if text.strip() != "-1"]
            found.append(Xray(path, grey, mask_of(texts, grey.shape), photometry))
    return found


def test_a_third_is_positive_and_most_images_have_no_row(
    folder: Path, table: dict[str, list[str]], xrays: list[Xray]
) -> None:
    images = sorted(folder.rglob("*.dcm"))
    assert (len(images), len(table), len(xrays)) == (96, 36, 36)
    assert len({path.parents[1].name for path in images}) == 96
    assert sum(xray.mask.any() for xray in xrays) == 12
    rows = Counter(len(texts) for texts in table.values())
    assert rows == {1: 30, 2: 6}
    negatives = {texts[0] for texts in table.values() if texts[0].strip() == "-1"}
    assert negatives == {"-1", " -1"}


def test_the_masks_that_are_read_are_those_of_the_table(folder: Path, xrays: list[Xray]) -> None:
    (manifest,) = load_cohort(folder).manifests
    cases = {case.id: case for case in manifest.cases}
    for xray in xrays:
        case = cases[xray.path.stem]
        image = read_volume(str(case.image[0]))
        masks = read_label(str(case.label), image)
        np.testing.assert_array_equal(image.data[..., 0].T, xray.air)
        np.testing.assert_array_equal(masks.data[..., 0].T, xray.mask)


def test_same_seed_gives_the_same_files_whatever_their_number_and_another_seed_does_not(
    folder: Path, tmp_path: Path
) -> None:
    again = Path(demo_chest_xray(tmp_path / "a", labelled=8, unlabelled=2))
    files = sorted(file.relative_to(again) for file in again.rglob("*.dcm"))
    assert len(files) == 10
    for file in files:
        assert (again / file).read_bytes() == (folder / file).read_bytes(), file
    assert (folder / "train-rle.csv").read_text().startswith((again / "train-rle.csv").read_text())
    other = Path(demo_chest_xray(tmp_path / "b", seed=4, labelled=8, unlabelled=2))
    assert (other / "train-rle.csv").read_text() != (again / "train-rle.csv").read_text()


@pytest.mark.parametrize(
    ("option", "value"), [("labelled", 0), ("labelled", 1001), ("unlabelled", -1), ("unlabelled", 1001), ("seed", -1)]
)
def test_chest_options_out_of_range_are_refused(tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{option}: is {value}"):
        demo_chest_xray(tmp_path, **{option: value})
    assert not list(tmp_path.iterdir())


def test_the_cohort_passes_the_check_and_is_small(folder: Path) -> None:
    report = check_cases(load_cohort(folder), include_test=True)
    assert report.errors == []
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 3e6


def test_the_manifest_lists_unlabelled_images_as_test_cases_each_of_another_patient(folder: Path) -> None:
    (manifest,) = load_cohort(folder).manifests
    assert manifest.overlapping
    assert manifest.label_names == {0: "background", 1: "pneumothorax"}
    assert (len(manifest.cases), len(manifest.test_cases)) == (36, 60)
    for case in (*manifest.cases, *manifest.test_cases):
        study, _, name = str(case.image[0]).removesuffix(".dcm").split("/")[-3:]
        assert (case.group, case.id) == (study, name)
        assert (case.label is None) == (case in manifest.test_cases)
    assert len({case.group for case in (*manifest.cases, *manifest.test_cases)}) == 96
    content = json.loads((folder / "dataset.json").read_text())
    assert (content["numTraining"], content["numTest"]) == (36, 60)


def test_the_layout_of_the_real_x_rays_finds_the_same_cases(folder: Path) -> None:
    (ours,) = load_cohort(folder).manifests
    match = match_layout(read_layout("siim_pneumothorax"), folder)
    found = match.manifest
    assert (found.label_names, found.modalities) == (ours.label_names, ours.modalities)
    assert found.overlapping == ours.overlapping
    for mine, theirs in ((ours.cases, found.cases), (ours.test_cases, found.test_cases)):
        by_id = {case.id: replace(case, dataset="") for case in theirs}
        assert {case.id: replace(case, dataset="") for case in mine} == by_id


def test_sizes_pixels_and_photometry_differ_as_they_do_in_hospitals(xrays: list[Xray]) -> None:
    assert {xray.grey.shape for xray in xrays} == {(128, 128), (128, 112)}
    assert Counter(xray.photometry for xray in xrays) == {"MONOCHROME2": 31, "MONOCHROME1": 5}
    assert any(xray.mask.any() for xray in xrays if xray.photometry == "MONOCHROME1")
    middles = [float(np.median(xray.air)) for xray in xrays]
    assert max(middles) > 1.3 * min(middles)
    for xray in xrays:
        corners = np.concatenate([xray.air[:8, :8].ravel(), xray.air[:8, -8:].ravel()])
        assert corners.mean() < 0.5 * np.median(xray.air)  # air beside the neck is dark


def test_pneumothoraces_are_one_connected_rim_of_one_side_from_small_to_large(xrays: list[Xray]) -> None:
    positive = [xray for xray in xrays if xray.mask.any()]
    shares = sorted(float(xray.mask.mean()) for xray in positive)
    assert shares[0] < 0.02
    assert shares[-1] > 0.05
    sides = set()
    for xray in positive:
        columns = np.argwhere(xray.mask)[:, 1] / (xray.mask.shape[1] - 1)
        sides.add(bool(columns.mean() > 0.5))
        assert columns.max() < 0.55 or columns.min() > 0.45
        assert label(xray.mask, np.ones((3, 3)))[1] <= 2  # the heart may part it
    assert sides == {True, False}


def test_gas_absorbs_less_than_the_lung_that_it_displaces_and_shows_nothing_of_its_vessels() -> None:
    row, column = np.mgrid[:96, :96].astype(np.float32) - 47.5
    points = np.stack([3.3 * column, -3.3 * row])
    for number in range(6):
        patient = draw_chest_patient(np.random.default_rng(number))
        ill = draw_pneumothorax(0.2 * number, np.random.default_rng(number))
        before, none = paint_chest(patient, None, points, np.random.default_rng(number))
        after, gas = paint_chest(patient, ill, points, np.random.default_rng(number))
        assert not none.any()
        assert gas.sum() > 40
        inside = binary_erosion(gas)  # the edge of the lung itself is bright
        assert (after[inside] < before[inside]).mean() > 0.9
        clearer, _ = paint_chest(replace(patient, vessels=2.0), ill, points, np.random.default_rng(number))
        np.testing.assert_array_equal(clearer[inside], after[inside])
        assert clearer.sum() > after.sum()
        outside = ~binary_dilation(gas, iterations=2)
        other = outside & (np.sign(points[0]) == -ill.side) & (np.abs(points[0]) > 40)
        np.testing.assert_array_equal(after[other], before[other])


def test_grey_values_alone_do_not_tell_a_pneumothorax(xrays: list[Xray]) -> None:
    best = []
    for xray in (one for one in xrays if one.mask.any()):
        thresholds = np.percentile(xray.air[xray.mask], [10, 30, 50, 70, 90])
        found = [xray.air <= threshold for threshold in thresholds]
        best.append(max(2 * (one & xray.mask).sum() / (one.sum() + xray.mask.sum()) for one in found))
    assert np.median(best) < 0.4
