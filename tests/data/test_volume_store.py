import errno
import os
import pickle
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
)

from mtmed.data import volume_store
from mtmed.data.case import Case
from mtmed.data.distance import boundary_distance
from mtmed.data.volume_store import VolumeStore
from mtmed.data.volumes import DATA_NAME, open_arrays
from mtmed.errors import InputError
from mtmed.transforms.reading import LoadVolumed
from mtmed.transforms.spacing import SeparableSpacingd

KEYS = ["image", "label"]


def make_case(folder: Path, number=0, *, shape=(24, 20, 16), channels=1, labelled=True, dataset="abdomen", edit=None):
    generator = np.random.default_rng(number)
    affine = np.diag([-1.0, 1.2, 2.0, 1.0])
    images = []
    for channel in range(channels):
        voxels = generator.normal(40, 120, shape).astype(np.float32)
        if edit:
            edit(voxels)
        images.append(folder / f"{dataset}_{number}_{channel}.nii.gz")
        nib.save(nib.Nifti1Image(voxels, affine), images[-1])
    label = np.zeros(shape, np.uint8)
    label[4:14, 4:12, 3:9] = 1
    label[15:20, 5:9, 9:14] = 2
    path = folder / f"{dataset}_{number}_label.nii.gz"
    nib.save(nib.Nifti1Image(label, affine), path)
    name = str(number)
    return Case(name, tuple(map(str, images)), str(path) if labelled else None, name, dataset)


def chain(pixdim=(1.3, 1.3, 1.9), low=-150, high=250):
    return [
        LoadVolumed(KEYS),
        Orientationd(KEYS, axcodes="RAS", labels=None),
        SeparableSpacingd(KEYS, pixdim=pixdim, mode=("bilinear", "nearest")),
        ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
    ]


def monai_chain(pixdim=(1.3, 1.3, 1.9), low=-150, high=250):
    return Compose(
        [
            LoadImaged(KEYS),
            EnsureChannelFirstd(KEYS),
            Orientationd(KEYS, axcodes="RAS", labels=None),
            Spacingd(KEYS, pixdim, mode=("bilinear", "nearest")),
            ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
        ]
    )


@pytest.fixture
def store(tmp_path):
    return VolumeStore(tmp_path / "store", transforms=chain(), distance="voxel")


def whole(volume):
    return volume.crop((0, 0, 0), volume.shape)


def test_volume_equals_the_preprocessing_of_monai(store, tmp_path):
    case = make_case(tmp_path, channels=2)
    volume = store.build([case])[0]
    expected = monai_chain()({"image": list(case.image), "label": case.label})
    stored = whole(volume)
    assert (volume.channels, *volume.shape) == tuple(expected["image"].shape)
    np.testing.assert_allclose(stored["image"], expected["image"].numpy(), atol=1e-4)
    np.testing.assert_array_equal(stored["label"], expected["label"].numpy())
    np.testing.assert_allclose(volume.affine, expected["image"].affine)
    np.testing.assert_array_equal(stored["distance"][0], boundary_distance(stored["label"][0]))
    assert (stored["image"].dtype, stored["label"].dtype) == (np.float32, np.uint8)
    assert stored["distance"].dtype == np.float32
    assert volume.classes == (0, 1, 2)


def test_rounding_is_at_most_half_a_step_of_sixteen_bits(tmp_path):
    case = make_case(tmp_path)
    volume = VolumeStore(tmp_path / "s", transforms=[LoadVolumed(KEYS)]).build([case])[0]
    voxels = nib.load(case.image[0]).get_fdata()
    assert np.abs(whole(volume)["image"][0] - voxels).max() <= np.ptp(voxels) / 131070 * 1.01
    assert "distance" not in whole(volume)


def test_crop_is_the_part_of_the_volume_with_zeros_outside(store, tmp_path):
    volume = store.build([make_case(tmp_path)])[0]
    full = whole(volume)
    generator = np.random.default_rng(0)
    for _ in range(60):
        start = generator.integers(-12, 30, 3)
        size = generator.integers(1, 25, 3)
        crop = volume.crop(start.tolist(), size.tolist())
        for name, values in full.items():
            padded = np.pad(values, [(0, 0)] + [(60, 60)] * 3)
            index = tuple(slice(60 + s, 60 + s + n) for s, n in zip(start, size, strict=True))
            np.testing.assert_array_equal(crop[name], padded[(slice(None), *index)])


