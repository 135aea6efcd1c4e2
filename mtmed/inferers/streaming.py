"""Sliding-window inference that keeps label maps instead of logits, so that memory does not grow with the volume."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import Inferer
from monai.utils import BlendMode, PytorchPadMode, ensure_tuple_rep, fall_back_tuple, look_up_option
from torch.nn import functional
from tqdm import tqdm

from mtmed.errors import InputError

__all__ = ["StreamingArgmaxInferer"]

_Window = tuple[slice, ...]


class StreamingArgmaxInferer(Inferer):
    r"""Label map of a whole volume, equal to the argmax of MONAI's ``sliding_window_inference``.

    With windows w at places s, logits f and importance map g the label of voxel x is

    .. math:: \arg\max_c \sum_{w : x \in s_w} g(x - s_w)\, f_c(w)(x - s_w),

    MONAI's blend without its division by :math:`\sum_w g`, which changes no argmax. Window grid, importance map and
    padding are MONAI's. Windows come in the order of the first axis, so that at any time only one window height
    of rows (`roi_size[0]`, a ring buffer) has sums: once the next windows start further down, the rows before them
    are complete, become labels and are dropped. Memory for logits is ``classes * roi_size[0] * W * D`` in place of
    ``(classes + 1) * H * W * D``. Batches of windows run over the ends of rows, so they are always full.

    Args:
        roi_size: window size in voxels; an entry that is not positive stands for the image's size.
        sw_batch_size: windows per call of the network.
        overlap: share by which neighbouring windows overlap, in [0, 1), one number or one per axis.
        mode: ``"gaussian"`` or ``"constant"`` importance of a window's voxels.
        sigma_scale: standard deviation of the Gaussian, as a share of the window size.
        padding_mode: how an image smaller than the window is padded (on both sides); see ``torch.nn.functional.pad``.
        cval: padding value for ``padding_mode="constant"``.
        sw_device: where windows are computed and summed; None for the image's device.
        foreground_threshold: windows in which no voxel reaches this value are not computed; what no other window
            covers is background by definition. None computes all windows.
        progress: show a progress bar over the windows.

    Raises:
        ValueError: for a batch size below 1 or an overlap outside [0, 1).
    """

    def __init__(
        self,
        *,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.5,
        mode: str = "gaussian",
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        sw_device: torch.device | str | None = None,
        foreground_threshold: float | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__()
        if sw_batch_size < 1:
            raise ValueError(f"sw_batch_size is {sw_batch_size}; give a number of windows from 1.")
        for share in [overlap] if isinstance(overlap, int | float) else overlap:
            if not 0 <= share < 1:
                raise ValueError(f"overlap is {overlap}; give a share in [0, 1).")
        self.roi_size = roi_size
        self.sw_batch_size = sw_batch_size
        self.overlap = overlap
        self.mode = look_up_option(mode, BlendMode)
        self.sigma_scale = sigma_scale
        self.padding_mode = look_up_option(padding_mode, PytorchPadMode)
        self.cval = cval
        self.sw_device = sw_device
        self.foreground_threshold = foreground_threshold
        self.progress = progress

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute the label map.

        Args:
            inputs: image, B C H W [D]; the images of a batch are passed over one by one.
            network: gives logits, N classes h w [d], of windows, N C h w [d].
            args: further arguments of the network.
            kwargs: further keyword arguments of the network.

        Returns:
            Labels, B 1 H W [D], uint8 (int16 for more than 256 classes), a `MetaTensor` where the image is one.

        Raises:
            InputError: if the network gives logits that are not finite.
            ValueError: if the network gives anything but one tensor of the windows' size.
        """
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        source = _name_of(inputs)
        with torch.no_grad():
            labels = torch.stack([self._one(image, network, source, args, kwargs) for image in plain])
        if isinstance(inputs, MetaTensor):
            return MetaTensor(labels).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-any-return]
        return labels

    def _one(
        self, image: torch.Tensor, network: Callable[..., torch.Tensor], source: str, args: Any, kwargs: Any
    ) -> torch.Tensor:
        dims = image.dim() - 1
        roi = tuple(fall_back_tuple(self.roi_size, image.shape[1:]))
        pads = [max(side - size, 0) for side, size in zip(roi, image.shape[1:], strict=True)]
        halves = [(pad // 2, pad - pad // 2) for pad in pads]
        original = tuple(slice(low, low + size) for (low, _), size in zip(halves, image.shape[1:], strict=True))
        if any(pads):
            flat = [part for pair in reversed(halves) for part in pair]
            image = functional.pad(image[None], flat, mode=self.padding_mode, value=self.cval)[0]
        size = tuple(image.shape[1:])
        steps = [
            side if side == length else max(int(side * (1 - share)), 1)
            for side, length, share in zip(roi, size, ensure_tuple_rep(self.overlap, dims), strict=True)
        ]
        windows = dense_patch_slices(size, roi, steps)
        device = torch.device(self.sw_device or image.device)
        importance = compute_importance_map(
            roi, mode=self.mode, sigma_scale=self.sigma_scale, device=device, dtype=torch.float32
        )
        rows: _Rows | None = None
        for batch in self._batches(image, windows):
            crops = torch.stack([image[(slice(None), *window)] for window in batch]).to(device)
            logits = network(crops, *args, **kwargs)
            if not isinstance(logits, torch.Tensor) or logits.shape[2:] != crops.shape[2:]:
                found = tuple(logits.shape[2:]) if isinstance(logits, torch.Tensor) else type(logits).__name__
                raise ValueError(f"The network must give one tensor of the windows' size {roi}, it gave {found}.")
            rows = rows or _Rows(logits.shape[1], size, roi[0], device, image.device, source)
            for window, one in zip(batch, logits, strict=True):
                rows.add(window, one, importance)
        if rows is None:  # no window reaches the foreground threshold
            rows = _Rows(1, size, roi[0], device, image.device, source)
        return rows.finish()[(slice(None), *original)]

    def _batches(self, image: torch.Tensor, windows: Sequence[_Window]) -> Iterator[list[_Window]]:
        batch: list[_Window] = []
        for window in tqdm(windows, desc="windows", leave=False, disable=not self.progress):
            threshold = self.foreground_threshold
            if threshold is not None and bool(image[(slice(None), *window)].max() < threshold):
                continue
            batch.append(window)
            if len(batch) == self.sw_batch_size:
                yield batch
                batch = []
        if batch:
            yield batch


class _Rows:
    """Sums of one window height of rows, in a ring buffer over the first axis, and the labels of the rows before.

    Args:
        classes: number of classes.
        size: spatial size of the (padded) image.
        height: rows that can have sums at a time.
        device: where sums are kept.
        label_device: where labels are kept.
        source: name of the image, for messages.
    """

    def __init__(
        self,
        classes: int,
        size: tuple[int, ...],
        height: int,
        device: torch.device,
        label_device: torch.device,
        source: str,
    ) -> None:
        self.sums = torch.zeros((classes, height, *size[1:]), dtype=torch.float32, device=device)
        dtype = torch.uint8 if classes <= 256 else torch.int16
        self.labels = torch.zeros((1, *size), dtype=dtype, device=label_device)
        self.height = height
        self.done = 0
        self.source = source

    def add(self, window: _Window, logits: torch.Tensor, importance: torch.Tensor) -> None:
        """Add a window's weighted logits, classes h w [d]; windows come in the order of their first row."""
        start = window[0].start
        self._complete(start)
        turn = start % self.height
        first = self.height - turn
        logits = logits.to(self.sums)
        across = window[1:]
        self.sums[(slice(None), slice(turn, None), *across)].addcmul_(logits[:, :first], importance[:first])
        if turn:
            self.sums[(slice(None), slice(0, turn), *across)].addcmul_(logits[:, first:], importance[first:])

    def finish(self) -> torch.Tensor:
        """Labels of all rows."""
        self._complete(self.labels.shape[1])
        return self.labels

    def _complete(self, end: int) -> None:
        """Turn the sums of the rows before `end` into labels and clear them."""
        last = min(end, self.done + self.height)  # rows beyond the buffer had no window: background
        while self.done < last:
            turn = self.done % self.height
            count = min(last - self.done, self.height - turn)
            sums = self.sums[:, turn : turn + count]
            self.labels[0, self.done : self.done + count] = self._argmax(sums).to(self.labels.device)
            sums.zero_()
            self.done += count
        self.done = end

    def _argmax(self, sums: torch.Tensor) -> torch.Tensor:
        # class by class: vectorised over voxels, which torch.argmax over the first axis is not, and the first maximum
        # wins as there
        best = sums[0].clone()
        labels = torch.zeros_like(best, dtype=self.labels.dtype)
        for value in range(1, len(sums)):
            labels.masked_fill_(sums[value] > best, value)
            torch.maximum(best, sums[value], out=best)
        if not bool(torch.isfinite(best).all()):
            problem = "the network's output is not finite"
            raise InputError(self.source, problem, "look for NaN or infinite voxels in the image and in the weights")
        return labels


def _name_of(inputs: torch.Tensor) -> str:
    name = inputs.meta.get("filename_or_obj", "image") if isinstance(inputs, MetaTensor) else "image"
    return str(name[0] if isinstance(name, list | tuple) else name)
