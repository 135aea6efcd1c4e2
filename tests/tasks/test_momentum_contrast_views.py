"""Momentum contrast of two views of one place: every network, X-rays, boxes in 3D, both directions."""

import pytest
import torch
from slice_batches import make_dense_unet, make_unet
from small_networks import make_small_unet, make_unetr
from torch.nn.functional import cross_entropy, normalize

from mtmed.errors import InputError
from mtmed.tasks import MomentumContrast, MultiTaskModel, StepContext


def make_model(network, **options):
    torch.manual_seed(1)
    task = MomentumContrast(query="auxiliary", key="partner", features=6, **{"queue": 12, "momentum": 0.8, **options})
    return MultiTaskModel(network=network, tasks={"m": task}).train()


def make_views(step, size, volumes=(0, 1, 2), slices=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(step)
    shared = {"volume": torch.tensor(volumes)}
    if slices is not None:
        shared["slice"] = torch.tensor(slices)
    return {
        name: {"image": torch.rand(len(volumes), 1, *size, generator=generator, dtype=dtype), **shared}
        for name in ("auxiliary", "partner")
    }


def make_context(step, size=3):
    return StepContext(seed=0, step=step, positions=tuple(range(size)))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("make", "size"),
    [
        (make_small_unet, (16, 16)),
        (make_dense_unet, (32, 32)),
        (lambda: make_unet(spatial_dims=3), (16, 16, 32)),
        (make_unetr, (32, 32, 16)),
    ],
)
def test_two_views_train_any_network(make, size, symmetric):
    network = make()
    model = make_model(network, symmetric=symmetric)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step in range(2):
        views = make_views(step, size, volumes=(3 * step, 3 * step + 1, 3 * step + 2))
        losses, outputs = model(views, make_context(step))
        optimizer.zero_grad()
        losses["momentum_contrast"].backward()
        optimizer.step()
        model.after_step(step)
    assert float(losses["momentum_contrast"].detach()) > 0
    assert float(outputs["momentum_contrast/negatives"]) == (6 if symmetric else 3)
    assert int((model.tasks["m"].volumes >= 0).sum()) == (12 if symmetric else 6)
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert waiting == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any(
        bool((p.grad != 0).any()) for n, p in network.named_parameters() if n.startswith(network.encoder_prefixes)
    )


def test_symmetric_is_the_mean_of_both_directions_over_one_queue():
    model = make_model(make_unet(), symmetric=True).double()
    task = model.tasks["m"]
    first = make_views(0, (32, 32), dtype=torch.float64)
    model(first, make_context(0))
    model.after_step(0)
    views = make_views(1, (32, 32), volumes=(0, 3, 4), dtype=torch.float64)

    def embedded(network, projector, view):
        with torch.no_grad():
            return normalize(projector(network.encode(view["image"])), dim=1)

    queue = torch.cat([embedded(model.network, task.projector, first[name]) for name in ("partner", "auxiliary")])
    torch.testing.assert_close(task.keys[:6], queue)
    terms = []
    for query, key in (("auxiliary", "partner"), ("partner", "auxiliary")):
        queries = embedded(model.network, task.projector, views[query])
        positives = (queries * embedded(model.network, task.projector, views[key])).sum(1, keepdim=True)
        others = queries @ queue.T
        # the keys of volume 0 are at places 0 and 3
        others[0, [0, 3]] = -torch.inf
        terms.append(cross_entropy(torch.cat([positives, others], 1) / 0.2, torch.zeros(3, dtype=torch.int64)))
    losses, outputs = model(views, make_context(1))
    torch.testing.assert_close(losses["momentum_contrast"].detach(), torch.stack(terms).mean())
    assert float(outputs["momentum_contrast/negatives"]) == pytest.approx(16 / 3)


@pytest.mark.parametrize("slices", [None, (0, 0, 0)])
def test_an_x_ray_or_a_box_has_all_other_volumes_as_negatives_and_its_own_never(slices):
    """An X-ray is a scan of one slice, number 0; a box of a volume has no slice."""
    size = (32, 32) if slices else (16, 16, 32)
    model = make_model(make_unet(spatial_dims=len(size)))
    for step in range(2):
        losses, outputs = model(make_views(step, size, slices=slices), make_context(step))
        model.after_step(step)
    assert float(outputs["momentum_contrast/negatives"]) == 2
    assert float(losses["momentum_contrast"].detach()) > 0


def test_slices_far_apart_in_one_scan_are_negatives_of_each_other():
    model = make_model(make_unet())
    for step in range(2):
        slices = (0, 1, 8)
        _, outputs = model(make_views(step, (32, 32), volumes=(5, 5, 5), slices=slices), make_context(step))
        model.after_step(step)
    # 0 and 1 have the key of 8; 8 has those of 0 and 1
    assert float(outputs["momentum_contrast/negatives"]) == pytest.approx(4 / 3)


def test_a_single_look_cannot_be_symmetric():
    with pytest.raises(InputError, match="symmetric: is true, and there is one view only"):
        MomentumContrast(symmetric=True)