def test_coordinates_are_the_voxels_of_each_class(store, tmp_path):
    volume = store.build([make_case(tmp_path)])[0]
    label = whole(volume)["label"][0]
    for value in (0, 1, 2):
        np.testing.assert_array_equal(volume.coordinates(value), np.argwhere(label == value))
    np.testing.assert_array_equal(volume.foreground, np.argwhere(label > 0))
    assert volume.coordinates(9).shape == (0, 3)


def test_large_tables_are_a_fixed_even_subsample(tmp_path):
    case = make_case(tmp_path, shape=(40, 40, 30))
    tables = []
    for name in ("a", "b"):
        volume = VolumeStore(tmp_path / name, transforms=[LoadVolumed(KEYS)]).build([case])[0]
        tables.append(np.array(volume.coordinates(0)))
    assert len(tables[0]) == 20000
    assert len(np.unique(tables[0], axis=0)) == 20000
    np.testing.assert_array_equal(*tables)
    label = whole(volume)["label"][0]
    assert (label[tuple(tables[0].T)] == 0).all()
    np.testing.assert_allclose(tables[0].mean(axis=0), np.argwhere(label == 0).mean(axis=0), atol=0.5)


def test_second_build_prepares_nothing(store, tmp_path, monkeypatch):
    cases = [make_case(tmp_path, number) for number in range(3)]
    first = [whole(volume) for volume in store.build(cases)]
    monkeypatch.setattr(VolumeStore, "_transform", None)
    again = VolumeStore(store.folder, transforms=chain(), distance="voxel").build(cases)
    for old, new in zip(first, again, strict=True):
        np.testing.assert_array_equal(old["image"], whole(new)["image"])


def test_number_of_threads_changes_nothing(tmp_path):
    cases = [make_case(tmp_path, number) for number in range(4)]
    for workers in (1, 4):
        VolumeStore(tmp_path / f"w{workers}", transforms=chain()).build(cases, workers=workers)
    for entry in (tmp_path / "w1").glob("*/" + DATA_NAME):
        assert entry.read_bytes() == (tmp_path / "w4" / entry.relative_to(tmp_path / "w1")).read_bytes()


def test_changed_parameters_files_and_options_have_other_keys(tmp_path):
    case = make_case(tmp_path)
    keys = {VolumeStore(tmp_path / "s", transforms=chain()).key(case)}
    keys.add(VolumeStore(tmp_path / "s", transforms=chain(low=-100)).key(case))
    keys.add(VolumeStore(tmp_path / "s", transforms=chain((1.3, 1.3, 2.0))).key(case))
    keys.add(VolumeStore(tmp_path / "s", transforms=chain()[:3]).key(case))
    keys.add(VolumeStore(tmp_path / "s", transforms=chain(), distance="voxel").key(case))
    keys.add(VolumeStore(tmp_path / "s", transforms=chain()).key(replace(case, label=None)))
    os.utime(case.image[0], ns=(1, 1))
    keys.add(VolumeStore(tmp_path / "s", transforms=chain()).key(case))
    assert len(keys) == 7
    assert VolumeStore(tmp_path / "s", transforms=chain()).key(case) in keys


def test_replaced_source_is_prepared_anew(store, tmp_path):
    before = whole(store.build([make_case(tmp_path, 0)])[0])["image"]
    case = make_case(tmp_path, 0, edit=lambda voxels: np.negative(voxels, out=voxels))
    os.utime(case.image[0], ns=(5, 5))
    assert not np.array_equal(whole(store.build([case])[0])["image"], before)


