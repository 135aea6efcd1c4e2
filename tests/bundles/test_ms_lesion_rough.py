"""Where the lesions come from that are merged into the white matter of tissue maps."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigParser
from ms_lesion_runs import SHAPE, paint_brain, rough_in_process, write_brains

from mtmed.bundle.messages import mendable
from mtmed.networks.weights import load_weights


@pytest.fixture
def rough_here():
    """Configs of the rough networks that are trained, in this process."""
    with rough_in_process() as started:
        yield started


@pytest.fixture
def alone(tmp_path):
    """Folders that share nothing with other tests."""
    return {f"{name}_dir": str(tmp_path / name) for name in ("rough", "store")}


@pytest.fixture
def refused(train_ms):
    """The one line that a training ends with."""

    def start(variant, **more):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            train_ms(variant, **more)
        error = mendable(caught.value)
        assert error is not None, caught.value
        assert "\n" not in str(error)
        return str(error)

    return start


def parsed(path):
    parser = ConfigParser()
    parser.read_config(str(path))
    return parser.get_parsed_content


def patient_of(case_key):
    """The patient in ``Toy_MS/p0_1``; nobody for the network of all others."""
    return case_key.rpartition("/")[2].partition("_")[0]


def folds_of(folder):
    """Patients who train and who validate in a finished run."""
    get = parsed(folder / "config.json")
    return tuple({case.group for case in get(name)} for name in ("training_cases", "validation_cases"))


def used(rough):
    """Patients whose volumes a rough network was trained with."""
    return {volume.case.group for volume in parsed(rough / "config.json")("train#dataset").volumes}


def sources(folder):
    """Where the lesions of each patient of a finished run come from."""
    return parsed(folder / "config.json")("train#preprocessing#transforms#8").checkpoints


def test_rough_networks_never_saw_whom_they_correct(trained_ms, brains):
    folder = trained_ms("multi_output")
    training, (validated,) = folds_of(folder)
    checkpoints = sources(folder)
    assert set(map(patient_of, checkpoints)) == {"", *training}
    assert len(set(checkpoints.values())) == 3
    for case_key, path in checkpoints.items():
        patient, rough = patient_of(case_key), Path(path).parent
        assert rough.parent == Path(brains["rough"])
        assert patient not in used(rough)
        assert validated not in used(rough)
        held_out = json.loads((rough / "config.json").read_text())["held_out_patients"]
        assert used(rough) == training - set(map(patient_of, held_out))
        assert (f"Toy_MS/{patient}" in held_out) == (patient != "")
    assert used(Path(checkpoints[""]).parent) == training


def test_rough_networks_are_plain(trained_ms):
    for path in set(sources(trained_ms("multi_output")).values()):
        rough = Path(path).parent
        executed = json.loads((rough / "config.json").read_text())
        assert (executed["variant"], executed["epochs"], executed["merged_lesions"]) == ("single", 1, "none")
        rows = list(csv.DictReader((rough / "losses.csv").open(newline="")))
        assert list(rows[0]) == ["iteration", "loss", "lesion_dice", "learning_rate"]
        content = load_weights(path)
        assert (content["network_def"]["in_channels"], content["network_def"]["out_channels"]) == (3, 2)
        assert "mean_dice" not in (rough / "log.txt").read_text()


def test_variants_of_a_fold_share_their_rough_networks(trained_ms, train_ms, rough_here):
    first = trained_ms("multi_output")
    second = train_ms("multi_input")
    assert rough_here == []
    assert sources(first) == sources(second)
    assert (second / "rough.pt").read_bytes() == (first / "rough.pt").read_bytes()
    assert (second / "log.txt").read_text().count("found in") == 3


def test_out_of_fold_maps_differ_from_the_scanner_s_only_in_white_matter(trained_ms):
    get = parsed(trained_ms("multi_output") / "config.json")
    for volume in get("train#dataset").volumes[:2]:
        tissue = volume.crop((0, 0, 0), SHAPE)["tissue"][0]
        truth, _ = paint_brain(int(volume.case.group[1:]), int(volume.case.visit))
        assert set(np.unique(tissue)) == {0, 1, 2, 3}
        assert np.array_equal(tissue > 0, truth > 0)


def test_folds_share_no_rough_network(trained_ms, train_ms, rough_here, tmp_path):
    folder = train_ms("multi_input", fold=1, merged_lesions="in_sample", epochs=1)
    training, validated = folds_of(folder)
    assert len(rough_here) == 1
    assert not set(sources(folder).values()) & set(sources(trained_ms("multi_output")).values())
    # in sample: one network, which saw all whom it corrects
    checkpoints = sources(folder)
    assert list(checkpoints) == [""]
    rough = Path(checkpoints[""]).parent
    assert used(rough) == training
    assert not used(rough) & validated


def test_ground_truth_is_for_training_patients_alone(trained_ms, train_ms, rough_here):
    out_of_fold = trained_ms("multi_output")
    folder = train_ms("multi_output", merged_lesions="ground_truth", epochs=1)
    # the network on all training cases is that of out_of_fold
    assert rough_here == []
    checkpoints = sources(folder)
    training, validated = folds_of(folder)
    assert {patient_of(key) for key, path in checkpoints.items() if path == "ground_truth"} == training
    assert not validated & set(map(patient_of, checkpoints))
    assert checkpoints[""] == sources(out_of_fold)[""]
    get = parsed(folder / "config.json")
    for volume in get("train#dataset").volumes:
        tissue = volume.crop((0, 0, 0), SHAPE)["tissue"][0]
        _, lesions = paint_brain(int(volume.case.group[1:]), int(volume.case.visit))
        assert (tissue[lesions] == 3).all()


def test_without_merged_lesions_there_is_no_rough_network(train_ms, rough_here, alone):
    folder = train_ms("multi_output", merged_lesions="none", epochs=1, **alone)
    assert rough_here == []
    assert not Path(alone["rough_dir"]).exists()
    assert not (folder / "rough.pt").exists()
    get = parsed(folder / "config.json")
    (volume, *_) = get("train#dataset").volumes
    tissue = volume.crop((0, 0, 0), SHAPE)["tissue"][0]
    _, lesions = paint_brain(int(volume.case.group[1:]), int(volume.case.visit))
    # a lesion is as dark as grey matter in T1
    assert (tissue[lesions] == 2).mean() > 0.9


def test_single_needs_neither_tissue_nor_rough_networks(train_ms, rough_here, alone, tmp_path):
    train_ms("single", epochs=1, tissue_dir=str(tmp_path / "tissue"), **alone)
    assert rough_here == []
    assert not (tmp_path / "tissue").exists()
    assert not Path(alone["rough_dir"]).exists()


@pytest.mark.parametrize("variant", ["multi_input", "multi_output"])
def test_tissue_files_are_read_by_their_table(variant, train_ms, tmp_path):
    import nibabel as nib

    folder = write_brains(tmp_path / "spm", patients=3)
    for path in Path(folder, "maps").glob("*_tissue.nii.gz"):
        image = nib.load(path)
        # SPM: 1 grey, 2 white, 3 CSF
        nib.Nifti1Image(np.array([0, 3, 1, 2], np.uint8)[np.asarray(image.dataobj)], image.affine).to_filename(path)
    given = {"dataset_dir": folder, "folds": 3, "tissue": "files", "merged_lesions": "none", "epochs": 1}
    run = train_ms(variant, tissue_table="spm", **given)
    (volume, *_) = parsed(run / "config.json")("train#dataset").volumes
    voxels = volume.crop((0, 0, 0), SHAPE)
    truth, _ = paint_brain(int(volume.case.group[1:]), int(volume.case.visit))
    if variant == "multi_output":
        assert np.array_equal(voxels["tissue"][0], truth)
    else:
        assert np.array_equal(voxels["image"][3:] > 0.5, np.stack([truth == value for value in (1, 2, 3)]))


def test_tissue_files_that_are_not_there_are_refused_by_name(refused, tmp_path):
    folder = write_brains(tmp_path / "no_maps", patients=3)
    manifest = Path(folder, "dataset.json")
    content = json.loads(manifest.read_text())
    del content["training"][0]["maps"]["tissue"]
    manifest.write_text(json.dumps(content))
    given = {"dataset_dir": folder, "folds": 3, "tissue": "files", "merged_lesions": "none"}
    line = refused("multi_output", **given)
    assert "p0_0" in line
    assert "tissue" in line


def test_changed_cases_get_new_rough_networks(train_ms, rough_here, alone, tmp_path):
    """Behind the same path, a validated patient could be one whom a kept network was trained with."""
    given = {"dataset_dir": write_brains(tmp_path / "data", patients=3), "folds": 3, "merged_lesions": "in_sample"}
    train_ms("multi_output", epochs=1, **given, **alone)
    assert len(rough_here) == 1
    label = next(Path(given["dataset_dir"], "labels").glob("*_rater1.nii.gz"))
    os.utime(label, ns=(0, 0))
    manifest = Path(given["dataset_dir"], "dataset.json")
    content = json.loads(manifest.read_text())
    for number, row in enumerate(content["training"]):
        row["fold"] = (number // 2 + 1) % 3
    manifest.write_text(json.dumps(content))
    folder = train_ms("multi_output", epochs=1, output_dir=str(tmp_path / "second"), **given, **alone)
    assert len(rough_here) == 2
    training, _ = folds_of(folder)
    assert used(Path(rough_here[1]["output_dir"])) == training


def test_unknown_source_of_lesions_is_refused(refused):
    assert "merged_lesions: is 'oof'; choose one of out_of_fold" in refused("multi_output", merged_lesions="oof")


@pytest.mark.parametrize("folds", [0, 1])
def test_out_of_fold_needs_two_parts(folds, refused):
    assert f"rough_folds: is {folds}" in refused("multi_output", rough_folds=folds)


def test_out_of_fold_needs_two_patients(refused, tmp_path):
    folder = write_brains(tmp_path / "two", patients=2)
    assert "cannot be out_of_fold with one training patient" in refused("multi_output", dataset_dir=folder, folds=2)


def test_rough_network_that_fails_ends_as_one_line(refused, alone, capfd):
    line = refused("multi_output", rough_epochs=0, **alone)
    assert line.startswith("rough lesion network 1 of 3: ended with status 1; see the lines above")
    output = "".join(capfd.readouterr())
    assert "give 0 iterations" in output
    assert "Traceback" not in output
