"""Distillation: a student learns what an ensemble of teachers would have said."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.losses.distillation import DistillationLoss
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures
from mtmed.tasks.teacher_ensemble import TeacherEnsemble

__all__ = ["Distillation"]


class Distillation(Task):
    r"""Loss between the student's logits and the mean probability of its teachers (see `DistillationLoss`).

    Beside `mtmed.tasks.Segmentation` it is ``hard labels + weight * distillation``; alone, the student sees no label.
    Teachers see the view as the student does, after augmentation. A run that goes on from a checkpoint goes on with the
    teachers it began with.

    Source: Hu, Qin 2024 (arXiv 2402.07119), stage 2; Hinton, Vinyals, Dean 2015 (arXiv 1503.02531).

    Args:
        teachers: the networks.
        view: the view it reads; its images are those that the teachers see.
        temperature: softens the probabilities of both sides.
        activation: ``"sigmoid"`` for organs that may overlap, ``"softmax"`` for exclusive classes, background first.
        name: of the loss.

    Raises:
        ValueError: see `DistillationLoss`.
        InputError: when the state of a run with other teachers is loaded.
    """

    def __init__(
        self,
        *,
        teachers: TeacherEnsemble,
        view: str = "patch",
        temperature: float = 1.0,
        activation: Literal["sigmoid", "softmax"] = "sigmoid",
        name: str = "distillation",
    ) -> None:
        super().__init__(views=(view,), needs="logits")
        self.teachers = teachers
        self.loss = DistillationLoss(temperature=temperature, activation=activation)
        self.name = name

    def get_extra_state(self) -> Tensor:
        """Who the teachers are, for the checkpoint; a tensor as all else in it."""
        return self.teachers.digest

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse to go on with other teachers."""
        if not torch.equal(state.cpu(), self.teachers.digest):
            problem = "hold other weights than those with which this run began"
            raise InputError("teachers", problem, "give those back, or start over with --new true")

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """The loss; ``<name>/agreement``; the probability of any organ, B 1 H W [D], as a picture.

        The agreement is the Dice of the student's decisions with the ensemble's over all organs and voxels of the
        batch of all processes; 1 where neither finds an organ.
        """
        (view,) = self.views
        logits = features[view].logits
        assert logits is not None
        target = self.teachers.soft_target(views[view], self.loss)
        outputs = {f"{self.name}/agreement": self._agreement(logits.detach(), target)}
        if context.pictures:
            organs = target if self.loss.activation == "sigmoid" else target[:, 1:]
            outputs[f"{self.name}_target/{view}"] = organs.amax(1, keepdim=True)
        return TaskOutput({self.name: self.loss(logits, target)}, outputs)

    @torch.no_grad()
    def _agreement(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.loss.activation == "sigmoid":
            student, ensemble = logits > 0, target > 0.5
            both = student & ensemble
        else:
            student, ensemble = logits.argmax(1), target.argmax(1)
            both = (student == ensemble) & (student > 0)
            student, ensemble = student > 0, ensemble > 0
        common, found = all_reduce_sum(torch.stack([both.sum(), student.sum() + ensemble.sum()]).double())
        return torch.where(found > 0, 2 * common / found.clamp_min(1), 1.0)
