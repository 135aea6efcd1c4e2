"""Every auxiliary task on every kind of network, trained jointly with segmentation and before it."""

import pytest
import torch
from monai.losses import DiceCELoss

from mtmed.networks import build_network, save_shared, transfer_shared
from mtmed.organ_masks import pack_masks
from mtmed.tasks import (
    Contour,
    DistanceMap,
    InPainting,
    Jigsaw,
    MomentumContrast,
    MultiTaskModel,
    Reconstruction,
    Rotation,
    Segmentation,
    StepContext,
    VICReg,
)

ORGANS, BATCH = 2, 2
CHANNELS = {"in_channels": 1, "out_channels": ORGANS}

NETWORKS = {
    "2D U-Net": ((32, 24), {"_target_": "mtmed.networks.SmallUNet", **CHANNELS, "base_channels": 4, "depth": 2}),
    "3D U-Net": ((32, 32, 32), {"_target_": "mtmed.networks.UNet", **CHANNELS, "features": [2, 2, 4, 4, 4, 2]}),
    "UNETR": (
        (32, 32, 32),
        {
            "_target_": "mtmed.networks.UNETR",
            **CHANNELS,
            "img_size": [32, 32, 32],
            "feature_size": 2,
            "hidden_size": 12,
            "mlp_dim": 12,
            "num_heads": 2,
        },
    ),
    "dense U-Net": ((30, 32, 20), {"_target_": "mtmed.networks.DenseUNet", **CHANNELS, "block_layers": [1, 1, 1, 1]}),
}

TASKS = {
    "autoencoding": lambda: Reconstruction(views=["auxiliary"], branch="coarsest"),
    "in_painting": InPainting,
    "jigsaw": lambda: Jigsaw(hidden=8),
    "momentum_contrast": lambda: MomentumContrast(query="auxiliary", key="partner", queue=4, features=4),
    "inner_distance": lambda: DistanceMap(organs=ORGANS),
    "outer_distance": lambda: DistanceMap(organs=ORGANS, side="outer"),
    "contour": lambda: Contour(organs=ORGANS),
    "vicreg": lambda: VICReg(features=4, hidden=4),
    "rotation": Rotation,
}
LOSS_NAMES = {name: name for name in TASKS} | {"autoencoding": "reconstruction"}
LABEL_DERIVED = {"inner_distance", "outer_distance", "contour"}

matrix = pytest.mark.parametrize(
    ("network_name", "task_name"), [(network, task) for network in NETWORKS for task in TASKS]
)


def make_network(name, seed=0):
    torch.manual_seed(seed)
    return build_network(NETWORKS[name][1])


def make_views(network_name, task_name, *, step):
    """Three views of their own; the auxiliary ones have labels only if the task is made of them."""
    size = NETWORKS[network_name][0]
    generator = torch.Generator().manual_seed(step)
    views = {}
    for name in ("patch", "auxiliary", "partner"):
        image = torch.rand(BATCH, 1, *size, generator=generator)
        image[:, :, 4:14, 6:16] += 1
        masks = torch.cat([image > 1, image > 1.5], dim=1)
        view = {"image": image, "clean": image, "volume": torch.arange(BATCH) + BATCH * step}
        if name == "patch" or task_name in LABEL_DERIVED:
            view["label"] = pack_masks(masks, axis=1)
        views[name] = view
    return views


def make_segmentation():
    return Segmentation(loss=DiceCELoss(sigmoid=True), overlapping=True)


def losses_of_a_step(model, network_name, task_name):
    """With their graph. Contrast has a step before, because it has no negatives in the first one."""
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1e-3)
    last = int("momentum_contrast" in model.tasks)
    for step in range(last + 1):
        context = StepContext(seed=0, step=step, positions=tuple(range(BATCH)), pictures=True)
        losses, outputs = model(make_views(network_name, task_name, step=step), context)
        assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
        assert all(output.isfinite().all() and not output.requires_grad for output in outputs.values())
        if step < last:
            sum(losses.values()).backward()
            optimizer.step()
            optimizer.zero_grad()
            model.after_step(step)
    return losses


def parts_reached(network, loss):
    """Whether a loss has a gradient other than 0 in the encoder, and in the rest of the network."""
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, [parameter for _, parameter in named], allow_unused=True, retain_graph=True)
    reached = {name for (name, _), one in zip(named, gradients, strict=True) if one is not None and one.any()}
    encoder = {name for name in reached if name.startswith(network.encoder_prefixes)}
    return bool(encoder), bool(reached - encoder)


def check_gradients(model, losses):
    """Distributed training waits for the gradient of every parameter that is not frozen."""
    sum(losses.values()).backward()
    gradients = [one.grad for one in model.parameters() if one.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@matrix
def test_joint_training(network_name, task_name):
    network, task = make_network(network_name), TASKS[task_name]()
    model = MultiTaskModel(network=network, tasks={"segmentation": make_segmentation(), task_name: task})
    losses = losses_of_a_step(model, network_name, task_name)
    auxiliary = LOSS_NAMES[task_name]
    assert set(losses) == {"segmentation", auxiliary}
    assert parts_reached(network, losses["segmentation"]) == (True, True)
    assert parts_reached(network, losses[auxiliary]) == (True, task.needs == "decoded")
    check_gradients(model, losses)


@matrix
def test_pre_training_and_then_segmentation(network_name, task_name, tmp_path):
    network, task = make_network(network_name), TASKS[task_name]()
    model = MultiTaskModel(network=network, tasks={task_name: task})
    losses = losses_of_a_step(model, network_name, task_name)
    assert parts_reached(network, losses[LOSS_NAMES[task_name]]) == (True, task.needs == "decoded")
    check_gradients(model, losses)
    save_shared(tmp_path / "shared.pt", network, {})

    fresh = make_network(network_name, seed=1)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    transferred = set(transfer_shared(fresh, tmp_path / "shared.pt").transferred)
    assert {name for name in before if name.startswith(network.encoder_prefixes)} <= transferred
    decoder = {name for name in transferred if not name.startswith(network.encoder_prefixes)}
    assert bool(decoder) == (task.needs == "decoded")
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, network.state_dict()[name] if name in transferred else before[name])

    model = MultiTaskModel(network=fresh, tasks={"segmentation": make_segmentation()})
    losses = losses_of_a_step(model, network_name, task_name)
    assert parts_reached(fresh, losses["segmentation"]) == (True, True)
    check_gradients(model, losses)
