"""Scalars and pictures for TensorBoard."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from mtmed.distributed import rank
from mtmed.errors import InputError
from mtmed.files import write_error
from mtmed.handlers.slice_pictures import middle_slice, most_labelled, organ_slice
from mtmed.metrics.overlay import overlay_figure
from mtmed.organ_masks import pack_masks, packed_names

__all__ = ["TensorBoardLog"]


class TensorBoardLog:
    """Logs a trainer and its evaluator.

    Per iteration: the total loss, every loss by name, the weights in force, the learning rate, and scalars that tasks
    give. When pictures are due: each view's image and label, and every picture a task gives (reconstruction,
    prediction, sampling weight, correlation and relation matrix), of 2D batches those of the sample with most label.
    Per validation: Dice per class and on average, and an overlay of image, label and prediction. A resumed run hides
    what was logged after its checkpoint.

    Where masks overlap, labels are packed (`mtmed.organ_masks`) and the network has a logit per organ, above 0 inside.
    Labels and predictions are then drawn in colours over the image, those of the overlay's legend.

    Args:
        log_dir: folder of the events.
        evaluator: validation engine, if there is one.
        iteration_interval: iterations between scalars.
        label_names: name of each label value, for the overlay's legend; None for the bare values.
        spacing: of the validation volumes along their axes, mm, so that the overlay is true to scale.
        axcodes: where the axes of the validation volumes grow to, as in MONAI's ``Orientationd``.
        organs: names of organs whose masks may overlap, in the order of their bits; in place of `label_names`.

    Raises:
        InputError: the interval is below 1, or `axcodes` are no three letters of the axes R or L, A or P, S or I; or
            both `organs` and `label_names` are given.
    """

    def __init__(
        self,
        *,
        log_dir: str | Path,
        evaluator: Engine | None = None,
        iteration_interval: int = 1,
        label_names: Mapping[int | str, str] | None = None,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        axcodes: str = "RAS",
        organs: Sequence[str] | None = None,
    ) -> None:
        if iteration_interval < 1:
            raise InputError("iteration_interval", f"is {iteration_interval}", "give 1 or more")
        self.log_dir = Path(log_dir)
        self.evaluator = evaluator
        self.iteration_interval = iteration_interval
        if sorted("RLAPSI".find(letter) // 2 for letter in axcodes) != [0, 1, 2]:
            raise InputError("axcodes", f"is '{axcodes}'", "name three axes, for example 'RAS' or 'SPL'")
        if organs is not None and label_names is not None:
            raise InputError("label_names", "is given beside organs, which name the labels", "leave one of the two out")
        self.organs = None if organs is None else tuple(organs)
        self.label_names: Mapping[int | str, str] | None
        self.label_names = label_names if organs is None else dict(packed_names(organs).items())
        self._to_ras = ornt_transform(axcodes2ornt(axcodes), axcodes2ornt("RAS"))
        self.spacing = tuple(spacing[int(axis)] for axis in np.argsort(self._to_ras[:, 0]))
        self._first_case: dict[str, NDArray[Any]] | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after the checkpoint handler."""
        if rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._named(self._open))
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.iteration_interval), self._named(self._scalars))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._named(self._pictures))
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._named(lambda _: self._writer.flush()))
        engine.add_event_handler(Events.COMPLETED | Events.INTERRUPT, self._named(lambda _: self._writer.close()))
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._keep_first_case)
            self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._named(self._validation), engine)

    def _named(self, write: Callable[..., None]) -> Callable[..., None]:
        """Name the folder in an error of the writer, which does not."""

        def handler(*engines: Any) -> None:
            try:
                write(*engines)
            except OSError as error:
                raise write_error(self.log_dir, error) from error

        return handler

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
        views = output["views"]
        places = self._view_pictures(views, step)
        labelled = [name for name, view in views.items() if len(views) == 1 or "label" in view]
        for name, value in output["outputs"].items():
            if value.dim() == 2:
                low, high = value.min(), value.max()
                scaled = (value - low) / (high - low).clamp_min(1e-8)
                self._writer.add_image(name, scaled.cpu(), step, dataformats="HW")
            elif value.dim() >= 4:
                view = name.split("/")[-1]
                if view not in views:
                    # a picture without a view's name is of what is segmented
                    view = labelled[0] if len(labelled) == 1 else "patch"
                image = views[view]["image"] if view in views and not value.is_floating_point() else None
                self._slice(name, value, image, *places.get(view, (0, None)), step)

    def _view_pictures(self, views: Mapping[str, Mapping[str, Tensor]], step: int) -> dict[str, tuple[int, int | None]]:
        places: dict[str, tuple[int, int | None]] = {}
        for name, view in views.items():
            place = most_labelled(view["label"]) if "label" in view else (0, None)
            places[name] = place
            self._slice(f"{name}/image", view["image"], None, *place, step)
            if "label" in view:
                self._slice(f"{name}/label", view["label"], view["image"], *place, step)
        return places

    def _slice(
        self, name: str, volume: Tensor, image: Tensor | None, sample: int, index: int | None, step: int
    ) -> None:
        """Draw a slice grey; where masks overlap and an image is given, as packed masks over its slice."""
        if image is None or self.organs is None:
            self._writer.add_image(name, middle_slice(volume, index, sample=sample), step, dataformats="HW")
        else:
            picture = organ_slice(image, volume, self.organs, index, sample=sample)
            self._writer.add_image(name, picture, step, dataformats="HWC")

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
        if self.organs is not None and prediction.is_floating_point():
            prediction = pack_masks(prediction > 0)[0]
        else:
            prediction = prediction.argmax(0) if len(prediction) > 1 else prediction[0]
        shown = {"image": output["image"][0, 0].float(), "label": output["label"][0, 0], "prediction": prediction}
        self._first_case = {
            name: apply_orientation(np.asarray(volume.detach().cpu()), self._to_ras) for name, volume in shown.items()
        }

    def _overlay(self, image: NDArray[Any], label: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.uint8]:
        values = np.union1d(label, prediction)
        names = self.label_names or {int(value): str(int(value)) for value in values}
        figure = overlay_figure(image, label, prediction, self.spacing, names, title="first validation case")
        canvas: Any = figure.canvas
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
