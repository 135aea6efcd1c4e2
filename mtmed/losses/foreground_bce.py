"""Binary cross-entropy of a network with one channel for background and one for foreground."""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mtmed.errors import InputError

__all__ = ["ForegroundBCELoss"]


class ForegroundBCELoss(nn.Module):
    r"""Cross-entropy of the foreground's probability, in which foreground voxels weigh more or less than background.

    With the logits :math:`z_0, z_1` of background and foreground, :math:`p = \sigma(z_1 - z_0)`, which is the softmax,
    and y = 1 in the foreground, over all N voxels of the batch

    .. math:: L = -\frac{1}{N} \sum_i w y_i \log p_i + (1 - y_i) \log(1 - p_i).

    Source: the weighted BCE of Dhere and Sivaswamy 2021 (arXiv 2101.05456), who give no weight; the author's code has
    two channels and a softmax.

    Args:
        foreground_weight: weight w of foreground voxels.

    Raises:
        InputError: if the weight is not positive and finite.
    """

    foreground_weight: Tensor

    def __init__(self, *, foreground_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 < foreground_weight < float("inf"):
            raise InputError("foreground_weight", f"is {foreground_weight}", "give a positive number, 1 for no weight")
        self.register_buffer("foreground_weight", torch.tensor(float(foreground_weight)), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: of background and foreground, B 2 H W [D].
            labels: label map, B 1 H W [D]; values above 0 are foreground.

        Returns:
            Scalar in float32 (float64 for float64 input).

        Raises:
            ValueError: if shapes do not fit.
        """
        if logits.dim() < 3 or logits.shape[1] != 2 or labels.shape != logits[:, :1].shape:
            found = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"Shapes are {found}; give logits B 2 *spatial and labels B 1 *spatial.")
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            foreground = (labels > 0).to(logits.dtype)
            difference = logits[:, 1:] - logits[:, :1]
            return binary_cross_entropy_with_logits(
                difference, foreground, pos_weight=self.foreground_weight.to(logits)
            )
