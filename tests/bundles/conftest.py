"""A cohort and settings so small that a bundle runs in a second, and ways to run it."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from gi_tract_runs import GI_TRACT, VARIANTS, run_gi_tract, write_abdomens
from gi_tract_runs import tiny_options as tiny_gi_tract
from mixcl_runs import TINY, write_dataset
from monai.utils import set_determinism
from ms_lesion_runs import MS_LESION, TINY_MS, rough_in_process, run_ms_lesion, write_brains
from running import BUNDLE, run_in_process
from siamese_kidney_runs import SIAMESE_KIDNEY, run_siamese, tiny_options, write_kidneys
from two_stage_runs import (
    TWO_STAGE,
    pretraining_in_process,
    run_two_stage,
    tiny_two_stage,
    write_hearts,
    write_x_rays,
)

from mtmed.bundle.messages import mendable


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders: ``partial`` has two data sets with other labels, ``organs`` one with all, ``store`` their volumes."""
    folder = tmp_path_factory.mktemp("cohorts")
    write_dataset(folder / "partial" / "a", "Toy_A", ("liver",), 3, 0)
    write_dataset(folder / "partial" / "b", "Toy_B", ("spleen", "kidney"), 3, 1)
    write_dataset(folder / "organs", "Toy_Organs", ("liver", "spleen"), 4, 2)
    return {name: str(folder / name) for name in ("partial", "organs", "store")}


