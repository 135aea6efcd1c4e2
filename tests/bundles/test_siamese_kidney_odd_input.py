"""What is unusual about kidneys but legal trains, and the log says what was made of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from siamese_kidney_inputs import FROM_ENCODER, PATIENTS, Prepare, cohort, encoder, label_file, options, rewrite, spoil
from siamese_kidney_runs import run_siamese


@dataclass(frozen=True)
class OddInput:
    """What is unusual but legal, and what the log says of it."""

    name: str
    prepare: Prepare
    said: str = ""
    stage: str = "pretrain"
    options: dict[str, Any] = field(default_factory=dict)


def with_ras_arrays(folder: Path) -> None:
    """Files whose arrays already have the axes R, A, S, in place of slices first."""
    for path in (folder / "cohort").glob("data/*/*.nii.gz"):
        nib.as_closest_canonical(nib.load(path)).to_filename(path)


ODD_INPUTS = (
    OddInput("labels 0 and 1", cohort(cases=PATIENTS, tumours=False)),
    OddInput(
        "horseshoe kidney",
        cohort(cases=PATIENTS, sides={1: "fused", 2: "fused"}),
        "Toy_KiTS/case_00002: Both kidneys are left out: a component of",
    ),
    OddInput(
        "single kidneys",
        cohort(cases=PATIENTS, sides={0: "left", 1: "right", 2: "right", 3: "left"}),
        "Toy_KiTS/case_00000: The right kidney is missing",
    ),
    OddInput(
        "no foreground",
        spoil(lambda f: rewrite(f / label_file(2), lambda data: data * 0)),
        "Toy_KiTS/case_00002: Both kidneys are left out: nothing is labelled.",
    ),
    OddInput(
        "encoder that saw all patients, allowed",
        encoder(seen=[f"case_{number:05d}" for number in range(PATIENTS)]),
        "",
        "train",
    ),
    OddInput("halves and a window", cohort(cases=PATIENTS), "", "train", {"part": "half", "window_size": [32, 32, 32]}),
)


@pytest.mark.parametrize("odd", ODD_INPUTS, ids=lambda odd: odd.name)
def test_odd_but_legal_input_trains(odd: OddInput, tmp_path: Path) -> None:
    odd.prepare(tmp_path)
    encoders = {**FROM_ENCODER, "allow_seen": True} if (tmp_path / "encoder.pt").exists() else {}
    given = {**odd.options, **encoders, "iterations_per_epoch": 1}
    folder = run_siamese(odd.stage, options(odd.stage, tmp_path, given))
    assert odd.said in (folder / "log.txt").read_text()
    assert (folder / ("encoder.pt" if odd.stage == "pretrain" else "model.pt")).is_file()


def test_slices_first_and_ras_arrays_of_a_patient_are_the_same_kidneys(tmp_path: Path) -> None:
    runs = {}
    for name, change in (("slices first", lambda folder: None), ("ras", with_ras_arrays)):
        (tmp_path / name).mkdir()
        spoil(change)(tmp_path / name)
        runs[name] = run_siamese("pretrain", options("pretrain", tmp_path / name, {"iterations_per_epoch": 1}))
    for file in ("sides.csv", "scores.csv"):
        assert (runs["ras"] / file).read_bytes() == (runs["slices first"] / file).read_bytes()
    losses = [
        [float(row.split(",")[1]) for row in (run / "losses.csv").read_text().split()[1:]] for run in runs.values()
    ]
    # means over voxels in another order
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
