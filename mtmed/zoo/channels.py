"""Numbers and names of the channels that a network takes and gives."""

from collections.abc import Mapping
from typing import Any

__all__ = ["channel_counts", "channel_names"]


def channel_counts(definition: Mapping[str, Any]) -> dict[str, int | None]:
    """Channels of ``image`` and ``pred`` as a network's literal definition says, None where it says no number.

    Planes of a condition (``film``) are channels of the image, after its own.
    """
    image, pred = (
        value if isinstance(value, int) else None for value in map(definition.get, ("in_channels", "out_channels"))
    )
    if image is not None:
        image += len((definition.get("film") or {}).get("features", ()))
    return {"image": image, "pred": pred}


def channel_names(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the channels of ``image`` and ``pred``, from the settings of the weights.

    For a network of slices the image has the modalities of each slice, those beside the middle with their offset, then
    one channel per feature. Organs that may overlap have a channel each, other labels too, the background first.
    """
    labels = [settings["label_names"][value] for value in sorted(settings["label_names"], key=int)]
    slices = [
        f"{modality}, slice {offset:+d}" if offset else modality
        for offset in settings.get("slice_offsets") or [0]
        for modality in settings["modalities"]
    ]
    return {
        "image": list(map(str, settings.get("input_channels", [*slices, *settings.get("features", [])]))),
        "pred": list(map(str, settings.get("output_channels", settings.get("organs", labels)))),
    }
