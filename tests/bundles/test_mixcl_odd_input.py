"""What is unusual but legal is pre-trained on, with a notice where it may be a mistake."""

from dataclasses import dataclass
from pathlib import Path

import fire
import numpy as np
import pytest
from mixcl_commands import command
from mixcl_inputs import (
    Prepare,
    image,
    label,
    rewrite,
    write_abdomens,
)
from monai.bundle.scripts import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a cohort of four patients and with the options of a tiny run."""
    write_abdomens(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class OddInput:
    """What is unusual, and the notice that it gets."""

    name: str
    prepare: Prepare
    notice: str = ""


ODD_INPUTS = (
    OddInput(
        "smaller than the patch",
        lambda f: [rewrite(f / part(1), lambda data: data[:20]) for part in (image, label)],
        "Notice: Toy/1: is smaller than the patch of 32x32x32 voxels; it is padded with zeros",
    ),
    OddInput(
        "without foreground", lambda f: rewrite(f / label(1), lambda data: data * 0), "Notice: Toy/1: has no foreground"
    ),
    OddInput(
        "left-handed axes",
        lambda f: [rewrite(f / part(1), lambda data: data, np.diag([-1.0, 1, 1, 1])) for part in (image, label)],
    ),
    OddInput("label stored as float", lambda f: rewrite(f / label(1), lambda data: data.astype(np.float32))),
    OddInput(
        "label nearly whole",
        lambda f: rewrite(f / label(1), lambda data: data * np.float32(0.9999)),
        "Notice: Toy/1: has label values within 0.001 of whole numbers; they are rounded",
    ),
)


@pytest.mark.parametrize("odd", ODD_INPUTS, ids=lambda odd: odd.name)
@pytest.mark.usefixtures("program_state")
def test_odd_but_legal_input_works(odd: OddInput, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd.prepare(folder)
    fire.Fire(run, command=command(folder, "pretrain"))
    said = capfd.readouterr().out.splitlines() + (folder / "out" / "log.txt").read_text().splitlines()
    notices = {line[line.index("Notice:") :] for line in said if "Notice:" in line}
    assert notices == ({odd.notice} if odd.notice else set())
    assert (folder / "out" / "encoder.pt").is_file()
