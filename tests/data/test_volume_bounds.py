"""Bounding boxes, remarks and maps of stored volumes."""

import json
import zlib
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Orientationd
from side_cohort import LEFT, RIGHT, sided_cohort

from mtmed.data.case import Case
from mtmed.data.volume_store import VolumeStore
from mtmed.data.volumes import RECORD_NAME
from mtmed.data.whole_volumes import WholeVolumes
from mtmed.errors import InputError
from mtmed.transforms.reading import LoadVolumed


def make_case(folder, label, *, name="0", maps=None):
    """Files of one case; the image is random."""
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    image = np.random.default_rng(0).normal(size=label.shape).astype(np.float32)
    paths = {"image": image, "label": label, **(maps or {})}
    for key, voxels in paths.items():
        nib.save(nib.Nifti1Image(voxels, affine), folder / f"{name}_{key}.nii.gz")
    files = {key: str(folder / f"{name}_{key}.nii.gz") for key in paths}
    return Case(name, (files["image"],), files["label"], name, "kits", maps={k: files[k] for k in maps or {}})


def expected_bounds(values, value):
    places = np.argwhere(values == value)
    return tuple(places.min(axis=0).tolist()), tuple((places.max(axis=0) + 1).tolist())


def test_bounds_of_label_and_maps_equal_numpys(tmp_path):
    generator = np.random.default_rng(1)
    label, tissue = (np.zeros((20, 18, 16), np.int16) for _ in range(2))
    for values, present in ((label, (1, 3, 500)), (tissue, (2, 7))):
        for value in present:
            places = generator.integers(0, values.shape, (6, 3))
            values[tuple(places.T)] = value
    keys = ["image", "label", "tissue"]
    transforms = [LoadVolumed(keys), Orientationd(keys, "RAS", labels=None)]
    store = VolumeStore(tmp_path / "store", transforms=transforms, maps=["tissue"])
    case = make_case(tmp_path, label, maps={"tissue": tissue})
    for volume in (store.build([case])[0], store.build([case])[0]):  # written, and read again
        assert volume.maps == ("label", "tissue")
        crop = volume.crop((0, 0, 0), volume.shape)
        for name, present in (("label", (1, 3, 500)), ("tissue", (2, 7))):
            for value in present:
                assert volume.bounds(name, value) == expected_bounds(crop[name][0], value)
            assert volume.bounds(name, 4) is None
        assert volume.bounds("side", 1) is None
        assert volume.remarks == ()


def test_bounds_are_those_of_all_voxels_where_the_table_is_a_subsample(tmp_path):
    label = np.zeros((40, 40, 30), np.uint8)
    label[3:37, 2:39, 1:29] = 1
    # lone voxels at the very ends, which a subsample of 20 000 of 35 000 would mostly miss
    label[0, 20, 15] = label[39, 20, 15] = label[20, 0, 15] = label[20, 20, 29] = 1
    volume = VolumeStore(tmp_path / "s", transforms=[LoadVolumed(["image", "label"])]).build(
        [make_case(tmp_path, label)]
    )[0]
    assert len(volume.coordinates(1)) == 20_000 < np.count_nonzero(label)
    assert volume.bounds("label", 1) == ((0, 0, 1), (40, 39, 30)) == expected_bounds(label, 1)


def test_a_case_without_label_has_the_maps_that_transforms_make(tmp_path):
    volumes = sided_cohort(tmp_path, [("kits", "a", "LR"), ("kits", "b", "L")])
    assert [volume.labelled for volume in volumes] == [False, False]
    assert volumes[0].maps == ("side",)
    assert volumes[0].bounds("side", 1) == (tuple(LEFT[:3]), tuple(LEFT[3:]))
    assert volumes[0].bounds("side", 2) == (tuple(RIGHT[:3]), tuple(RIGHT[3:]))
    assert volumes[1].bounds("side", 2) is None
    assert set(volumes[0].crop((0, 0, 0), (4, 4, 4))) == {"image", "side"}
    assert set(WholeVolumes(volumes)[0]) == {"image", "volume"}


def test_a_label_that_no_transform_loads_is_left_out(tmp_path):
    case = make_case(tmp_path, np.ones((6, 5, 4), np.uint8))
    volume = VolumeStore(tmp_path / "store", transforms=[LoadVolumed("image")]).build([case])[0]
    assert (volume.labelled, volume.maps, volume.classes) == (False, (), ())


def test_remarks_of_transforms_are_kept_with_the_entry(tmp_path):
    rows = [("kits", "a", "LR"), ("kits", "b", "")]
    for volumes in (sided_cohort(tmp_path, rows), sided_cohort(tmp_path, rows)):
        assert [volume.remarks for volume in volumes] == [(), ("left kidney missing", "right kidney missing")]


def test_volumes_know_who_has_a_side_and_whose_they_are(tmp_path):
    volumes = sided_cohort(tmp_path, [("kits", "a", "LR"), ("own", "a", "R"), ("kits", "b", "L"), ("kits", "a", "")])
    assert volumes.having("side", 1) == [0, 2]
    assert volumes.having("side", 2) == [0, 1]
    assert volumes.having("label", 1) == volumes.having("side", 3) == []
    assert [volumes.patient(index) for index in range(4)] == [("kits", "a"), ("own", "a"), ("kits", "b"), ("kits", "a")]
    chosen = volumes.select([3, 1])
    assert [(volume.case.id, volume.index) for volume in chosen] == [("3", 0), ("1", 1)]
    assert chosen.datasets == ("kits", "own")
    assert chosen.having("side", 2) == [1]


def test_an_entry_of_another_form_is_prepared_anew(tmp_path):
    case = make_case(tmp_path, np.ones((6, 5, 4), np.uint8))
    store = VolumeStore(tmp_path / "store", transforms=[LoadVolumed(["image", "label"])])
    store.build([case])
    record = store.folder / store.key(case) / RECORD_NAME
    body = json.loads(json.loads(record.read_text())["record"])
    assert body.pop("bounds") == {"label": {"1": [0, 0, 0, 6, 5, 4]}}
    text = json.dumps(body)
    record.write_text(json.dumps({"record": text, "checksum": zlib.crc32(text.encode())}))
    assert store.build([case])[0].bounds("label", 1) == ((0, 0, 0), (6, 5, 4))


def test_a_map_of_another_shape_is_named(tmp_path):
    case = replace(make_case(tmp_path, np.ones((6, 5, 4), np.uint8)), label=None)
    store = VolumeStore(tmp_path / "store", transforms=[LoadVolumed("image"), _short_side], maps=["side"])
    with pytest.raises(InputError, match=r"side of kits/0: has shape \(5, 5, 4\)"):
        store.build([case])


def _short_side(data):
    return {**data, "side": torch.ones(1, 5, 5, 4)}