def test_every_flipped_bit_of_the_store_is_found_before_it_is_used(store, tmp_path, caplog):
    case = make_case(tmp_path)
    store.build([case])
    data = store.folder / store.key(case) / DATA_NAME
    raw = data.read_bytes()
    for place in np.random.default_rng(0).integers(0, 8 * len(raw), 20).tolist():
        damaged = bytearray(raw)
        damaged[place // 8] ^= 1 << place % 8
        data.write_bytes(damaged)
        caplog.clear()
        store.build([case])
        assert data.read_bytes() == raw
        assert f"{case.key}: its volume in the store is damaged ({data.parent}) and is made anew" in caplog.text
    caplog.clear()
    store.build([case])
    assert caplog.text == ""


@pytest.mark.parametrize("damage", ["truncate", "zeros", "record", "remove"])
def test_damaged_entry_is_prepared_anew(store, tmp_path, damage):
    case = make_case(tmp_path)
    before = whole(store.build([case])[0])["image"]
    entry = store.folder / store.key(case)
    raw = (entry / DATA_NAME).read_bytes()
    if damage == "truncate":
        (entry / DATA_NAME).write_bytes(raw[:-100])
    elif damage == "zeros":
        (entry / DATA_NAME).write_bytes(raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2))
    elif damage == "record":
        (entry / "record.json").write_text((entry / "record.json").read_text().replace("1", "2", 1))
    else:
        (entry / "record.json").unlink()
    np.testing.assert_array_equal(whole(store.build([case])[0])["image"], before)


def test_leftovers_of_dead_builds_are_swept(store, tmp_path):
    left = store.folder / "building-0123"
    left.mkdir(parents=True)
    (left / DATA_NAME).write_bytes(b"half")
    store.build([make_case(tmp_path)])
    assert not left.exists()


