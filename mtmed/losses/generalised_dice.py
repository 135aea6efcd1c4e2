"""Overlap losses for classes of very different size: generalised Dice and the true positive rate."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

__all__ = ["GeneralisedDiceLoss", "TruePositiveRateLoss"]


class GeneralisedDiceLoss(nn.Module):
    r"""Dice over all classes, each weighted by the inverse square of its volume.

    With probabilities p = softmax(logits) and shares r of classes l at voxels x, for each sample

    .. math:: L = 1 - 2 \frac{\sum_l w_l \sum_x r_{lx} p_{lx}}{\sum_l w_l \sum_x (r_{lx} + p_{lx})},
        \qquad w_l = \frac{1}{\max(\sum_x r_{lx}, 1)^2},

    averaged over samples. A class that a sample lacks gets the largest weight of those it has; so a patch without
    lesion still teaches that there is none, and one class alone cannot outweigh all others by being absent. Weights are
    scaled to a largest of 1, so that no smoothing term is needed; MONAI's ``GeneralizedDiceLoss`` adds 1e-5 to
    numerator and denominator, which in a patch without lesion (where the weights are about 1e-11) is more than all the
    rest.

    Source: Sudre et al. 2017 ("Generalised Dice overlap"), which Abolvardi et al. 2020 cite for their equation 1. As
    printed there, with the weight in one term only, it would merely shrink the prediction.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: B C H W [D].
            target: label values, integers B 1 H W [D], or the share of each class (several raters), B C H W [D].
        """
        probabilities, shares = _flat_pair(logits, target)
        sizes = shares.sum(2)
        present = sizes > 0
        weights = torch.where(present, sizes.clamp_min(1).pow(-2), torch.zeros_like(sizes))
        weights = weights / weights.amax(1, keepdim=True)
        weights = torch.where(present, weights, torch.ones_like(weights))
        overlap = (weights * (shares * probabilities).sum(2)).sum(1)
        total = (weights * (sizes + probabilities.sum(2))).sum(1)
        return (1 - 2 * overlap / total).mean()


class TruePositiveRateLoss(nn.Module):
    r"""How much of the foreground is missed, :math:`1 - \sum r p / \sum r`, per sample over all classes but the first.

    Samples without foreground count 0, so that n processes give what one gives on the joint batch.

    Source: Abolvardi et al. 2020, equations 2 and 3. The factor 2 of equation 2 is left out, as the sentence above it
    defines the rate, and equation 3 adds the rate itself, which would be lowest for an empty prediction; read as 1
    minus the rate.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar; see `GeneralisedDiceLoss.forward`."""
        probabilities, shares = _flat_pair(logits, target)
        found = (shares * probabilities)[:, 1:].sum((1, 2))
        size = shares[:, 1:].sum((1, 2))
        return torch.where(size > 0, 1 - found / size.clamp_min(1e-6), 0 * found).mean()


def _flat_pair(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and shares, B C N, in float32: sums over a patch exceed the range of 16 bits."""
    classes = logits.shape[1]
    if target.shape[2:] != logits.shape[2:] or target.shape[1] not in (1, classes):
        problem = f"target has shape {tuple(target.shape)}, logits {tuple(logits.shape)}"
        raise ValueError(f"{problem}; give label values B 1 H W [D] or the share of each class.")
    probabilities = logits.float().softmax(1).flatten(2)
    if target.shape[1] == classes:
        return probabilities, target.float().flatten(2)
    return probabilities, one_hot(target.long().flatten(1), classes).movedim(-1, 1).float()
