"""Sliding-window inference that keeps label maps instead of logits, so that memory does not grow with the volume."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import Inferer
from monai.utils import BlendMode, PytorchPadMode, ensure_tuple_rep, fall_back_tuple, look_up_option
from torch.nn import functional
from tqdm import tqdm

from mtmed.errors import InputError
from mtmed.inferers.foreground import Foreground, foreground_box, foreground_mask, require_foreground
from mtmed.inferers.image_name import image_name

__all__ = ["StreamingArgmaxInferer"]

logger = logging.getLogger(__name__)

_Predictor = Callable[[torch.Tensor], torch.Tensor]
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

    With `foreground` the window grid is MONAI's on the box of the foreground (`foreground_box`) in place of the whole
    image, and windows without foreground are passed over. What no window covers has label 0. These windows lie
    elsewhere than those of the whole image, so labels differ as far as the network's output depends on what else a
    window holds, as it does with instance normalisation.

    Args:
        roi_size: window size in voxels; an entry that is not positive stands for the image's size, and one strictly
            between 0 and 1 for that share of it, rounded up: ``[0.5, -1, -1]`` without overlap are the two halves,
            which share the middle row where the number of rows is odd.
        sw_batch_size: windows per call of the network.
        overlap: share by which neighbouring windows overlap, in [0, 1), one number or one per axis.
        mode: ``"gaussian"`` or ``"constant"`` importance of a window's voxels.
        sigma_scale: standard deviation of the Gaussian, as a share of the window size.
        padding_mode: how an image smaller than the window is padded (on both sides); see ``torch.nn.functional.pad``.
        cval: padding value for ``padding_mode="constant"``.
        sw_device: where windows are computed and summed; None for the image's device.
        foreground: compute only where there is foreground: ``"nonzero"`` for voxels that are not 0 in any channel, as
            the brain in skull-stripped images; a number for voxels that reach it in any channel. An image without
            any is background throughout, with a warning. None computes the whole image.
        heads: numbers of logits channels of consecutive heads of the network: ``[2, 4]`` gives two label maps, from
            channels 0-1 and 2-5. None is one head with all channels.
        progress: show a progress bar over the windows.

    Raises:
        InputError: if `foreground` is neither ``"nonzero"`` nor a number nor None.
        ValueError: for a window size that is neither whole nor a share, a batch size below 1, an overlap outside
            [0, 1), or a head of fewer than 2 channels.
    """

    def __init__(
        self,
        *,
        roi_size: Sequence[float] | float,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.5,
        mode: str = "gaussian",
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        sw_device: torch.device | str | None = None,
        foreground: Foreground | None = None,
        heads: Sequence[int] | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__()
        for side in [roi_size] if isinstance(roi_size, int | float) else roi_size:
            if side != int(side) and not 0 < side < 1:
                raise ValueError(f"roi_size is {roi_size}; give voxels, a share in (0, 1), or -1 for the image's size.")
        if sw_batch_size < 1:
            raise ValueError(f"sw_batch_size is {sw_batch_size}; give a number of windows from 1.")
        for share in [overlap] if isinstance(overlap, int | float) else overlap:
            if not 0 <= share < 1:
                raise ValueError(f"overlap is {overlap}; give a share in [0, 1).")
        if foreground is not None:
            require_foreground(foreground)
        if heads is not None and (len(heads) == 0 or min(heads) < 2):
            raise ValueError(f"heads is {heads}; give at least one head, each with at least 2 channels.")
        self.roi_size = roi_size
        self.sw_batch_size = sw_batch_size
        self.overlap = overlap
        self.mode = look_up_option(mode, BlendMode)
        self.sigma_scale = sigma_scale
        self.padding_mode = look_up_option(padding_mode, PytorchPadMode)
        self.cval = cval
        self.sw_device = sw_device
        self.foreground = foreground
        self.heads = None if heads is None else tuple(heads)
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
            Labels, B heads H W [D], uint8 (int16 for a head of more than 256 classes), a `MetaTensor` where the image
            is one.

        Raises:
            InputError: if the network gives logits that are not finite.
            ValueError: if the network gives anything but one tensor of the windows' size, or not as many channels as
                the heads together.
        """

        def predictor(windows: torch.Tensor) -> torch.Tensor:
            return network(windows, *args, **kwargs)

        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        source = image_name(inputs)
        with torch.no_grad():
            labels = torch.stack([self._one(image, predictor, source) for image in plain])
        if isinstance(inputs, MetaTensor):
            return MetaTensor(labels).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-any-return]
        return labels

    def _one(self, image: torch.Tensor, predictor: _Predictor, source: str) -> torch.Tensor:
        roi = self._window_size(tuple(image.shape[1:]))
        steps = [
            max(int(side * (1 - share)), 1)
            for side, share in zip(roi, ensure_tuple_rep(self.overlap, len(roi)), strict=True)
        ]

        if self.foreground is None:
            return self._labels(image, None, predictor, roi, steps, source)
        mask = foreground_mask(image, self.foreground)
        box = foreground_box(mask, roi_size=roi, steps=steps)
        if box is None:
            logger.warning("%s: has no foreground (%s), so its labels are all background", source, self.foreground)
            heads = 1 if self.heads is None else len(self.heads)
            return image.new_zeros((heads, *image.shape[1:]), dtype=torch.uint8)
        inside = self._labels(image[(slice(None), *box)], mask[box], predictor, roi, steps, source)
        labels = inside.new_zeros((len(inside), *image.shape[1:]))
        labels[(slice(None), *box)] = inside
        return labels

    def _window_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        # rounded first, since 0.1 * 30 is a little above 3
        wanted = [
            math.ceil(round(entry * side, 6)) if 0 < entry < 1 else int(entry)
            for entry, side in zip(ensure_tuple_rep(self.roi_size, len(size)), size, strict=True)
        ]
        return tuple(fall_back_tuple(wanted, size))

    def _labels(
        self,
        image: torch.Tensor,
        mask: torch.Tensor | None,
        predictor: _Predictor,
        roi: tuple[int, ...],
        steps: Sequence[int],
        source: str,
    ) -> torch.Tensor:
        """Labels of an image, C H W [D], from the windows in which `mask`, H W [D], has any voxel (None: all)."""
        pads = [max(side - size, 0) for side, size in zip(roi, image.shape[1:], strict=True)]
        halves = [(pad // 2, pad - pad // 2) for pad in pads]
        original = tuple(slice(low, low + size) for (low, _), size in zip(halves, image.shape[1:], strict=True))
        if any(pads):
            flat = [part for pair in reversed(halves) for part in pair]
            image = functional.pad(image[None], flat, mode=self.padding_mode, value=self.cval)[0]
        size = tuple(image.shape[1:])
        windows = dense_patch_slices(size, roi, steps)
        if mask is not None:
            lows = [low for low, _ in halves]
            windows = [window for window in windows if bool(mask[_shifted(window, lows)].any())]
        device = torch.device(self.sw_device or image.device)
        importance = compute_importance_map(
            roi, mode=self.mode, sigma_scale=self.sigma_scale, device=device, dtype=torch.float32
        )
        rows: _Rows | None = None
        with tqdm(total=len(windows), desc="windows", leave=False, disable=not self.progress) as bar:
            for first in range(0, len(windows), self.sw_batch_size):
                batch = windows[first : first + self.sw_batch_size]
                crops = torch.stack([image[(slice(None), *window)] for window in batch]).to(device)
                logits = predictor(crops)
                self._check_logits(logits, roi)
                rows = rows or _Rows(self.heads or (logits.shape[1],), size, roi[0], device, image.device, source)
                for window, one in zip(batch, logits, strict=True):
                    rows.add(window, one, importance)
                bar.update(len(batch))
        assert rows is not None  # an image has windows, and a mask with voxels leaves some
        return rows.finish()[(slice(None), *original)]

    def _check_logits(self, logits: object, roi: tuple[int, ...]) -> None:
        if not isinstance(logits, torch.Tensor) or logits.shape[2:] != roi:
            found = tuple(logits.shape[2:]) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ValueError(f"The network must give one tensor of the windows' size {roi}, it gave {found}.")
        if self.heads is not None and sum(self.heads) != logits.shape[1]:
            together = sum(self.heads)
            raise ValueError(f"heads {self.heads} are {together} channels, the network gives {logits.shape[1]}.")


def _shifted(window: _Window, lows: Sequence[int]) -> _Window:
    """A window of the padded image in voxels of the image; along a padded axis it holds the whole image."""
    return tuple(slice(max(side.start - low, 0), side.stop - low) for side, low in zip(window, lows, strict=True))


class _Rows:
    """Sums of one window height of rows, in a ring buffer over the first axis, and the labels of the rows before.

    Args:
        heads: number of classes of each head.
        size: spatial size of the (padded) image.
        height: rows that can have sums at a time.
        device: where sums are kept.
        label_device: where labels are kept.
        source: name of the image, for messages.
    """

    def __init__(
        self,
        heads: Sequence[int],
        size: tuple[int, ...],
        height: int,
        device: torch.device,
        label_device: torch.device,
        source: str,
    ) -> None:
        self.sums = torch.zeros((sum(heads), height, *size[1:]), dtype=torch.float32, device=device)
        dtype = torch.uint8 if max(heads) <= 256 else torch.int16
        self.labels = torch.zeros((len(heads), *size), dtype=dtype, device=label_device)
        self.heads = tuple(heads)
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
            for head, own in enumerate(sums.split_with_sizes(self.heads)):
                self.labels[head, self.done : self.done + count] = self._argmax(own).to(self.labels.device)
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
