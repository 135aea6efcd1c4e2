"""Validation Dice per class and its mean, over whole volumes and several processes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import from_engine

from mtmed.metrics.organ_means import OrganMeans
from mtmed.metrics.scores import EmptyPolicy

__all__ = ["MeanDice"]


class MeanDice(OrganMeans):
    r"""Mean over classes of the mean Dice over volumes; usable as MONAI's ``key_val_metric``.

    With volumes v and classes c (without background)

    .. math:: \frac{1}{|C|} \sum_c \frac{1}{|V_c|} \sum_{v \in V_c} \frac{2 |P_{vc} \cap R_{vc}|}{|P_{vc}| + |R_{vc}|}.

    MONAI's ``MeanDice`` leaves a volume out of a class if its reference is empty, even if the prediction is not,
    so that false positives there cost nothing, and it has no values per class by name. Here such a volume scores 0;
    only two empty masks follow `empty`.

    ``engine.state.metrics`` gets the mean under the metric's name, and ``name/organ`` for each class that has a value.

    Args:
        label_names: name of each label value; 0 is background.
        empty: Dice of two empty masks: ``"nan"`` (left out), ``"zero"`` or ``"one"``.
        output_transform: from the engine's output to (prediction, reference), each a tensor B C H W [D] or a list of
            C H W [D]. More than one channel of a prediction are logits, whose argmax is taken; one channel is a label
            map. References are label maps.
        device: where sums are kept.

    Raises:
        ValueError: if there is no class beside background or the rule is unknown.
    """

    def __init__(
        self,
        label_names: Mapping[int | str, str],
        *,
        empty: EmptyPolicy = "nan",
        output_transform: Callable[..., Any] = from_engine(["pred", "label"]),  # noqa: B008
        device: torch.device | str = "cpu",
    ) -> None:
        self.organs = {int(value): name for value, name in label_names.items() if int(value) != 0}
        if not self.organs:
            raise ValueError(f"label_names is {dict(label_names)}; name at least one label beside background.")
        names = list(self.organs.values())
        super().__init__(names, empty=empty, output_transform=output_transform, device=device)

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def update(self, output: Sequence[Any]) -> None:
        """Add the volumes of one batch."""
        predictions, references = output
        for prediction, reference in zip(predictions, references, strict=True):
            predicted = prediction.argmax(0) if len(prediction) > 1 else prediction[0]
            for index, value in enumerate(self.organs):
                ours, theirs = predicted == value, reference[0] == value
                size = int(ours.sum()) + int(theirs.sum())
                if size == 0 and self.empty == "nan":
                    continue
                dice = 2 * int((ours & theirs).sum()) / size if size else float(self.empty == "one")
                self._sums[index] += dice
                self._counts[index] += 1
