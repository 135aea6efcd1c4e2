"""The network of a config against its data and the memory of the machine."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from mtmed.bundle import require_channels, require_image_size, require_patch_size
from mtmed.checking.entries import entries
from mtmed.checking.lazy_config import LazyConfig
from mtmed.checking.memory_estimate import inference_bytes, training_bytes
from mtmed.checking.problem import Problem
from mtmed.checking.sizes import batch_sizes, window_of
from mtmed.checking.unknown import Unknown, holds_unknown
from mtmed.data.check import CheckReport
from mtmed.errors import InputError
from mtmed.tasks import MultiTaskModel

__all__ = ["NetworkCheck"]

_INFERERS = ("validate::inferer", "whole_volume", "slices", "inferer")


class NetworkCheck:
    """Builds the network and its tasks and asks what they need; nothing is trained.

    Args:
        config: the config.
        report: of its data, for the size of whole volumes; None if they were not read.

    Attributes:
        problems: what is wrong.
        notices: what could not be told.
        memory: peak in bytes of a ``training step`` and an ``inference window``, as far as they can be told.
        device: where the config computes.
        available: memory of that device in bytes.
    """

    def __init__(self, config: LazyConfig, report: CheckReport | None) -> None:
        self.config = config
        self.problems: list[Problem] = []
        self.memory: dict[str, int] = {}
        self.notices: list[str] = []
        device = config.value("device") if "device" in config and "environ" not in str(config["device"]) else None
        cuda = torch.cuda.is_available() and not str(device).startswith("cpu")
        self.device = "the GPU" if cuda else "this machine"
        self.available = (
            torch.cuda.get_device_properties(0).total_memory
            if cuda
            else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        )
        self._volume = _largest_volume(config, report)
        settings = config.value("settings")
        self._settings: dict[str, Any] = settings if isinstance(settings, dict) else {}

    def run(self) -> None:
        """Fill the attributes."""
        model_id = _component(self.config, "MultiTaskModel")
        model = None if model_id is None else self.config.value(model_id)
        network: nn.Module | None
        if isinstance(model, MultiTaskModel):
            network = model.network
            self._compare(network)
            self._estimate_training(model)
        else:
            network = next(
                (found for key in ("segmenter", "network") if isinstance(found := self.config.value(key), nn.Module)),
                None,
            )
            if network is not None:
                self._compare(network)
        if network is not None:
            self._estimate_inference(network)
        for what, needed in self.memory.items():
            if needed > self.available:
                problem = f"needs about {needed / 1e6:.0f} MB, {self.device} has {self.available / 1e6:.0f} MB"
                remedy = "use a smaller patch_size, batch_size or network, or another machine"
                self.problems.append(Problem("memory", what, problem, remedy))

    def _compare(self, network: Any) -> None:
        for check in self._comparisons(network):
            try:
                check()
            except InputError as error:
                problem = Problem.of("network", error)
                if all((old.culprit, old.problem) != (problem.culprit, problem.problem) for old in self.problems):
                    self.problems.append(problem)

    def _comparisons(self, network: Any) -> Iterator[Any]:
        """The channels and sizes that the config's settings ask for."""
        definition = getattr(network, "definition", None)
        if not isinstance(definition, Mapping):
            return
        settings = {key: value for key, value in self._settings.items() if not holds_unknown(value)}
        images = settings.get("input_channels") or settings.get("modalities")
        if images and "in_channels" in definition:
            channels = len(images) * len(settings.get("slice_offsets") or [0])
            logits = _logits(settings, definition)
            features = settings.get("features") or []
            yield lambda: require_channels(network, image=channels, logits=logits, features=features)
        if patch := settings.get("patch_size"):
            yield lambda: require_patch_size(patch, network)
        if image := settings.get("image_size"):
            yield lambda: require_image_size(image, network)

    def _estimate_training(self, model: MultiTaskModel) -> None:
        dataset = _component(self.config, "CropDataset")
        loader = _component(self.config, "crop_loader")
        views = _component(self.config, "ViewMaker")
        if dataset is None or loader is None or views is None:
            return
        roles = self.config.value(f"{views}::views")
        batch_size = self.config.value(f"{loader}::batch_size")
        sizes = batch_sizes(self.config, self.config.value(f"{dataset}::draw"), self._volume)
        if holds_unknown([roles, batch_size]) or not sizes:
            self.notices.append("memory of a training step: not told, because the size of the images is not known")
            return
        shown = {view: sizes[role] for view, role in roles.items() if role in sizes}
        optimiser = str(self.config.get("train::optimizer::_target_", "Adam")).rpartition(".")[2]
        try:
            needed = training_bytes(model, shown, optimiser=optimiser, batch_size=batch_size)
        except (RuntimeError, ValueError, TypeError) as error:
            text = (str(error).splitlines() or [""])[0]
            problem = f"does not pass the network in batches of {batch_size} ({text})"
            self.problems.append(Problem("network", f"an image of {shown}", problem, "use sides that it takes"))
            return
        self.memory["training step"] = needed

    def _estimate_inference(self, network: nn.Module) -> None:
        key = next((key for key in _INFERERS if key in self.config), None)
        inferer = None if key is None else self.config.value(key)
        window = None if isinstance(inferer, Unknown) else window_of(inferer, self._settings, self._volume)
        if window is None or not hasattr(network, "encode"):
            return
        try:
            self.memory["inference window"] = inference_bytes(network, windows=window[0], size=window[1])
        except (RuntimeError, ValueError, TypeError) as error:
            text = (str(error).splitlines() or [""])[0]
            problem = f"does not pass the network ({text})"
            self.problems.append(Problem("network", f"a window of {window[1]}", problem, "use sides that it takes"))


def _logits(settings: Mapping[str, Any], definition: Mapping[str, Any]) -> int:
    """Channels of logits that the labels ask for; those that the network has where the settings name no labels."""
    if heads := settings.get("heads"):
        return int(sum(heads))
    named = settings.get("organs") or settings.get("label_names")
    return len(named) if named else int(definition.get("out_channels", 0))


def _component(config: LazyConfig, name: str) -> str | None:
    """Id of the first component of a class."""
    for identifier, entry in entries(config.get()):
        if isinstance(entry, Mapping) and str(entry.get("_target_", "")).rpartition(".")[2] == name:
            return identifier
    return None


def _largest_volume(config: LazyConfig, report: CheckReport | None) -> list[int] | None:
    """Sides of the largest volume after resampling, as the axes lie in its file."""
    spacing = config.value("spacing")
    sides = []
    for case in report.cases if report is not None else ():
        if case.shape is not None and case.spacing is not None and len(case.shape) == 3:
            target = case.spacing if spacing is None or isinstance(spacing, Unknown) else spacing
            scaled = [round(n * old / new) for n, old, new in zip(case.shape, case.spacing, target, strict=True)]
            sides.append(scaled)
    return max(sides, key=lambda one: one[0] * one[1] * one[2], default=None)
