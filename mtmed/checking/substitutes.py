"""What a check does in place of functions that would train, write, start processes or read all volumes."""

from collections.abc import Callable, Sequence
from typing import Any

import monai.utils

import mtmed.bundle
import mtmed.bundle.method_study
import mtmed.data
import mtmed.engines
import mtmed.inferers
import mtmed.networks
from mtmed.bundle.data_check import require_fitting_data
from mtmed.checking.unknown import Unknown
from mtmed.data.check import CheckReport, check_cases
from mtmed.data.manifest import Cohort

__all__ = ["Substitutes"]


class Substitutes:
    """The replacements, and what they learnt.

    Args:
        read_data: whether the cohort's images and labels are read, as the config's ``check_data`` would.
        workers: number of threads for it.

    Attributes:
        table: functions and classes, and what stands in for each.
        cohort: the cohort of the config's ``check_data``, if it came to that.
        report: what is wrong with its cases, if they were read.
        lacking: options that must be given before the config can run, and how.
    """

    def __init__(self, *, read_data: bool, workers: int | None) -> None:
        self.read_data = read_data
        self.workers = workers
        self.cohort: Cohort | None = None
        self.report: CheckReport | None = None
        self.lacking: dict[str, str] = {}
        self.table: dict[Any, Callable[..., Any]] = {
            # the options have been checked; a check has no folder
            mtmed.bundle.start_run: _nothing,
            mtmed.bundle.finish_run: _nothing,
            mtmed.bundle.check_data: self._check_data,
            mtmed.bundle.check_tissue_input: _nothing,
            mtmed.bundle.report_sides: _nothing,
            # the network of a run that pre-trains first is that of its definition
            mtmed.bundle.pretraining: _nothing,
            mtmed.bundle.rough_networks: _not_known("rough networks"),
            mtmed.bundle.method_study.run_method: _nothing,
            mtmed.data.VolumeStore: _not_known("volumes"),
            mtmed.data.feature_statistics: _standard_statistics,
            mtmed.engines.find_learning_rate: _nothing,
            mtmed.inferers.require_checkpoint: self._require_checkpoint,
            mtmed.inferers.require_checkpoints: self._require_checkpoints,
            mtmed.networks.load_teachers: self._load_teachers,
            monai.utils.set_determinism: _nothing,
        }

    def _check_data(
        self,
        cohort: Any,
        *,
        output_dir: Any = None,
        patch_size: Any = None,
        spacing: Any = None,
        window: Any = None,
        label_names: Any = None,
        include_test: bool = False,
        **settings: Any,
    ) -> None:
        """As `mtmed.bundle.check_data`, without the run's record of it."""
        if isinstance(cohort, Unknown):
            return
        self.cohort = cohort
        require_fitting_data(
            cohort,
            patch_size=patch_size,
            spacing=spacing,
            window=window,
            label_names=label_names,
            include_test=include_test,
        )
        if self.read_data:
            self.report = check_cases(
                cohort,
                patch_size=patch_size,
                spacing=spacing,
                window=window,
                include_test=include_test,
                workers=self.workers,
                **settings,
            )

    def _require_checkpoint(self, path: Any) -> Any:
        if path is None:
            self.lacking["checkpoint"] = "--set checkpoint=runs/<run>/model.pt"
            return Unknown("checkpoint")
        return mtmed.inferers.require_checkpoint(path)

    def _require_checkpoints(self, paths: Any) -> Any:
        if not paths:
            self.lacking["checkpoints"] = "--set \"checkpoints=['runs/<run>/model.pt','runs/<other run>/model.pt']\""
            return Unknown("checkpoints")
        return mtmed.inferers.require_checkpoints(paths)

    def _load_teachers(self, paths: Any, **settings: Any) -> Any:
        if isinstance(paths, Sequence) and not paths:
            self.lacking["teachers"] = "--set \"teachers=['runs/<run>/model.pt']\""
            return Unknown("teachers")
        return mtmed.networks.load_teachers(paths, **settings)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _not_known(what: str) -> Callable[..., Unknown]:
    return lambda *args, **kwargs: Unknown(what)


def _standard_statistics(volumes: Any, features: Sequence[str]) -> dict[str, list[float]]:
    """Statistics that change nothing of a network's size."""
    return {"mean": [0.0] * len(features), "deviation": [1.0] * len(features)}
