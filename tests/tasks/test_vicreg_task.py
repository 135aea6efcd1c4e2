"""The VICReg task: its projector, two views on any network, and learning."""

import numpy as np
import pytest
import torch
from slice_batches import make_dense_unet, make_unet
from small_networks import make_unetr

from mtmed.errors import InputError
from mtmed.losses import VICRegLoss
from mtmed.tasks import MultiTaskModel, StepContext, VICReg

CONTEXT = StepContext(seed=0, step=0, positions=(0, 1, 2))


def make_model(network, **options):
    torch.manual_seed(1)
    task = VICReg(**{"features": 6, "hidden": 8, **options})
    return MultiTaskModel(network=network, tasks={"v": task}).train()


def make_views(size, count=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return {
        name: {"image": torch.rand(count, 1, *size, generator=generator, dtype=dtype)}
        for name in ("auxiliary", "partner")
    }


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (make_unet, (32, 32)),
        (make_dense_unet, (40, 40)),
        (lambda: make_unet(spatial_dims=3), (16, 32, 32)),
        (make_unetr, (32, 32, 16)),
    ],
)
def test_the_loss_is_that_of_normalised_projections_of_pooled_maps(make, size):
    network = make()
    model, views = make_model(network).double(), make_views(size, dtype=torch.float64)
    task = model.tasks["v"]
    losses, outputs = model(views, CONTEXT)
    embedded = []
    for view in views.values():
        with torch.no_grad():
            values = network.encode(view["image"])[-1].flatten(2).mean(2).numpy()
        for index in (0, 3):
            values = values @ task.projector[index].weight.detach().numpy().T
            values = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
            values = np.maximum(values, 0)
        embedded.append(torch.from_numpy(values @ task.projector[6].weight.detach().numpy().T))
    loss = VICRegLoss()
    torch.testing.assert_close(losses["vicreg"].detach(), loss(*embedded))
    for name, term in loss.terms(*embedded)._asdict().items():
        torch.testing.assert_close(outputs[f"vicreg/{name}"], term)
    losses["vicreg"].backward()
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert waiting == {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_training_makes_views_of_one_place_alike_and_places_differ():
    model = make_model(make_unet(), features=8, hidden=16)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    places = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    values = []
    for step in range(40):
        views = {
            name: {"image": places + 0.1 * torch.randn(places.shape, generator=generator)}
            for name in ("auxiliary", "partner")
        }
        losses, outputs = model(views, StepContext(seed=0, step=step, positions=tuple(range(8))))
        optimizer.zero_grad()
        losses["vicreg"].backward()
        optimizer.step()
        values.append(float(losses["vicreg"].detach()))
    assert np.mean(values[-5:]) < 0.7 * np.mean(values[:5])
    assert float(outputs["vicreg/variance"]) < 0.5


def test_wrong_options_a_missing_view_and_a_batch_of_one_are_refused():
    for options, message in (({"views": ("a",)}, "views"), ({"features": 0}, "features"), ({"hidden": 0}, "hidden")):
        with pytest.raises(InputError, match=message):
            VICReg(**options)
    views = make_views((32, 32), count=1)
    model = make_model(make_unet())
    with pytest.raises(InputError, match="batch_size: is 1, which has no variance"):
        model(views, StepContext(seed=0, step=0, positions=(0,)))
    with pytest.raises(InputError, match="a task reads 'partner'"):
        model({"auxiliary": views["auxiliary"]}, CONTEXT)
