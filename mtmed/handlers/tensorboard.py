"""Scalars and pictures for TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from mtmed.distributed import rank
from mtmed.errors import InputError
from mtmed.metrics.overlay import overlay_figure

__all__ = ["TensorBoardLog", "middle_slice"]


def middle_slice(volume: Tensor, index: int | None = None) -> Tensor:
    """Axial slice of a B C H W [D] batch's first sample, as seen by a radiologist: H W in [0, 1].

    The patient's right is on the left, the front is up, if the volume is oriented RAS.

    Args:
        volume: B C H W D or B C H W; the first sample and channel are taken.
        index: slice along the last axis, the middle one if None.
    """
    image = volume[0, 0].detach().float().cpu()
    if image.dim() == 3:
        image = image[..., image.shape[-1] // 2 if index is None else index]
        image = image.flip(0, 1).T
    low, high = image.min(), image.max()
    return (image - low) / (high - low).clamp_min(1e-8)


def _slice_with_most_label(label: Tensor) -> int | None:
    """Slice that shows the most of the label, the middle one where there is none."""
    if label.dim() != 5 or not bool((label[0, 0] > 0).any()):
        return None
    return int((label[0, 0] > 0).sum(dim=(0, 1)).argmax())


class TensorBoardLog:
    """Logs a trainer and its evaluator.

    Per iteration: the total loss, every loss by name, the weights in force, the learning rate, and scalars that tasks
    give. When pictures are due: each view's image and label, and every picture a task gives (reconstruction,
    prediction, sampling weight, correlation and relation matrix). Per validation: Dice per class and on average, and an
    overlay of image, label and prediction. A resumed run hides what was logged after its checkpoint.

    Args:
        log_dir: folder of the events.
        evaluator: validation engine, if there is one.
        iteration_interval: iterations between scalars.
        label_names: name of each label value, for the overlay's legend; None for the bare values.
        spacing: of the validation volumes, mm, so that the overlay is true to scale.
    """

    def __init__(
        self,
        *,
        log_dir: str | Path,
        evaluator: Engine | None = None,
        iteration_interval: int = 1,
        label_names: Mapping[int | str, str] | None = None,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        if iteration_interval < 1:
            raise InputError("iteration_interval", f"is {iteration_interval}", "give 1 or more")
        self.log_dir = Path(log_dir)
        self.evaluator = evaluator
        self.iteration_interval = iteration_interval
        self.label_names = label_names
        self.spacing = tuple(spacing)
        self._first_case: dict[str, NDArray[Any]] | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after the checkpoint handler."""
        if rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.iteration_interval), self._scalars)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._pictures)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self._writer.flush())
        engine.add_event_handler(Events.COMPLETED, lambda: self._writer.close())
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._keep_first_case)
            self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._validation, engine)

    def _open(self, engine: Any) -> None:
        self._writer = SummaryWriter(str(self.log_dir), purge_step=engine.state.iteration + 1)

    def _scalars(self, engine: Any) -> None:
        output, step = engine.state.output, engine.state.iteration
        self._writer.add_scalar("loss/total", output["loss"], step)
        for name, value in output["losses"].items():
            self._writer.add_scalar(f"loss/{name}", value, step)
        for name, value in output["weights"].items():
            self._writer.add_scalar(f"weight/{name}", value, step)
        self._writer.add_scalar("learning_rate", output["learning_rate"], step)
        for name, value in output["outputs"].items():
            if value.dim() == 0:
                self._writer.add_scalar(name, float(value), step)

    def _pictures(self, engine: Any) -> None:
        output, step = engine.state.output, engine.state.iteration
        if not output["views"]:
            return
        index = self._view_pictures(output["views"], step)
        for name, value in output["outputs"].items():
            if value.dim() == 2:
                low, high = value.min(), value.max()
                scaled = (value - low) / (high - low).clamp_min(1e-8)
                self._writer.add_image(name, scaled.cpu(), step, dataformats="HW")
            elif value.dim() >= 4:
                view = name.split("/")[-1]
                self._writer.add_image(name, middle_slice(value, index.get(view)), step, dataformats="HW")

    def _view_pictures(self, views: Mapping[str, Mapping[str, Tensor]], step: int) -> dict[str, int | None]:
        indices = {}
        for name, view in views.items():
            index = _slice_with_most_label(view["label"]) if "label" in view else None
            indices[name] = index
            for key in ("image", "label"):
                if key in view:
                    self._writer.add_image(f"{name}/{key}", middle_slice(view[key], index), step, dataformats="HW")
        if "prediction" not in indices and len(indices) == 1:
            indices["prediction"] = next(iter(indices.values()))
        return indices

    def _validation(self, evaluator: Any, engine: Any) -> None:
        step = engine.state.iteration
        for name, value in evaluator.state.metrics.items():
            if isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0):
                self._writer.add_scalar(f"validation/{name}", float(value), step)
        if self._first_case is not None:
            self._writer.add_image("validation/overlay", self._overlay(**self._first_case), step, dataformats="HWC")
            self._first_case = None

    def _keep_first_case(self, evaluator: Any) -> None:
        """The first 3D case with a label map of each validation is the one that is shown."""
        output = evaluator.state.output
        if self._first_case is not None or not isinstance(output, Mapping):
            return
        if output["image"].dim() != 5 or output["label"].dim() != 5:
            return
        prediction = output["pred"][0]
        prediction = prediction.argmax(0) if len(prediction) > 1 else prediction[0]
        shown = {"image": output["image"][0, 0].float(), "label": output["label"][0, 0], "prediction": prediction}
        self._first_case = {name: np.asarray(volume.detach().cpu()) for name, volume in shown.items()}

    def _overlay(self, image: NDArray[Any], label: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.uint8]:
        values = np.union1d(label, prediction)
        names = self.label_names or {int(value): str(int(value)) for value in values}
        figure = overlay_figure(image, label, prediction, self.spacing, names, title="first validation case")
        canvas: Any = figure.canvas
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
