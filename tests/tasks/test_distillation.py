"""A student and its teachers: one pass of each teacher per view, and nothing of them in the student's run."""

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from torch import nn

from mtmed.errors import InputError
from mtmed.losses import DistillationLoss
from mtmed.networks import SmallUNet, UNet
from mtmed.organ_masks import pack_masks
from mtmed.tasks import Distillation, MultiTaskModel, Segmentation, StepContext, TeacherEnsemble

SIDES = {2: (16, 24), 3: (32, 32, 32)}


def _network(dimensions: int = 2, organs: int = 2, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    if dimensions == 3:
        return UNet(in_channels=1, out_channels=organs, features=(4, 4, 8, 8, 8, 4))
    return SmallUNet(in_channels=1, out_channels=organs, base_channels=4, depth=2)


def _counted(network: nn.Module) -> list[int]:
    """Grows by the number of images of each pass of a network."""
    passes: list[int] = []
    encode = network.encode

    def counting(image: torch.Tensor, *told: torch.Tensor) -> list[torch.Tensor]:
        passes.append(len(image))
        assert not torch.is_grad_enabled()
        assert not network.training
        return encode(image, *told)

    network.encode = counting
    return passes


def _views(dimensions: int = 2, batch: int = 2, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 1, *SIDES[dimensions], generator=generator)
    masks = torch.rand(batch, 2, *SIDES[dimensions], generator=generator) > 0.7
    return {"patch": {"image": image, "clean": image, "label": pack_masks(masks, axis=1)}}


def _context(pictures: bool = False) -> StepContext:
    return StepContext(seed=0, step=0, positions=(0, 1), pictures=pictures)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_target_is_the_mean_probability_of_teachers_in_evaluation_mode(dimensions, activation):
    # the teachers of another class than the student, and one in the mode of training
    teachers = [_network(dimensions, seed=seed) for seed in (1, 2, 3)]
    teachers[1].train()
    task = Distillation(teachers=TeacherEnsemble(teachers), temperature=2.0, activation=activation)
    model = MultiTaskModel(network=_network(dimensions), tasks={"distillation": task}).train()
    views = _views(dimensions)
    losses, outputs = model(views, _context())
    with torch.no_grad():
        expected = torch.stack([task.loss.probabilities(one(views["patch"]["image"])) for one in teachers]).mean(0)
        student = model.network(views["patch"]["image"])
    torch.testing.assert_close(losses["distillation"].detach(), task.loss(student, expected))
    assert set(outputs) == {"distillation/agreement"}


def test_teachers_run_once_per_view_and_step_however_many_losses_read_them():
    teachers = [_network(seed=seed) for seed in (1, 2)]
    passes = [_counted(teacher) for teacher in teachers]
    ensemble = TeacherEnsemble(teachers)
    tasks = {
        "segmentation": Segmentation(loss={"dice": DiceLoss(sigmoid=True)}, overlapping=True),
        "distillation": Distillation(teachers=ensemble),
        "again": Distillation(teachers=ensemble, name="again"),
    }
    model = MultiTaskModel(network=_network(), tasks=tasks)
    for step in range(3):
        losses, _ = model(_views(seed=step), _context())
        torch.testing.assert_close(losses["distillation"], losses["again"])
        assert passes == [[2] * (step + 1)] * 2


def test_another_temperature_of_the_same_view_asks_again():
    ensemble, view = TeacherEnsemble([_network(seed=1)]), _views()["patch"]
    soft, softer = (ensemble.soft_target(view, DistillationLoss(temperature=t)) for t in (1.0, 4.0))
    assert (softer - 0.5).abs().max() < (soft - 0.5).abs().max()


def test_nothing_of_the_teachers_is_in_parameters_state_or_gradients():
    teachers = [_network(seed=seed) for seed in (1, 2)]
    before = [{name: value.clone() for name, value in one.state_dict().items()} for one in teachers]
    student = _network()
    model = MultiTaskModel(network=student, tasks={"distillation": Distillation(teachers=TeacherEnsemble(teachers))})
    assert len(list(model.parameters())) == len(list(student.parameters()))
    # who they are, not what they have learnt
    own = {f"network.{name}" for name in student.state_dict()}
    assert set(model.state_dict()) == own | {"tasks.distillation._extra_state"}
    losses, _ = model.train()(_views(), _context())
    losses["distillation"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    for teacher, state in zip(teachers, before, strict=True):
        assert not teacher.training
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
        torch.testing.assert_close(teacher.state_dict(), state, rtol=0, atol=0)


def test_a_run_goes_on_with_the_teachers_it_began_with():
    def student(*seeds: int) -> MultiTaskModel:
        teachers = TeacherEnsemble([_network(seed=seed) for seed in seeds])
        return MultiTaskModel(network=_network(), tasks={"distillation": Distillation(teachers=teachers)})

    state = student(1, 2).state_dict()
    student(1, 2).load_state_dict(state)
    for others in ((1,), (2, 1), (1, 3)):
        with pytest.raises(InputError, match=r"^teachers: hold other weights than those with which this run began; "):
            student(*others).load_state_dict(state)


def test_a_student_that_is_trained_comes_to_agree_with_its_teachers():
    teachers = [_network(seed=seed) for seed in (1, 2)]
    model = MultiTaskModel(network=_network(), tasks={"distillation": Distillation(teachers=TeacherEnsemble(teachers))})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    views, found = _views(), []
    for _ in range(60):
        losses, outputs = model(views, _context())
        optimizer.zero_grad()
        losses["distillation"].backward()
        optimizer.step()
        found.append((float(losses["distillation"].detach()), float(outputs["distillation/agreement"])))
    assert found[-1][0] < found[0][0]
    assert found[-1][1] > max(0.9, found[0][1])


def test_the_agreement_is_the_dice_of_decisions():
    generator = np.random.default_rng(0)
    student, teacher = (torch.from_numpy(generator.normal(size=(2, 3, 4, 4))) for _ in range(2))
    task = Distillation(teachers=TeacherEnsemble([nn.Identity()]))
    found = task._agreement(student, task.loss.probabilities(teacher))
    one, other = student.numpy() > 0, teacher.numpy() > 0
    assert float(found) == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))
    assert float(task._agreement(-student.abs() - 1, task.loss.probabilities(-teacher.abs() - 1))) == 1.0

    task = Distillation(teachers=TeacherEnsemble([nn.Identity()]), activation="softmax")
    found = task._agreement(student, task.loss.probabilities(teacher))
    one, other = student.numpy().argmax(1), teacher.numpy().argmax(1)
    same = ((one == other) & (one > 0)).sum()
    assert float(found) == pytest.approx(2 * same / ((one > 0).sum() + (other > 0).sum()))


