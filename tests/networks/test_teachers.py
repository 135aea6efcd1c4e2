"""Teachers from weights files: those of other images or organs, and missing ones, are refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks import SmallUNet, build_network, load_teachers, save_network, sha256_of, teacher_hashes

SLICES: dict[str, Any] = {
    "organs": ["heart", "lung"],
    "modalities": ["XRAY"],
    "image_size": [32, 32],
    "normalise_per": "slice",
    "slice_offsets": [0],
    "features": [],
}
VOLUMES: dict[str, Any] = {
    "organs": ["heart", "lung"],
    "modalities": ["MR"],
    "image_size": None,
    "normalise_per": "scan",
    "slice_offsets": None,
    "features": [],
    "spacing": [1.0, 1.0, 1.0],
    "patch_size": [32, 32, 32],
}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "SmallUNet": {"base_channels": 2, "depth": 1},
    "BigUNet": {},
    "UNet": {"features": [2, 2, 2, 2, 2, 2]},
    "UNETR": {"img_size": [32, 32, 32], "feature_size": 2, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2},
}


def _write(path: Path, settings: dict[str, Any], name: str = "SmallUNet", seed: int = 0) -> str:
    torch.manual_seed(seed)
    definition = {"_target_": f"mtmed.networks.{name}", "in_channels": 1, "out_channels": 2, **DEFINITIONS[name]}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(path, build_network(definition), settings)
    return str(path)


def test_teachers_come_in_the_order_of_their_files_with_their_weights(tmp_path):
    paths = [_write(tmp_path / f"{seed}.pt", SLICES, seed=seed) for seed in (1, 2)]
    loaded = load_teachers(paths, settings={**SLICES, "image_size": (32, 32), "trained_on": ["other"]})
    for seed, network in zip((1, 2), loaded, strict=True):
        torch.manual_seed(seed)
        fresh = SmallUNet(in_channels=1, out_channels=2, base_channels=2, depth=1).eval()
        torch.testing.assert_close(network.state_dict(), fresh.state_dict())
        assert not network.training
    assert teacher_hashes(paths) == [sha256_of(path) for path in paths]


def test_a_teacher_may_be_of_another_class_and_of_another_patch_size(tmp_path):
    paths = [
        _write(tmp_path / "unet.pt", {**VOLUMES, "patch_size": [48, 48, 48]}, "UNet"),
        _write(tmp_path / "unetr.pt", VOLUMES, "UNETR"),
    ]
    assert [type(network).__name__ for network in load_teachers(paths, settings=VOLUMES)] == ["UNet", "UNETR"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("organs", ["heart"]),
        ("modalities", ["MR"]),
        ("image_size", [64, 64]),
        ("normalise_per", "scan"),
        ("slice_offsets", [-1, 0, 1]),
        ("features", ["day_number"]),
    ],
)
def test_a_teacher_of_other_settings_is_refused_with_both_values(tmp_path, key, value):
    good, bad = _write(tmp_path / "good.pt", SLICES), _write(tmp_path / "bad.pt", {**SLICES, key: value})
    with pytest.raises(InputError) as caught:
        load_teachers([good, bad], settings=SLICES)
    text = str(caught.value)
    assert "\n" not in text
    for part in (bad, f"{key} {value}", f"the student with {SLICES[key]}"):
        assert part in text


def test_a_3d_teacher_of_other_voxels_or_a_2d_student_is_refused(tmp_path):
    path = _write(tmp_path / "model.pt", VOLUMES, "UNet")
    with pytest.raises(InputError, match=r"spacing \[1.0, 1.0, 1.0\], the student with \[2.0, 1.0, 1.0\]"):
        load_teachers([path], settings={**VOLUMES, "spacing": [2.0, 1.0, 1.0]})
    with pytest.raises(InputError, match=r"slice_offsets None, the student with \[0\]"):
        load_teachers([path], settings={**VOLUMES, "slice_offsets": [0], "spacing": None})
    flat = {**VOLUMES, "patch_size": [32, 32]}
    with pytest.raises(InputError, match=r"patch_size \[32, 32, 32\], the student with \[32, 32\]"):
        load_teachers([path], settings=flat)


def test_a_teacher_of_fixed_size_wants_the_patches_of_the_student(tmp_path):
    path = _write(tmp_path / "model.pt", VOLUMES, "UNETR")
    with pytest.raises(InputError, match=r"patch_size \[32, 32, 32\], the student with \[48, 48, 48\]"):
        load_teachers([path], settings={**VOLUMES, "patch_size": [48, 48, 48]})


def test_a_missing_teacher_of_a_study_names_the_job_that_makes_it(tmp_path):
    job = tmp_path / "study" / "jobs" / "train-jigsaw_joint-fold0-seed1-0123456789abcdef"
    good = _write(tmp_path / "good.pt", SLICES)
    missing = str(job / "run" / "model.pt")
    with pytest.raises(InputError) as caught:
        load_teachers([good, missing], settings=SLICES)
    assert str(caught.value) == (
        f"{missing}: no such teacher; repeat the arm that makes it: run the study again, "
        "which runs its job train-jigsaw_joint-fold0-seed1"
    )


def test_a_missing_winner_of_a_choice_names_the_job_that_the_link_leads_to(tmp_path):
    jobs = tmp_path / "study" / "jobs"
    winner = jobs / "train-jigsaw_joint-fold0-seed1-0123456789abcdef" / "run"
    link = jobs / "choose-jigsaw-fold0-0011223344556677" / "run" / "seed1" / "train"
    link.parent.mkdir(parents=True)
    link.symlink_to(winner)
    with pytest.raises(InputError, match=r"which runs its job train-jigsaw_joint-fold0-seed1$"):
        load_teachers([str(link / "model.pt")], settings=SLICES)


def test_a_teacher_is_a_path_and_named_once(tmp_path):
    path = _write(tmp_path / "model.pt", SLICES)
    with pytest.raises(InputError, match=r"^teachers: has 3, which is no path; name weights files$"):
        load_teachers([path, 3], settings=SLICES)
    with pytest.raises(InputError, match=r"^teachers: has .*model.pt twice; name each once$"):
        teacher_hashes([path, path])


def test_a_missing_teacher_elsewhere_and_none_at_all_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such teacher; repeat the run that makes it, or correct the path"):
        load_teachers([str(tmp_path / "model.pt")], settings=SLICES)
    with pytest.raises(InputError, match="no such teacher"):
        teacher_hashes([str(tmp_path / "model.pt")])
    with pytest.raises(InputError, match=r"teachers: is \[\], a student has at least one; pass --teachers"):
        load_teachers([], settings=SLICES)
    with pytest.raises(InputError, match=r"teachers: is 'model\.pt'"):
        load_teachers("model.pt", settings=SLICES)
