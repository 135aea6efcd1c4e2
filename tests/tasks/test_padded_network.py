"""Tasks on a network that pads images: they get maps of the image's size, trained or frozen as ever."""

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from mtmed.networks import DenseUNet, UNet
from mtmed.tasks import MultiTaskModel, Reconstruction, Segmentation, Task, TaskOutput

SIZE = (20, 17, 32)


class Kept(Task):
    """Keeps what it is given."""

    def forward(self, features, views, context):
        self.seen = features
        return TaskOutput({"kept": sum(one.encoded[-1].sum() for one in features.values())})


def dense(**options):
    torch.manual_seed(0)
    return DenseUNet(**{"in_channels": 1, "out_channels": 2, "block_layers": (1, 1, 2, 1), **options})


def views_of(*sizes, batch=1):
    generator = torch.Generator().manual_seed(0)
    views = {}
    for index, size in enumerate(sizes):
        image = torch.rand(batch, 1, *size, generator=generator)
        views[f"view_{index}"] = {"image": image, "clean": image + 0.1, "label": (image > 0.5).byte()}
    return views


@pytest.mark.parametrize("sizes", [(SIZE, SIZE), (SIZE, (16, 31, 8)), ((30, 21), (30, 21))])
def test_decoded_maps_and_logits_have_the_size_of_their_view(sizes, make_context):
    network = dense(spatial_dims=len(sizes[0]))
    task, views = Kept(views=("view_0", "view_1"), needs="logits"), views_of(*sizes)
    MultiTaskModel(network=network, tasks={"kept": task})(views, make_context())
    for name, view in views.items():
        size = view["image"].shape[2:]
        assert task.seen[name].decoded.shape == (1, network.decoder_channels, *size)
        torch.testing.assert_close(task.seen[name].logits, network(view["image"]), rtol=1e-4, atol=1e-5)


def tasks_of(*names):
    every = {
        "proxy": lambda: Kept(views=("view_0",), needs="encoded", levels=(-1,)),
        "segmentation": lambda: Segmentation(loss=DiceCELoss(to_onehot_y=True, softmax=True), view="view_0"),
        "decoded": lambda: Reconstruction(views=["view_0"]),
        "coarsest": lambda: Reconstruction(views=["view_0"], branch="coarsest"),
    }
    return {name: every[name]() for name in names}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("paper_order", [False, True])
@pytest.mark.parametrize("names", [("proxy",), ("segmentation",), ("segmentation", "coarsest"), ("decoded",)])
def test_exactly_the_parameters_that_are_left_to_train_get_a_gradient(names, paper_order, recompute, make_context):
    network = dense(paper_order=paper_order, recompute=recompute)
    model = MultiTaskModel(network=network, tasks=tasks_of(*names))
    losses, _ = model(views_of(SIZE), make_context(positions=(0,)))
    sum(losses.values()).backward()
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert waiting == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    if names == ("proxy",):
        assert frozen == [
            name for name, _ in network.named_parameters() if not name.startswith(DenseUNet.encoder_prefixes)
        ]
    else:
        assert frozen == (["final_conv.weight", "final_conv.bias"] if names == ("decoded",) else [])


@pytest.mark.parametrize("error", ["mean", "sum"])
@pytest.mark.parametrize("size", [SIZE, (20, 17)])
def test_the_coarsest_branch_is_compared_with_the_clean_image_of_the_views_size(size, error, make_context):
    network, views = dense(spatial_dims=len(size)), views_of(size, size, batch=2)
    task = Reconstruction(views=["view_0", "view_1"], error=error, branch="coarsest")
    model = MultiTaskModel(network=network, tasks={"r": task})
    losses, outputs = model(views, make_context(pictures=True))
    per_view = []
    for name, view in views.items():
        whole = task.head(network.encode(view["image"])[-1])
        assert whole.shape[2:] == tuple(16 * -(-side // 16) for side in size)
        inside = (slice(-side % 16 // 2, -side % 16 // 2 + side) for side in size)
        restored = whole[(..., *inside)].detach().double().numpy()
        squared = (restored - view["clean"].double().numpy()) ** 2
        per_view.append(squared.mean() if error == "mean" else squared.reshape(2, -1).sum(1).mean())
        np.testing.assert_allclose(outputs[f"reconstruction/{name}"].numpy(), restored, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(losses["reconstruction"].item(), np.mean(per_view), rtol=1e-5)


def test_the_coarsest_branch_leaves_the_decoder_of_the_network_alone(network, make_views, make_context):
    """On a network that pads nothing."""
    views = make_views()
    model = MultiTaskModel(network=network, tasks={"r": Reconstruction(views=["view_a"], branch="coarsest")})
    losses, _ = model(views, make_context())
    losses["reconstruction"].backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached
    assert all(name.startswith("vit.") for name in reached)


def test_both_branches_work_on_networks_of_any_size(make_context):
    network = UNet(in_channels=1, out_channels=2, features=(4, 4, 8, 8, 16, 4), spatial_dims=2)
    for branch in ("decoded", "coarsest"):
        model = MultiTaskModel(network=network, tasks={"r": Reconstruction(views=["view_0"], branch=branch)})
        assert model(views_of((32, 48)), make_context(positions=(0,)))[0]["reconstruction"].isfinite()


def test_an_unknown_branch_is_refused():
    with pytest.raises(ValueError, match="finest"):
        Reconstruction(views=["view_0"], branch="finest")  # type: ignore[arg-type]
