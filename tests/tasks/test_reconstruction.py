"""Squared errors against NumPy."""

import numpy as np
import pytest
import torch

from mtmed.tasks import MultiTaskModel, Reconstruction

VIEWS = ("view_a", "view_b", "auxiliary")


@pytest.mark.parametrize("error", ["mean", "sum"])
def test_loss_is_the_error_to_the_undistorted_patches(error, network, make_views, make_context):
    task, views = Reconstruction(views=VIEWS, error=error), make_views()
    losses, outputs = MultiTaskModel(network=network, tasks={"r": task})(views, make_context(pictures=True))
    per_view = []
    for view in VIEWS:
        restored = task.head(network.decode(network.encode(views[view]["image"]))).detach().double().numpy()
        squared = (restored - views[view]["clean"].double().numpy()) ** 2
        per_view.append(squared.mean() if error == "mean" else squared.sum(axis=(1, 2, 3, 4)).mean())
        np.testing.assert_allclose(outputs[f"reconstruction/{view}"].numpy(), restored, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(losses["reconstruction"].item(), np.mean(per_view), rtol=1e-5)


def test_pictures_only_when_they_are_due(network, make_views, make_context):
    model = MultiTaskModel(network=network, tasks={"r": Reconstruction(views=VIEWS)})
    assert model(make_views(), make_context())[1] == {}
    outputs = model(make_views(), make_context(pictures=True))[1]
    assert {name: value.requires_grad for name, value in outputs.items()} == {
        f"reconstruction/{view}": False for view in VIEWS
    }


def test_perfect_reconstruction_costs_nothing(network, make_views, make_context):
    task, views = Reconstruction(views=["view_a"]), make_views()
    model = MultiTaskModel(network=network, tasks={"r": task})
    restored = model(views, make_context(pictures=True))[1]["reconstruction/view_a"]
    views["view_a"]["clean"] = restored
    assert model(views, make_context())[0]["reconstruction"].item() == 0


def test_unknown_error_is_refused():
    with pytest.raises(ValueError, match="absolute"):
        Reconstruction(views=["view_a"], error="absolute")  # type: ignore[arg-type]


def test_loss_is_computed_in_float32_under_autocast(network, make_views, make_context):
    model = MultiTaskModel(network=network, tasks={"r": Reconstruction(views=VIEWS)})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(make_views(), make_context())[0]["reconstruction"]
    assert loss.dtype == torch.float32