def test_full_disk_is_named_and_leaves_no_fragment(store, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(volume_store.os, "fsync", full)
    with pytest.raises(InputError, match=r"store: no space left"):
        store.build([make_case(tmp_path, number) for number in range(3)])
    assert [path.name for path in store.folder.iterdir()] == ["locks"]


def test_all_faulty_cases_are_named_at_once(store, tmp_path):
    def spoil(voxels):
        voxels[3, 3, :2] = np.nan

    cases = [make_case(tmp_path, 0), make_case(tmp_path, 1, edit=spoil), make_case(tmp_path, 2), make_case(tmp_path, 3)]
    Path(cases[2].image[0]).write_bytes(Path(cases[2].image[0]).read_bytes()[:-20])
    Path(cases[3].label).unlink()
    with pytest.raises(InputError) as caught:
        store.build(cases)
    text = str(caught.value)
    assert text.startswith("3 of 4 cases")
    assert "abdomen_1_0.nii.gz: 2 voxels are NaN or infinite" in text
    assert "abdomen_2_0.nii.gz: gzip data end early" in text
    assert "abdomen_3_label.nii.gz" in text
    with pytest.raises(InputError, match=r"^.*abdomen_1_0\.nii\.gz: 2 voxels"):
        store.build([cases[1]])


def test_infinity_that_a_window_would_hide_is_found(store, tmp_path):
    def spoil(voxels):
        voxels[0, 0, 0] = np.inf

    with pytest.raises(InputError, match="1 voxels are NaN or infinite"):
        store.build([make_case(tmp_path, edit=spoil)])


def test_labels_that_are_no_classes_are_refused(tmp_path):
    case = make_case(tmp_path)
    store = VolumeStore(tmp_path / "s", transforms=[LoadVolumed(KEYS)])
    original = nib.load(case.label).get_fdata().astype(np.float32)
    affine = nib.load(case.label).affine
    for value, text in ((0.99, "label value 0.99"), (-1, "span -1"), (np.nan, "span nan"), (40000, "to 40000")):
        label = np.where(original == 1, np.float32(value), original)
        nib.save(nib.Nifti1Image(label, affine), case.label)
        with pytest.raises(InputError, match=text):
            store.build([case])


def test_label_values_a_rounding_error_below_whole_numbers_are_rounded(tmp_path):
    case = make_case(tmp_path)
    expected = np.asarray(nib.load(case.label).dataobj)
    label = expected.astype(np.float32)
    label[expected > 0] -= 1e-4
    nib.save(nib.Nifti1Image(label, nib.load(case.label).affine), case.label)
    volume = VolumeStore(tmp_path / "s", transforms=[LoadVolumed(KEYS)]).build([case])[0]
    np.testing.assert_array_equal(whole(volume)["label"][0], expected)
    assert volume.classes == (0, 1, 2)


def test_label_values_above_a_byte_are_kept(tmp_path):
    case = make_case(tmp_path)
    label = nib.load(case.label).get_fdata().astype(np.int16) * 500
    nib.save(nib.Nifti1Image(label, nib.load(case.label).affine), case.label)
    volume = VolumeStore(tmp_path / "s", transforms=[LoadVolumed(KEYS)]).build([case])[0]
    assert volume.classes == (0, 500, 1000)
    np.testing.assert_array_equal(whole(volume)["label"][0], label)


def test_unlabelled_case_has_no_label(store, tmp_path):
    volumes = store.build([make_case(tmp_path, labelled=False), make_case(tmp_path, 1)])
    assert set(whole(volumes[0])) == {"image"}
    assert volumes[0].classes == ()
    assert len(volumes[0].foreground) == 0
    assert volumes.describe()["unlabelled"] == 1


def test_volumes_pickle_small_and_read_the_same(store, tmp_path):
    volumes = store.build([make_case(tmp_path, 0), make_case(tmp_path, 1, dataset="chest")])
    expected = whole(volumes[1])
    text = pickle.dumps(volumes)
    assert len(text) < 10_000
    copied = pickle.loads(text)
    np.testing.assert_array_equal(whole(copied[1])["image"], expected["image"])
    assert copied.datasets == ("abdomen", "chest")
    assert [volume.dataset for volume in copied] == [0, 1]
    assert copied[-1].index == 1
    assert volumes.describe()["datasets"] == {"abdomen": 1, "chest": 1}
    assert volumes.describe()["classes"] == {0: 2, 1: 2, 2: 2}


def _zero_outside(voxels):
    voxels[:6] = 0


def test_zero_outside_a_mask_stays_exactly_zero(tmp_path):
    case = make_case(tmp_path, channels=2, edit=_zero_outside)
    store = VolumeStore(tmp_path / "store", transforms=[LoadVolumed(KEYS)])
    stored = store.build([case])[0].crop((0, 0, 0), (24, 20, 16))["image"]
    original = np.stack([nib.load(path).get_fdata(dtype=np.float32) for path in case.image])
    assert (stored[:, :6] == 0).all()
    assert original.min() < 0 < original.max()
    np.testing.assert_allclose(stored, original, atol=np.ptp(original) / 65535)


def test_maps_are_stored_and_cropped_like_the_label(tmp_path):
    case = make_case(tmp_path)
    case = replace(case, maps={"tissue": case.label})
    transforms = [
        LoadVolumed(["image", "label", "tissue"]),
        Orientationd(["image", "label", "tissue"], "RAS", labels=None),
    ]
    volume = VolumeStore(tmp_path / "store", transforms=transforms, maps=["tissue"]).build([case])[0]
    crop = volume.crop((10, 3, -1), (16, 8, 8))
    assert np.array_equal(crop["tissue"], crop["label"])
    assert crop["tissue"].dtype == np.uint8
    assert crop["tissue"].any()


def test_a_map_that_no_transform_gives_is_named(tmp_path):
    with pytest.raises(InputError, match="tissue of abdomen/0: no transform gives it"):
        VolumeStore(tmp_path / "store", transforms=chain(), maps=["tissue"]).build([make_case(tmp_path)])


def test_the_patient_is_part_of_the_entry(tmp_path):
    store = VolumeStore(tmp_path / "store", transforms=chain())
    case = make_case(tmp_path)
    assert store.key(case) != store.key(replace(case, group="another"))
    assert store.key(case) != store.key(replace(case, raters=(case.label,)))


def test_maps_that_change_places_make_another_entry(tmp_path):
    store, case = VolumeStore(tmp_path / "store", transforms=chain()), make_case(tmp_path)
    first = replace(case, maps={"tissue": case.label, "brain_mask": case.image[0]})
    second = replace(case, maps={"brain_mask": case.label, "tissue": case.image[0]})
    assert store.key(first) != store.key(second)


def test_the_data_files_of_five_hundred_volumes_stay_open_and_no_more(tmp_path):
    folders = [tmp_path / str(number) for number in range(600)]
    for folder in folders:
        folder.mkdir()
        (folder / DATA_NAME).write_bytes(b"\1")
    open_arrays.cache_clear()
    before = len(os.listdir("/proc/self/fd"))
    kept = [open_arrays(folder) is open_arrays(folder) for folder in folders]
    assert all(kept)
    assert 500 <= len(os.listdir("/proc/self/fd")) - before <= 512
    open_arrays.cache_clear()
