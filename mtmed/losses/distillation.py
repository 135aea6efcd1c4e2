"""A student's logits against the probabilities of its teachers."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, softmax

__all__ = ["DistillationLoss"]


class DistillationLoss(nn.Module):
    r"""How far a student's softened probabilities are from a soft target, the mean over its teachers.

    With logits z of the student, temperature T, and the target :math:`\bar p`, over the N voxels of the batch,
    ``"sigmoid"`` (organs k that may overlap) is the binary cross-entropy

    .. math:: L = -\frac{T^2}{N K} \sum_{i, k} \bar p_{ik} \log \sigma(z_{ik} / T)
        + (1 - \bar p_{ik}) \log (1 - \sigma(z_{ik} / T))

    and ``"softmax"`` (exclusive classes c) the divergence of the student from the target

    .. math:: L = \frac{T^2}{N} \sum_{i, c} \bar p_{ic}
        \left( \log \bar p_{ic} - \log \operatorname{softmax}(z_i / T)_c \right).

    Both are least where the student equals the target; the second is 0 there, the first the target's entropy. The
    factor :math:`T^2` keeps the size of the gradient when T changes.

    Source: Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), who average the teachers' probabilities at T and multiply by
    :math:`T^2`. The form for organs that may overlap is our reading of Hu, Qin 2024 (arXiv 2402.07119), whose text at
    hand says no more than that the outputs of student and ensemble are matched.

    Args:
        temperature: T.
        activation: ``"sigmoid"`` or ``"softmax"``.

    Raises:
        ValueError: if the temperature is not positive and finite, or the activation is another one.
    """

    def __init__(self, *, temperature: float = 1.0, activation: Literal["sigmoid", "softmax"] = "sigmoid") -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature is {temperature}; give a positive number, 1 for unsoftened probabilities.")
        if activation not in ("sigmoid", "softmax"):
            raise ValueError(f'activation is {activation!r}; allowed are "sigmoid" and "softmax".')
        self.temperature = float(temperature)
        self.activation = activation

    def probabilities(self, logits: Tensor) -> Tensor:
        """A teacher's probabilities at the temperature, B K H W [D], in float32 (float64 for float64 input)."""
        softened = logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature
        return softened.sigmoid() if self.activation == "sigmoid" else softmax(softened, 1)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: of the student, B K H W [D].
            target: mean of the teachers' `probabilities`, of the same shape, without gradient.

        Returns:
            Scalar in float32 (float64 for float64 input).

        Raises:
            ValueError: if shapes do not fit.
        """
        if logits.dim() < 3 or logits.shape != target.shape:
            found = f"{tuple(logits.shape)} and {tuple(target.shape)}"
            raise ValueError(f"Shapes are {found}; give logits and target of one shape, B K *spatial.")
        with torch.autocast(logits.device.type, enabled=False):
            softened = logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature
            target = target.to(softened.dtype)
            if self.activation == "sigmoid":
                loss = binary_cross_entropy_with_logits(softened, target)
            else:
                loss = (torch.xlogy(target, target) - target * log_softmax(softened, 1)).sum(1).mean()
            return loss * self.temperature**2
