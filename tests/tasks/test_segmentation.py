"""The segmentation task is a loss on the network's own logits."""

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss

from mtmed.errors import InputError
from mtmed.losses import GeneralisedDiceLoss, TruePositiveRateLoss
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


def test_two_tasks_read_their_own_channels_of_one_network(network, make_views, make_context):
    views = make_views()
    logits = network(views["view_a"]["image"])
    half = logits.shape[1] // 2
    views["view_a"]["tissue"] = (views["view_a"]["label"] > 0).long()
    dice = {"lesion_dice": GeneralisedDiceLoss(), "lesion_true_positive_rate": TruePositiveRateLoss()}
    tasks = {
        "lesion": Segmentation(loss=dice, view="view_a", channels=[0, half], labels=["tissue"], name="lesion"),
        "tissue": Segmentation(
            loss=GeneralisedDiceLoss(), view="view_a", channels=[half, 2 * half], labels=["tissue"], name="tissue"
        ),
    }
    losses, outputs = MultiTaskModel(network=network, tasks=tasks)(views, make_context(pictures=True))
    assert list(losses) == ["lesion_dice", "lesion_true_positive_rate", "tissue"]
    torch.testing.assert_close(
        losses["tissue"], GeneralisedDiceLoss()(logits[:, half : 2 * half], views["view_a"]["tissue"])
    )
    assert torch.equal(outputs["lesion_prediction/view_a"], logits[:, :half].argmax(1, keepdim=True))


def test_raters_are_averaged_to_shares(network, make_views, make_context):
    views = make_views()
    view = views["view_a"]
    classes = network(view["image"]).shape[1]
    view["label_2"] = (view["label"] + 1) % classes
    seen = []

    def loss(logits, target):
        seen.append(target)
        return logits.sum()

    task = Segmentation(loss=loss, view="view_a", labels=["label", "label_2"])
    MultiTaskModel(network=network, tasks={"s": task})(views, make_context())
    (target,) = seen
    assert target.shape[1] == classes
    torch.testing.assert_close(target.sum(1), torch.ones_like(target[:, 0]))
    assert (target.gather(1, view["label"].long()) == 0.5).all()
    assert (target.gather(1, view["label_2"].long()) == 0.5).all()


def test_overlapping_organs_reach_the_loss_as_masks_and_the_picture_is_packed(network, make_views, make_context):
    views = make_views()
    packed = torch.randint(0, 8, views["view_a"]["label"].shape, generator=torch.Generator().manual_seed(3))
    views["view_a"]["label"] = packed.to(torch.uint8)
    seen = []

    def loss(logits, masks):
        seen.append(masks)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, masks)

    tasks = {"s": Segmentation(loss={"bce": loss, "dice": DiceLoss(sigmoid=True)}, view="view_a", overlapping=True)}
    losses, outputs = MultiTaskModel(network=network, tasks=tasks)(views, make_context(pictures=True))
    (masks,) = seen
    assert masks.dtype == torch.float32
    expected = np.stack([(packed.numpy()[:, 0] // 2**k) % 2 for k in range(3)], axis=1)
    np.testing.assert_array_equal(masks.numpy(), expected)
    logits = network(views["view_a"]["image"]).detach().double().numpy()
    probability = 1 / (1 + np.exp(-logits))
    cross_entropy = -(expected * np.log(probability) + (1 - expected) * np.log(1 - probability)).mean()
    assert float(losses["bce"].detach()) == pytest.approx(cross_entropy, rel=1e-5)
    picture = outputs["prediction"]
    assert picture.shape == packed.shape
    np.testing.assert_array_equal(picture.numpy()[:, 0], sum((logits[:, k] > 0) * 2**k for k in range(3)))


def test_overlapping_masks_of_raters_are_averaged(network, make_views, make_context):
    views = make_views()
    view, seen = views["view_a"], []
    view["label"], view["label_2"] = torch.full_like(view["label"], 5), torch.full_like(view["label"], 6)

    def loss(logits, masks):
        seen.append(masks)
        return logits.sum()

    task = Segmentation(loss=loss, view="view_a", labels=["label", "label_2"], overlapping=True)
    MultiTaskModel(network=network, tasks={"s": task})(views, make_context())
    assert [channel.unique().tolist() for channel in seen[0].unbind(1)] == [[0.5], [0.5], [1.0]]


def test_a_task_without_loss_is_refused():
    with pytest.raises(InputError, match="no loss"):
        Segmentation(loss={})


def test_class_weights_of_a_loss_move_with_the_task():
    task = Segmentation(loss={"a": torch.nn.CrossEntropyLoss(weight=torch.ones(2)), "b": torch.nn.functional.mse_loss})
    assert task.to("meta").losses["a"].weight.device.type == "meta"
