"""Every stage that trains something, of every bundle, on cohorts so small that it takes seconds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gi_tract_runs
import mixcl_runs
import ms_lesion_runs
import siamese_kidney_runs
import two_stage_runs
from running import BUNDLE

__all__ = ["STAGES", "Stage", "Stages"]

_SHORT = {"epochs": 4, "iterations_per_epoch": 3}
# a checkpoint of megabytes, so that a kill can come in the middle of its writing
_WIDE = {"network_def#hidden_size": 96, "network_def#mlp_dim": 192}


@dataclass(frozen=True)
class Stage:
    """A command without its folders and its number of workers.

    Attributes:
        name: bundle and what is trained.
        config: file of the bundle.
        given: overrides.
        overlays: further configs.
    """

    name: str
    config: Path
    given: Mapping[str, Any]
    overlays: tuple[Path, ...] = ()

    def words(self, folder: Path, *, workers: int, **more: Any) -> list[str]:
        """The command line; all that the run writes is in one folder."""
        own = {name: str(folder / name.removesuffix("_dir")) for name in ("output_dir", "store_dir")}
        if self.name.startswith("ms_lesion"):
            own |= {"tissue_dir": str(folder / "tissue"), "rough_dir": str(folder / "rough")}
        files = str([str(path) for path in (self.config, *self.overlays)])
        given = {**self.given, **own, "workers": workers, **more}
        return ["run", "--config_file", files, *(word for key, v in given.items() for word in (f"--{key}", str(v)))]

    def checkpoint_folders(self, folder: Path) -> list[Path]:
        """Where the run and what it runs itself keep their checkpoints."""
        return [folder / "output", folder / "output" / "pretraining", *folder.glob("rough/*")]

    def with_overlay(self, *names: str) -> "Stage":
        """The same with further configs of its bundle."""
        return Stage(self.name, self.config, self.given, tuple(self.config.with_name(f"{n}.json") for n in names))


class Starter(Protocol):
    """What runs a command to its end."""

    def run(self, words: list[str], out: Path, /) -> int: ...


class Stages:
    """Makes cohorts, and what a stage needs from an earlier one, when they are first asked for.

    Args:
        folder: for all of them.
        launcher: runs the earlier stages.
    """

    def __init__(self, folder: Path, launcher: Starter) -> None:
        self.folder, self.launcher = folder, launcher
        self._cohorts: dict[str, str] = {}

    def __getitem__(self, name: str) -> Stage:
        what = name.partition(" ")[2]
        config, given = STAGES[name](self, what)
        return Stage(name, config, given)

    def cohort(self, name: str, write: Callable[[Path], object]) -> str:
        """Folder of a cohort."""
        if name not in self._cohorts:
            write(self.folder / name)
            self._cohorts[name] = str(self.folder / name)
        return self._cohorts[name]

    def trained(self, name: str, file: str, **more: Any) -> str:
        """A weights file of a stage that was run to its end."""
        folder = self.folder / f"trained {name} {more}".replace("/", " ")
        if not folder.is_dir():
            log = folder.with_suffix(".txt")
            length = {"epochs": 1, "iterations_per_epoch": 1, **more}
            assert self.launcher.run(self[name].words(folder, workers=0, **length), log) == 0, log.read_text()
        return str(folder / "output" / file)


def _mixcl(stages: Stages, what: str) -> tuple[Path, dict[str, Any]]:
    given = {**mixcl_runs.TINY, **_SHORT}
    if what == "pretrain":
        partial = [("a", "Toy_A", ("liver",), 3, 0), ("b", "Toy_B", ("spleen", "kidney"), 3, 1)]

        def write(folder: Path) -> None:
            for name, *rest in partial:
                mixcl_runs.write_dataset(folder / name, *rest)

        return BUNDLE / "pretrain.json", {**given, **_WIDE, "dataset_dir": stages.cohort("partial", write)}
    data = stages.cohort("organs", lambda f: mixcl_runs.write_dataset(f, "Toy_Organs", ("liver", "spleen"), 4, 2))
    given = {key: value for key, value in given.items() if not key.startswith(("network_def", "patch_size"))}
    given |= {"dataset_dir": data, "folds": 2, "val_interval": 2}
    return BUNDLE / "finetune.json", {**given, "pretrained": stages.trained("mixcl pretrain", "encoder.pt")}


def _siamese_kidney(stages: Stages, what: str) -> tuple[Path, dict[str, Any]]:
    data = {"data": stages.cohort("kidneys", siamese_kidney_runs.write_kidneys), "store": ""}
    more = {} if what == "pretrain" else {"pretrained": stages.trained("siamese_kidney pretrain", "encoder.pt")}
    given = siamese_kidney_runs.tiny_options(what, data, **_SHORT, val_interval=2, **more)
    return siamese_kidney_runs.SIAMESE_KIDNEY / f"{what}.json", given


def _ms_lesion(stages: Stages, what: str) -> tuple[Path, dict[str, Any]]:
    given = {**ms_lesion_runs.TINY_MS, **_SHORT, "val_interval": 2, "variant": "single"}
    if what == "train":
        # with a rough lesion network, which a process of its own trains first
        given |= {"variant": "multi_output", "merged_lesions": "in_sample", "rough_epochs": 3}
    cohort = stages.cohort("brains", ms_lesion_runs.write_brains)
    return ms_lesion_runs.MS_LESION / "train.json", {**given, "dataset_dir": cohort}


def _gi_tract(stages: Stages, what: str) -> tuple[Path, dict[str, Any]]:
    data = {"data": stages.cohort("abdomens", gi_tract_runs.write_abdomens), "store": ""}
    variant = {**gi_tract_runs.VARIANTS["momentum_contrast"], "film": True, "weighting": "random"}
    features = {"film_features": ["day_number", "image_width"]}
    given = gi_tract_runs.tiny_options("train", data, **variant, **features, **_SHORT)
    return gi_tract_runs.GI_TRACT / f"{what}.json", given


def _two_stage(stages: Stages, what: str) -> tuple[Path, dict[str, Any]]:
    stage, _, mode = what.partition(" ")
    data = {"data": stages.cohort("x_rays", two_stage_runs.write_x_rays), "store": ""}
    more: dict[str, Any] = {}
    if mode == "joint":
        # a weighting that looks at gradients, and a queue
        more = {"task": "momentum_contrast", "queue_size": 16, "unlabelled": True, "weighting": "gradient_similarity"}
    elif mode == "pretrained":
        more = {"task": "in_painting", "mode": "pretrained", "pretraining_epochs": 3}
    else:
        plain = {"unlabelled": False, "weighting": "constant"}
        tasks = ("none", "inner_distance")
        paths = [stages.trained("two_stage stage1 joint", "model.pt", task=task, **plain) for task in tasks]
        more = {"teachers": paths, "unlabelled": True}
    given = two_stage_runs.tiny_two_stage(stage, data, **_SHORT, **more)
    return two_stage_runs.TWO_STAGE / f"{stage}.json", given


STAGES: dict[str, Callable[[Stages, str], tuple[Path, dict[str, Any]]]] = {
    "mixcl pretrain": _mixcl,
    "mixcl finetune": _mixcl,
    "siamese_kidney pretrain": _siamese_kidney,
    "siamese_kidney train": _siamese_kidney,
    "ms_lesion train": _ms_lesion,
    "ms_lesion single": _ms_lesion,
    "gi_tract train": _gi_tract,
    "two_stage stage1 joint": _two_stage,
    "two_stage stage1 pretrained": _two_stage,
    "two_stage distill": _two_stage,
}