@pytest.fixture(scope="session")
def options(cohorts: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Overrides that make a stage tiny."""

    def make(stage: str, **more: Any) -> dict[str, Any]:
        data = {"dataset_dir": cohorts["partial" if stage == "pretrain" else "organs"], "store_dir": cohorts["store"]}
        folds = {} if stage == "pretrain" else {"folds": 2}
        given = {**TINY, **data, **folds, **more}
        if given.get("pretrained"):
            # the network and its patch are the file's
            given = {k: v for k, v in given.items() if k in more or not k.startswith(("network_def", "patch_size"))}
        return given

    return make


@pytest.fixture(scope="session")
def arguments() -> Callable[[Mapping[str, Any]], list[str]]:
    """Overrides as words of a command line."""

    def make(given: Mapping[str, Any]) -> list[str]:
        return [word for key, value in given.items() for word in (f"--{key}", str(value))]

    return make


@pytest.fixture(scope="session")
def config() -> Callable[..., list[str]]:
    return lambda *names: [str(BUNDLE / f"{name}.json") for name in names]


@pytest.fixture
def run_bundle(options: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Run a stage with overlays and overrides; returns its folder."""

    def start(stage: str, *overlays: str, **more: Any) -> Path:
        return run_in_process(stage, options(stage, **{"output_dir": str(tmp_path / "run"), **more}), *overlays)

    return start


@pytest.fixture(scope="session")
def pretrained(options: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished pre-training run with all losses."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    return run_in_process("pretrain", options("pretrain", output_dir=str(folder)))


@pytest.fixture(scope="session")
def brains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders: ``data`` has five patients of two visits, the others what runs on them keep beside their own folder."""
    folder = tmp_path_factory.mktemp("brains")
    kept = {name: str(folder / name) for name in ("store", "tissue", "rough")}
    return {"data": write_brains(folder / "data"), **kept}


@pytest.fixture(scope="session")
def ms_config() -> Callable[..., list[str]]:
    """Paths of the MS bundle's configs."""
    return lambda *names: [str(MS_LESION / f"{name}.json") for name in names]


@pytest.fixture(scope="session")
def ms_options(brains: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Overrides that make a training of the MS bundle tiny."""

    def make(variant: str, **more: Any) -> dict[str, Any]:
        folders = {f"{name}_dir": brains[name] for name in ("store", "tissue", "rough")}
        return {**TINY_MS, "dataset_dir": brains["data"], **folders, "variant": variant, **more}

    return make


@pytest.fixture
def train_ms(ms_options: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Train a variant with overlays and overrides; returns its folder."""

    def start(variant: str, *overlays: str, **more: Any) -> Path:
        given = ms_options(variant, **{"output_dir": str(tmp_path / variant), **more})
        return run_ms_lesion("train", given, *overlays)

    return start


@pytest.fixture(scope="session")
def trained_ms(
    ms_options: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Folder of a finished training of a variant on fold 0, made once."""
    folder, made = tmp_path_factory.mktemp("trained_ms"), {}

    def of(variant: str) -> Path:
        if variant not in made:
            with rough_in_process():
                made[variant] = run_ms_lesion("train", ms_options(variant, output_dir=str(folder / variant)))
        return made[variant]

    return of


@pytest.fixture(scope="session")
def kidneys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders: ``data`` has seven patients in KiTS19's layout and one without labels, ``store`` their volumes."""
    folder = tmp_path_factory.mktemp("kidneys")
    return {"data": write_kidneys(folder / "data"), "store": str(folder / "store")}


@pytest.fixture(scope="session")
def siamese_config() -> Callable[..., list[str]]:
    """Paths of the kidney bundle's configs."""
    return lambda *names: [str(SIAMESE_KIDNEY / f"{name}.json") for name in names]


@pytest.fixture(scope="session")
def siamese_options(kidneys: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Overrides that make ``pretrain`` or ``train`` of the kidney bundle tiny."""
    return lambda stage, **more: tiny_options(stage, kidneys, **more)


@pytest.fixture
def pretrain_siamese(siamese_options: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Pre-train on kidneys with overlays and overrides; returns the folder."""

    def start(*overlays: str, **more: Any) -> Path:
        given = siamese_options("pretrain", **{"output_dir": str(tmp_path / "pretrain"), **more})
        return run_siamese("pretrain", given, *overlays)

    return start


@pytest.fixture
def train_siamese(siamese_options: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Train the segmentation of kidneys with overlays and overrides; returns the folder."""

    def start(*overlays: str, **more: Any) -> Path:
        given = siamese_options("train", **{"output_dir": str(tmp_path / "train"), **more})
        return run_siamese("train", given, *overlays)

    return start


@pytest.fixture(scope="session")
def pretrained_siamese(
    siamese_options: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of a finished pre-training with the masked proxy on fold 0."""
    folder = tmp_path_factory.mktemp("pretrained_siamese") / "run"
    return run_siamese("pretrain", siamese_options("pretrain", output_dir=str(folder)))


@pytest.fixture(scope="session")
def trained_siamese(siamese_options: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished training from scratch on fold 0."""
    folder = tmp_path_factory.mktemp("trained_siamese") / "run"
    return run_siamese("train", siamese_options("train", output_dir=str(folder)))


@pytest.fixture(scope="session")
def abdomens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders: ``data`` has five patients of one or two days and one without labels, ``store`` their volumes."""
    folder = tmp_path_factory.mktemp("abdomens")
    return {"data": write_abdomens(folder / "data"), "store": str(folder / "store")}


@pytest.fixture(scope="session")
def gi_tract_config() -> Callable[..., list[str]]:
    """Paths of the GI tract bundle's configs."""
    return lambda *names: [str(GI_TRACT / f"{name}.json") for name in names]


@pytest.fixture(scope="session")
def gi_tract_options(abdomens: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Overrides that make a stage of the GI tract bundle tiny."""
    return lambda stage, **more: tiny_gi_tract(stage, abdomens, **more)


@pytest.fixture
def train_gi_tract(gi_tract_options: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Train the segmentation of abdomens with overlays and overrides; returns the folder."""

    def start(*overlays: str, **more: Any) -> Path:
        given = gi_tract_options("train", **{"output_dir": str(tmp_path / "train"), **more})
        return run_gi_tract("train", given, *overlays)

    return start


@pytest.fixture(scope="session")
def trained_gi_tract(
    gi_tract_options: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Folder of a finished training of a variant on fold 0, made once."""
    folder, made = tmp_path_factory.mktemp("trained_gi_tract"), {}

    def of(variant: str) -> Path:
        if variant not in made:
            given = gi_tract_options("train", output_dir=str(folder / variant), **VARIANTS[variant])
            made[variant] = run_gi_tract("train", given)
        return made[variant]

    return of


@pytest.fixture(scope="session")
def x_rays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders: ``data`` has 16 labelled X-rays and 8 without labels, all of other patients, ``store`` their pixels."""
    folder = tmp_path_factory.mktemp("x_rays")
    return {"data": write_x_rays(folder / "data"), "store": str(folder / "store")}


@pytest.fixture(scope="session")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders: ``data`` has eight labelled volumes of hearts and two without labels, ``store`` their voxels."""
    folder = tmp_path_factory.mktemp("hearts")
    return {"data": write_hearts(folder / "data"), "store": str(folder / "store")}


@pytest.fixture(scope="session")
def two_stage_config() -> Callable[..., list[str]]:
    """Paths of the two-stage bundle's configs."""
    return lambda *names: [str(TWO_STAGE / f"{name}.json") for name in names]


@pytest.fixture(scope="session")
def two_stage_options(x_rays: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Overrides that make a stage of the two-stage bundle tiny."""
    return lambda stage, **more: tiny_two_stage(stage, x_rays, **more)


@pytest.fixture
def train_two_stage(two_stage_options: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Run ``stage1`` or ``distill`` on X-rays with overlays and overrides; returns the folder."""

    def start(stage: str, *overlays: str, **more: Any) -> Path:
        given = two_stage_options(stage, **{"output_dir": str(tmp_path / stage), **more})
        with pretraining_in_process():
            return run_two_stage(stage, given, *overlays)

    return start


@pytest.fixture(scope="session")
def trained_two_stage(
    two_stage_options: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Folder of a finished training of stage 1 with a task in a mode, made once."""
    folder, made = tmp_path_factory.mktemp("trained_two_stage"), {}

    def of(task: str, mode: str = "joint") -> Path:
        if (task, mode) not in made:
            given = two_stage_options("stage1", output_dir=str(folder / f"{task}_{mode}"), task=task, mode=mode)
            with pretraining_in_process():
                made[task, mode] = run_two_stage("stage1", given)
        return made[task, mode]

    return of


@pytest.fixture
def refusal(run_bundle: Callable[..., Path]) -> Callable[..., str]:
    """The one line that a run ends with."""

    def start(*stages: str, **more: Any) -> str:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            run_bundle(*stages, **more)
        error = mendable(caught.value)
        assert error is not None, caught.value
        assert "\n" not in str(error)
        return str(error)

    return start


@pytest.fixture
def program_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What MONAI's command changes in its process is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(Path(__file__).parents[2])
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    set_determinism(seed=None)
    torch.use_deterministic_algorithms(False)
