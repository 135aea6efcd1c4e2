"""The demo cohorts: readable as what they stand for, anatomically right, the same on every run."""

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import label as connected_components

from mtmed.data.demo import abdomen_ct, demo_abdomen_ct, demo_abdomen_organs
from mtmed.data.demo.made_once import made_once
from mtmed.errors import InputError


def digests(folder: str) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(Path(folder).rglob("*"))
        if file.is_file()
    }


def read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(file)
    return np.asarray(image.dataobj), image.affine


def world(affine: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Centre of a mask in scanner coordinates, RAS+."""
    return (affine[:3, :3] @ np.argwhere(mask).T).mean(axis=1) + affine[:3, 3]


def made_name(cache: Path) -> str:
    """Name of the folder that the one lock file in a cache belongs to."""
    (lock,) = cache.glob(".*.lock")
    return lock.name.removeprefix(".").removesuffix(".lock")


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(demo_abdomen_ct(tmp_path_factory.mktemp("partial"), cases_per_dataset=4))


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(demo_abdomen_organs(tmp_path_factory.mktemp("organs"), cases_per_dataset=5))


def test_same_seed_gives_the_same_files_and_another_seed_does_not(tmp_path: Path) -> None:
    first = digests(demo_abdomen_organs(tmp_path / "a", seed=3, cases_per_dataset=1))
    assert digests(demo_abdomen_organs(tmp_path / "b", seed=3, cases_per_dataset=1)) == first
    other = digests(demo_abdomen_organs(tmp_path / "a", seed=4, cases_per_dataset=1))
    assert other["imagesTr/organs_000.nii.gz"] != first["imagesTr/organs_000.nii.gz"]


def test_more_cases_leave_the_first_ones_as_they_are(tmp_path: Path, organs: Path) -> None:
    few = Path(demo_abdomen_organs(tmp_path, cases_per_dataset=1))
    for part in ("imagesTr", "labelsTr"):
        name = f"{part}/organs_000.nii.gz"
        assert (few / name).read_bytes() == (organs / name).read_bytes()


def test_cohort_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = demo_abdomen_organs(tmp_path, cases_per_dataset=1)
    assert len(capsys.readouterr().out.splitlines()) == 1
    times = {file: file.stat().st_mtime_ns for file in Path(first).rglob("*")}
    assert demo_abdomen_organs(tmp_path, cases_per_dataset=1) == first
    assert capsys.readouterr().out == ""
    assert {file: file.stat().st_mtime_ns for file in Path(first).rglob("*")} == times


def test_interrupted_writing_leaves_no_folder_behind(tmp_path: Path) -> None:
    source = tmp_path / "generator.py"
    source.write_text("1")

    def fails(folder: Path) -> str:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    def works(folder: Path) -> str:
        (folder / "whole").write_text("whole")
        return "one file"

    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        made_once(cache, stamp="s", sources=[source], write=fails, what="test data")
    assert not [path for path in cache.iterdir() if path.is_dir()]
    (cache / f".{made_name(cache)}.killed").mkdir()
    made = made_once(cache, stamp="s", sources=[source], write=works, what="test data")
    assert [path.name for path in Path(made).iterdir()] == ["whole"]
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [Path(made).name]


def test_changed_generator_makes_a_new_folder(tmp_path: Path) -> None:
    source = tmp_path / "generator.py"
    folders = set()
    for text in ("1", "2", "1"):
        source.write_text(text)
        folders.add(made_once(tmp_path / "c", stamp="s", sources=[source], write=lambda folder: "nothing", what="data"))
    assert len(folders) == 2


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match="file: cannot be written"):
        demo_abdomen_ct(blocked, cases_per_dataset=1)
    with pytest.raises(InputError, match="cases_per_dataset: is 0"):
        demo_abdomen_ct(tmp_path, cases_per_dataset=0)


def test_each_data_set_has_a_decathlon_datalist_that_matches_its_files(partial: Path, organs: Path) -> None:
    names = {}
    for folder in (*sorted(partial.iterdir()), organs):
        manifest = json.loads((folder / "dataset.json").read_text())
        assert manifest["numTraining"] == len(manifest["training"]) == len(list((folder / "imagesTr").iterdir()))
        assert manifest["numTest"] == len(manifest["test"]) == 1
        assert manifest["modality"] == {"0": "CT"}
        assert manifest["labels"]["0"] == "background"
        allowed = {int(value) for value in manifest["labels"]}
        seen: set[int] = set()
        for row in manifest["training"]:
            image, image_affine = read(folder / row["image"])
            label, label_affine = read(folder / row["label"])
            assert image.dtype == np.int16
            assert label.dtype == np.uint8
            assert image.shape == label.shape
            np.testing.assert_array_equal(image_affine, label_affine)
            assert (folder / row["image"]).stat().st_size < 1_000_000
            seen |= {int(value) for value in np.unique(label)}
        assert seen == allowed
        assert (folder / manifest["test"][0]).is_file()
        names[folder.name] = list(manifest["labels"].values())[1:]
    assert names == {
        "Demo_Kidney": ["left kidney", "right kidney", "cancer"],
        "Demo_Liver": ["liver", "cancer"],
        "Demo_Organs": ["liver", "spleen", "left kidney", "right kidney"],
        "Demo_Pancreas": ["pancreas"],
        "Demo_Spleen": ["spleen"],
    }


def test_grids_differ_in_orientation_and_spacing_and_one_is_oblique(partial: Path) -> None:
    affines = [nib.load(file).affine for file in sorted(partial.glob("*/imagesTr/*.nii.gz"))]
    assert {"".join(nib.aff2axcodes(affine)) for affine in affines} == {"RAS", "LAS", "LPS", "RPI"}
    spacings = np.array([nib.affines.voxel_sizes(affine) for affine in affines])
    assert len({tuple(spacing) for spacing in spacings.round(3).tolist()}) == len(affines)
    assert ((spacings > (2.9, 2.9, 4)) & (spacings < (4, 4, 6.5))).all()
    angles = [np.rad2deg(nib.affines.obliquity(affine)).max() for affine in affines]
    assert sum(angle > 3 for angle in angles) == 1
    assert sum(angle > 0.1 for angle in angles) == 1


def test_header_says_the_same_affine_twice(partial: Path) -> None:
    for file in sorted(partial.glob("*/imagesTr/*.nii.gz")):
        image = nib.load(file)
        assert image.get_sform(coded=True)[1] == image.get_qform(coded=True)[1] == 1
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=2e-3)


def test_organs_lie_where_they_lie_in_people(organs: Path) -> None:
    for file in sorted((organs / "labelsTr").iterdir()):
        label, affine = read(file)
        image, _ = read(organs / "imagesTr" / file.name)
        liver, spleen, left, right = (world(affine, label == value) for value in (1, 2, 3, 4))
        body = world(affine, image > -300)
        # in RAS+ a larger first coordinate is further to the patient's right
        assert liver[0] > body[0] + 20
        assert right[0] > body[0] + 20
        assert spleen[0] < body[0] - 20
        assert left[0] < body[0] - 20
        assert max(spleen[1], left[1], right[1]) < body[1]
        assert min(liver[2], spleen[2]) > right[2]
        litres = np.bincount(label.ravel(), minlength=5)[1:] * abs(np.linalg.det(affine[:3, :3])) / 1e6
        assert (litres > (0.7, 0.06, 0.07, 0.07)).all(), litres
        assert (litres < (2.4, 0.45, 0.33, 0.33)).all(), litres


def test_kidneys_differ_in_height_and_shape(tmp_path: Path) -> None:
    folder = Path(demo_abdomen_organs(tmp_path, cases_per_dataset=8))
    higher, longer = [], []
    for file in sorted((folder / "labelsTr").iterdir()):
        label, affine = read(file)
        spread = []
        for value in (3, 4):
            points = affine[:3, :3] @ np.argwhere(label == value).T
            spread.append(points[2].std() / points[0].std())
        longer.append(spread[0] / spread[1])
        higher.append(world(affine, label == 3)[2] - world(affine, label == 4)[2])
    assert np.mean(higher) > 10
    assert np.std(higher) > 2
    assert np.mean(longer) > 1.1


def test_organs_are_one_piece_each(organs: Path) -> None:
    for file in sorted((organs / "labelsTr").iterdir()):
        label, _ = read(file)
        for value in range(1, 5):
            pieces, _ = connected_components(label == value, structure=np.ones((3, 3, 3)))
            sizes = np.bincount(pieces.ravel())[1:]
            assert sizes.max() > 0.97 * sizes.sum(), (file.name, value, sizes)


def test_intensities_are_those_of_contrast_enhanced_ct(organs: Path) -> None:
    for file in sorted((organs / "labelsTr").iterdir()):
        label, _ = read(file)
        image, _ = read(organs / "imagesTr" / file.name)
        liver, spleen, left, right = (float(np.median(image[label == value])) for value in (1, 2, 3, 4))
        assert 80 < liver < 140
        assert 90 < spleen < 160
        assert 120 < left < 230
        assert abs(left - right) < 20
        quartiles = np.percentile(image[label == 2], (25, 75))
        assert 8 < quartiles[1] - quartiles[0] < 50
        assert image.min() >= -1024
        assert (image < -800).mean() > 0.2


def test_patient_with_two_scans_is_the_same_person_on_another_day(partial: Path) -> None:
    folder = partial / "Demo_Kidney"
    rows = json.loads((folder / "dataset.json").read_text())["training"]
    patients = [row["patient"] for row in rows]
    assert patients[0] == patients[1]
    assert len(set(patients)) == len(patients) - 1
    volumes = []
    for row in rows[:3]:
        label, affine = read(folder / row["label"])
        volumes.append(np.bincount(label.ravel(), minlength=3)[1:3] * abs(np.linalg.det(affine[:3, :3])))
    assert not np.array_equal(read(folder / rows[0]["image"])[1], read(folder / rows[1]["image"])[1])
    same, other = np.abs(np.log(volumes[0] / volumes[1])).sum(), np.abs(np.log(volumes[0] / volumes[2])).sum()
    assert same < 0.25
    assert same < other


def test_every_label_belongs_to_an_organ_that_is_painted() -> None:
    for dataset in (*abdomen_ct.PARTIAL, abdomen_ct.ORGAN_SET):
        for painted in dataset.labels.values():
            assert set(painted) <= set(abdomen_ct.ORGANS)
