"""Several networks asked about one volume."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch.nn.functional import logsigmoid

from mtmed.errors import InputError
from mtmed.inferers.whole_volume import WholeVolumeInferer

__all__ = ["EnsembleInferer"]


class EnsembleInferer(Inferer):
    r"""Mean probability of networks that were trained differently, as logits.

    With logits :math:`f_m` of M networks

    .. math:: \operatorname{logit}\Big(\frac{1}{M} \sum_m \sigma(f_m)\Big),

    so that what comes after (threshold, resampling of probabilities) is the same as for one network. For organs that
    may overlap, whose probabilities are sigmoids.

    Networks may differ in the slices that are their channels and in their metadata: each is shown the image's channels
    and, of the planes behind them, those of its own features in its own order.

    Args:
        members: per network: the network, which is switched to evaluation; its inferer, whose `feature_planes` is the
            number of its features; the names of its features, in its order.
        features: names of the planes that the images end with, in order.

    Raises:
        InputError: there is no network, or one needs a feature that the images do not have.
        ValueError: an inferer expects another number of planes than its network has features.
    """

    def __init__(
        self, members: Sequence[tuple[torch.nn.Module, WholeVolumeInferer, Sequence[str]]], features: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if not members:
            raise InputError("members", "is empty", "give at least one network")
        self.members: list[tuple[torch.nn.Module, WholeVolumeInferer, list[int]]] = []
        for number, (network, inferer, own) in enumerate(members, start=1):
            for name in own:
                if name not in features:
                    problem = f"needs '{name}', the images have {', '.join(features) or 'no features'}"
                    remedy = "append the features of all networks to the images"
                    raise InputError(f"network {number} of the ensemble", problem, remedy)
            if inferer.feature_planes != len(own):
                planes = inferer.feature_planes
                raise ValueError(f"Network {number} has {len(own)} features, its inferer expects {planes} planes.")
            self.members.append((network.eval(), inferer, [list(features).index(name) for name in own]))
        self.features = tuple(features)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor] | None = None, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute the logits of the mean.

        Args:
            inputs: image and planes, B (C + F) D H W.
            network: not asked; evaluators hand one over.
            args: not used.
            kwargs: not used.

        Returns:
            Logits, B K D H W float32, a `MetaTensor` where the image is one.

        Raises:
            InputError: if the networks differ in their number of organs, or one gives logits that are not finite.
        """
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        channels = plain.shape[1] - len(self.features)
        inside: torch.Tensor | None = None
        outside: torch.Tensor | None = None
        for number, (member, inferer, places) in enumerate(self.members, start=1):
            shown = plain[:, [*range(channels), *(channels + place for place in places)]]
            try:
                own = inferer(shown, member)
            except InputError as error:
                raise InputError(f"network {number} of the ensemble", error.problem, error.remedy) from error
            if inside is not None and inside.shape != own.shape:
                problem = f"segments {own.shape[1]} organs, those before it {inside.shape[1]}"
                raise InputError(f"network {number} of the ensemble", problem, "average networks of the same organs")
            # the logarithms of both sums, so that probabilities next to 0 and 1 keep their order
            inside = logsigmoid(own) if inside is None else torch.logaddexp(inside, logsigmoid(own))
            outside = logsigmoid(-own) if outside is None else torch.logaddexp(outside, logsigmoid(-own))
        assert inside is not None  # there are members
        assert outside is not None
        logits = inside - outside
        if isinstance(inputs, MetaTensor):
            return MetaTensor(logits).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-any-return]
        return logits