def test_the_picture_is_the_probability_of_any_organ():
    teacher, views = _network(seed=1), _views()
    task = Distillation(teachers=TeacherEnsemble([teacher]))
    model = MultiTaskModel(network=_network(), tasks={"distillation": task})
    _, outputs = model(views, _context(pictures=True))
    expected = teacher(views["patch"]["image"]).sigmoid().amax(1, keepdim=True)
    torch.testing.assert_close(outputs["distillation_target/patch"], expected)


def test_under_autocast_the_target_is_float32_and_near_that_without():
    ensemble, view = TeacherEnsemble([_network(seed=1)]), _views()["patch"]
    exact = ensemble.soft_target(view, DistillationLoss())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ensemble.soft_target({**view, "image": view["image"].clone()}, DistillationLoss())
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 0.05


def test_teachers_see_the_condition_of_the_view():
    torch.manual_seed(0)
    film = {"features": ["day_number"], "mean": [0.0], "deviation": [1.0]}
    teacher = SmallUNet(in_channels=1, out_channels=2, base_channels=4, depth=2, film=film)
    for parameter in teacher.parameters():
        nn.init.normal_(parameter, std=0.3)
    ensemble, view = TeacherEnsemble([teacher]), _views()["patch"]
    condition = torch.tensor([[1.0], [-2.0]])
    found = ensemble.soft_target({**view, "condition": condition}, DistillationLoss())
    planes = condition[..., None, None].expand(2, 1, *SIDES[2])
    torch.testing.assert_close(found, teacher(torch.cat([view["image"], planes], 1)).sigmoid())


def test_no_teacher_and_teachers_of_other_organs_are_refused():
    with pytest.raises(InputError, match="teachers: there is none"):
        TeacherEnsemble([])
    ensemble = TeacherEnsemble([_network(), _network(organs=3)])
    assert len(ensemble) == 2
    with pytest.raises(InputError, match="teacher 2: has 3 channels of logits, those before it 2"):
        ensemble.soft_target(_views()["patch"], DistillationLoss())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_teachers_follow_the_images_to_their_device():
    teacher, view = _network(seed=1), _views()["patch"]
    expected = TeacherEnsemble([teacher]).soft_target(view, DistillationLoss())
    view = {name: value.cuda() for name, value in view.items()}
    found = TeacherEnsemble([teacher]).soft_target(view, DistillationLoss())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, atol=1e-2, rtol=0)
