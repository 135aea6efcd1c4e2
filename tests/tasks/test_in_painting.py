"""In-painting: where the block is, what the network sees of it, and the error inside it against NumPy."""

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks import SmallUNet, UNet
from mtmed.tasks import InPainting, MultiTaskModel, StepContext

NAME = "auxiliary/in_painting"
SIZES = [(32, 24), (16, 20, 32)]


def make_network(spatial_dims, channels=1):
    torch.manual_seed(0)
    if spatial_dims == 2:
        return SmallUNet(in_channels=channels, out_channels=2, base_channels=4, depth=2)
    return UNet(in_channels=channels, out_channels=2, features=(2, 2, 4, 4, 4, 2))


def make_views(size, *, batch=3, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(batch, channels, *size, generator=generator)
    image = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    return {"auxiliary": {"image": image, "clean": clean, "volume": torch.arange(batch)}}


def make_context(**options):
    return StepContext(**{"seed": 0, "step": 5, "positions": (0, 1, 2), **options})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [0.25, 0.5])
def test_the_view_shows_the_image_with_one_block_of_its_mean(size, side):
    views = make_views(size, channels=2)
    view = InPainting(side=side).derived_views(views, make_context())[NAME]
    images = (views["auxiliary"]["image"], view["image"], view["hole"])
    for image, shown, hole in zip(*(part.numpy() for part in images), strict=True):
        places = np.argwhere(hole[0])
        sides = places.max(0) - places.min(0) + 1
        np.testing.assert_array_equal(sides, [round(side * whole) for whole in size])
        assert len(places) == sides.prod()
        for channel in range(2):
            np.testing.assert_array_equal(shown[channel][~hole[0]], image[channel][~hole[0]])
            np.testing.assert_allclose(shown[channel][hole[0]], image[channel].astype(np.float64).mean(), rtol=1e-5)
    assert view["volume"] is views["auxiliary"]["volume"]


@pytest.mark.parametrize("size", SIZES)
def test_loss_is_the_squared_error_to_the_clean_image_inside_the_block(size):
    task, views, context = InPainting(), make_views(size, channels=2), make_context(pictures=True)
    network = make_network(len(size), channels=2).eval()
    losses, outputs = MultiTaskModel(network=network, tasks={"in_painting": task})(views, context)
    view = task.derived_views(views, context)[NAME]
    painted = task.head(network.decode(network.encode(view["image"]))).detach().double().numpy()
    clean, hole = view["clean"].double().numpy(), view["hole"].expand_as(view["clean"]).numpy()
    np.testing.assert_allclose(losses["in_painting"].item(), ((painted - clean)[hole] ** 2).mean(), rtol=1e-4)
    picture = outputs["in_painting/auxiliary"].numpy()
    np.testing.assert_array_equal(picture[~hole], views["auxiliary"]["clean"].numpy()[~hole])
    np.testing.assert_allclose(picture[hole], painted[hole], rtol=1e-3, atol=1e-4)


def test_the_batch_is_left_as_it_was():
    views = make_views((16, 16))
    before = views["auxiliary"]["image"].clone()
    InPainting().derived_views(views, make_context())
    assert set(views) == {"auxiliary"}
    torch.testing.assert_close(views["auxiliary"]["image"], before, rtol=0, atol=0)


def test_blocks_are_a_function_of_seed_step_and_position():
    def holes(task=None, **options):
        return (task or InPainting()).derived_views(make_views((64, 64)), make_context(**options))[NAME]["hole"]

    first = holes()
    assert torch.equal(first, holes())
    assert torch.equal(first[[2, 0, 1]], holes(positions=(2, 0, 1)))
    others = [holes(seed=1), holes(step=6), holes(positions=(3, 4, 5))]
    assert not any(torch.equal(first, other) for other in others)
    assert not torch.equal(first[0], first[1])


def test_blocks_reach_every_edge_of_the_image():
    task, seen = InPainting(), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    for step in range(200):
        views = make_views((8, 8), batch=1)
        seen |= task.derived_views(views, make_context(step=step, positions=(0,)))[NAME]["hole"]
    assert seen.all()


@pytest.mark.parametrize("size", SIZES)
def test_the_encoder_and_the_decoder_learn_from_it_and_the_head_of_the_network_does_not(size):
    network = make_network(len(size))
    model = MultiTaskModel(network=network, tasks={"in_painting": InPainting()})
    losses, _ = model(make_views(size), make_context())
    losses["in_painting"].backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in network.named_parameters() if name.startswith("final_conv.")}
    assert model.tasks["in_painting"].head.weight.grad.abs().sum() > 0


def test_a_voxel_inside_the_block_does_not_help_to_paint_it():
    task, views = InPainting(), make_views((32, 32), batch=1)
    context = make_context(positions=(0,))
    model = MultiTaskModel(network=make_network(2).eval(), tasks={"in_painting": task})
    hole = task.derived_views(views, context)[NAME]["hole"]
    loss = model(views, context)[0]["in_painting"]
    swapped = dict(views["auxiliary"])
    # the mean of the image stays, what is inside the block is another order of it
    swapped["image"] = swapped["image"].clone()
    swapped["image"][hole] = swapped["image"][hole].flip(0)
    torch.testing.assert_close(model({"auxiliary": swapped}, context)[0]["in_painting"], loss)


def test_loss_is_computed_in_float32_under_autocast():
    model = MultiTaskModel(network=make_network(2), tasks={"in_painting": InPainting()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(make_views((32, 32)), make_context())[0]["in_painting"]
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize("side", [0, -0.5, 1, 2, float("nan")])
def test_a_block_of_no_size_or_of_the_whole_image_is_refused(side):
    with pytest.raises(InputError, match="side: is"):
        InPainting(side=side)


def test_a_block_that_fills_the_image_after_rounding_is_refused():
    with pytest.raises(InputError, match=r"in_painting: the block fills the image of 1 x 1; use larger images"):
        InPainting().derived_views(make_views((1, 1)), make_context())


def test_a_missing_source_is_named():
    model = MultiTaskModel(network=make_network(2), tasks={"in_painting": InPainting(source="other")})
    with pytest.raises(InputError, match="a task reads 'other'"):
        model(make_views((16, 16)), make_context())
