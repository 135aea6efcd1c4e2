"""Small stored scans for tests of slices: every voxel says where it lies."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mtmed.data.case import Case
from mtmed.data.volume_store import VolumeStore
from mtmed.data.volumes import Volumes

__all__ = ["HEIGHT", "WIDTH", "expected_channel", "scan_cohort"]

HEIGHT, WIDTH = 6, 4


def expected_channel(number: int, channel: int, index: int) -> torch.Tensor:
    """Image of a slice: 100 * channel + 10 * slice + row + column / 10 + case / 100."""
    rows, columns = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)[None]
    return 100.0 * channel + 10.0 * index + rows + columns / 10 + number / 100


def read_scan(data: Mapping[str, Any]) -> dict[str, Any]:
    """Stands for a reader; the file says what the scan is."""
    content = json.loads(Path(data["image"]).read_text())
    number, slices = content["number"], content["slices"]
    image = torch.stack(
        [
            torch.stack([expected_channel(number, channel, index) for index in range(slices)])
            for channel in range(content["channels"])
        ]
    )
    label = torch.zeros((1, slices, HEIGHT, WIDTH))
    for index in content["foreground"]:
        label[0, index, 1:3, 2] = index % 3 + 1
    return {"image": image, "label": label, "facts": content["facts"]}


def scan_cohort(
    folder: Path,
    rows: Sequence[tuple[str, int]],
    *,
    channels: int = 1,
    foreground: Sequence[int] = (1,),
    facts: Sequence[Mapping[str, float]] = (),
    metadata: Sequence[Mapping[str, Any]] = (),
) -> Volumes:
    """Store scans.

    Args:
        folder: where to write.
        rows: patient and number of slices of each scan.
        channels: of the images.
        foreground: which slices have a label.
        facts: of each scan, see `mtmed.transforms.ImageFactsd`.
        metadata: of each scan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for number, (patient, slices) in enumerate(rows):
        path = folder / f"scan{number}"
        content: dict[str, Any] = {"number": number, "slices": slices, "channels": channels}
        content["facts"] = dict(facts[number]) if facts else {}
        content["foreground"] = [index for index in foreground if index < slices]
        path.write_text(json.dumps(content))
        known = metadata[number] if metadata else {}
        cases.append(Case(str(number), (str(path),), str(path), patient, "scans", metadata=known))
    return VolumeStore(folder / "store", transforms=[read_scan]).build(cases)
