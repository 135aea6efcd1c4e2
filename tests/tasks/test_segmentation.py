"""The segmentation task is a loss on the network's own logits."""

import torch
from monai.losses import DiceCELoss

from mtmed.tasks import MultiTaskModel, Segmentation


def test_loss_and_prediction_are_those_of_the_networks_logits(network, make_views, make_context):
    loss, views = DiceCELoss(to_onehot_y=True, softmax=True), make_views()
    model = MultiTaskModel(network=network, tasks={"s": Segmentation(loss=loss, view="view_a")})
    losses, outputs = model(views, make_context(pictures=True))
    logits = network(views["view_a"]["image"])
    torch.testing.assert_close(losses["segmentation"], loss(logits, views["view_a"]["label"].long()))
    assert torch.equal(outputs["prediction"], logits.argmax(1, keepdim=True))
    assert model(views, make_context())[1] == {}


def test_loss_is_computed_in_float32_under_autocast(network, make_views, make_context):
    seen = []

    def loss(logits, label):
        seen.append((logits.dtype, label.dtype))
        return logits.sum()

    model = MultiTaskModel(network=network, tasks={"s": Segmentation(loss=loss, view="view_a")})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(make_views(), make_context())
    assert seen == [(torch.float32, torch.int64)]
