"""Whether the best model can be chosen on a part."""

import json
import logging

import nibabel as nib
import numpy as np
import pytest

from mtmed.bundle import notice_lacking_foreground, require_foreground, require_reference
from mtmed.data import VolumeStore, load_cohort
from mtmed.errors import InputError
from mtmed.transforms import LoadVolumed


@pytest.fixture
def build(tmp_path):
    """Volumes whose label maps have these values, each in one voxel."""

    def make(*cases):
        rows = []
        for number, values in enumerate(cases):
            label = np.zeros((5, 4, 3), np.uint8)
            label.flat[: len(values)] = values
            for name in ("image", "label"):
                nib.Nifti1Image(label, np.eye(4)).to_filename(tmp_path / f"{name}{number}.nii.gz")
            rows.append({"image": f"image{number}.nii.gz", "label": f"label{number}.nii.gz", "id": f"c{number}"})
        labels = {"0": "background", "1": "lung", "2": "heart"}
        content = {"name": "Toy", "modality": {"0": "CT"}, "labels": labels, "overlapping": True, "training": rows}
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        store = VolumeStore(tmp_path / "store", transforms=[LoadVolumed(["image", "label"], allow_missing_keys=True)])
        return store.build(load_cohort(tmp_path).cases)

    return make


def test_organs_that_occur_somewhere_pass_overlapping_ones_too(build):
    require_foreground(build([0], [1], [2]), ["lung", "heart"])
    require_foreground(build([0], [3]), ["lung", "heart"])
    require_foreground(build([0], [1]), ["lung"])


def test_a_part_without_cases_passes(build):
    require_foreground(build([0]).select([]), ["lung"])


@pytest.mark.parametrize(
    ("cases", "organs", "problem"),
    [
        (([0], [0]), ["lung"], "is all-negative: none of its 2 cases has lung, and nothing could be chosen by Dice"),
        (([0], [1]), ["lung", "heart"], "is all-negative: none of its 2 cases has heart,"),
        (([0], [0]), ["lung", "heart"], "none of its 2 cases has lung or heart,"),
        (([0],), ["lung"], "is all-negative: its only case lacks lung,"),
        # of another organ only
        (([2], [2]), ["lung"], "none of its 2 cases has lung,"),
    ],
)
def test_an_organ_that_never_occurs_is_refused_and_named(build, cases, organs, problem):
    with pytest.raises(InputError) as caught:
        require_foreground(build(*cases), organs)
    line = str(caught.value)
    assert line.startswith("validation: ")
    assert problem in line
    assert "choose another fold, give validation a larger share, or add cases with" in line
    assert "\n" not in line


def test_the_part_is_named_as_it_is_called(build):
    with pytest.raises(InputError, match=r"test: is all-negative.* give test a larger share"):
        require_foreground(build([0], [0]), ["lung"], part="test")


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (([1], [2]), []),
        (([0], [1]), ["Notice: training: none of its 2 labelled cases has heart, which cannot be learnt from them"]),
        (([0],), ["Notice: training: its only labelled case lacks lung or heart, which cannot be learnt from them"]),
    ],
)
def test_an_organ_that_training_never_shows_is_named(build, caplog, cases, said):
    volumes = build(*cases)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        notice_lacking_foreground(volumes, ["lung", "heart"])
    assert caplog.messages == said


def test_one_voxel_of_one_label_is_a_reference(build):
    require_reference(build([0], [2]))
    # a packed map of overlapping organs
    require_reference(build([0], [3]))


def test_a_part_without_any_foreground_is_refused(build):
    with pytest.raises(InputError, match="validation: has no reference foreground in any of its 2 cases"):
        require_reference(build([0], [0]))
    with pytest.raises(InputError, match="validation: has no reference foreground in its only case, so"):
        require_reference(build([0]))
