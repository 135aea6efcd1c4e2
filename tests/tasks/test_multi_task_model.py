"""Each view is encoded once, what no loss reaches is frozen, and faults in the wiring are named."""

import copy
import itertools

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from mtmed.errors import InputError
from mtmed.losses import CrossCorrelationLoss, LabelContrastLoss
from mtmed.networks import SmallUNet
from mtmed.tasks import MixCLConsistency, MultiTaskModel, Reconstruction, Segmentation, Task, TaskOutput

LOSSES = ("identity", "label", "reconstruction")
SUBSETS = [subset for size in (1, 2, 3) for subset in itertools.combinations(LOSSES, size)]


def tasks_of(losses):
    tasks = {}
    if {"identity", "label"} & set(losses):
        tasks["consistency"] = MixCLConsistency(
            identity=CrossCorrelationLoss() if "identity" in losses else None,
            label=LabelContrastLoss() if "label" in losses else None,
            pixels_per_class=16,
        )
    if "reconstruction" in losses:
        tasks["reconstruction"] = Reconstruction(views=("view_a", "view_b", "auxiliary"))
    return tasks


class Probe(Task):
    """Sums what it is given, so that features can be compared."""

    def __init__(self, views, needs, name="probe"):
        super().__init__(views=views, needs=needs)
        self.name = name

    def forward(self, features, views, context):
        tensors = {}
        for view in self.views:
            tensors[view] = {
                "encoded": features[view].encoded,
                "decoded": features[view].decoded,
                "logits": features[view].logits,
            }
        self.seen = tensors
        return TaskOutput({self.name: sum(level.sum() for view in tensors.values() for level in view["encoded"])})


def counted(network, monkeypatch):
    """Number of samples that went through each part of the network."""
    counts = {"encode": [], "decode": [], "head": []}
    for name, sizes in counts.items():
        original = getattr(network, name)

        def spy(argument, original=original, sizes=sizes):
            sizes.append(len(argument[0] if isinstance(argument, list) else argument))
            return original(argument)

        monkeypatch.setattr(network, name, spy)
    return counts


def test_each_view_is_encoded_once_however_many_tasks_ask(network, make_views, make_context, monkeypatch):
    tasks = {
        **tasks_of(LOSSES),
        "segmentation": Segmentation(loss=DiceCELoss(to_onehot_y=True, softmax=True), view="view_a"),
        "probe": Probe(("view_a", "auxiliary"), "encoded"),
    }
    model = MultiTaskModel(network=network, tasks=tasks)
    counts = counted(network, monkeypatch)
    model(make_views(), make_context())
    assert sum(counts["encode"]) == 3 * 2
    assert sum(counts["decode"]) == 3 * 2
    assert sum(counts["head"]) == 1 * 2


def test_only_what_a_task_wants_decoded_is_decoded(network, make_views, make_context, monkeypatch):
    model = MultiTaskModel(network=network, tasks={**tasks_of(["identity"]), "r": Reconstruction(views=["view_b"])})
    counts = counted(network, monkeypatch)
    model(make_views(), make_context())
    assert (sum(counts["encode"]), sum(counts["decode"]), sum(counts["head"])) == (4, 2, 0)


def test_shared_pass_equals_separate_passes(network, make_views, make_context):
    views = make_views()
    tasks = {
        "a": Probe(("view_a",), "encoded", "a"),
        "b": Probe(("view_b",), "logits", "b"),
        "c": Probe(("auxiliary",), "decoded", "c"),
    }
    model = MultiTaskModel(network=network, tasks=tasks)
    model(views, make_context())
    for task, view in (("a", "view_a"), ("b", "view_b"), ("c", "auxiliary")):
        seen = tasks[task].seen[view]
        alone = network.encode(views[view]["image"])
        for level, expected in zip(seen["encoded"], alone, strict=True):
            torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5)
        if task == "a":
            assert seen["decoded"] is None
        else:
            torch.testing.assert_close(seen["decoded"], network.decode(alone), rtol=1e-4, atol=1e-5)
        if task == "b":
            torch.testing.assert_close(seen["logits"], network(views[view]["image"]), rtol=1e-4, atol=1e-5)
        else:
            assert seen["logits"] is None


class BatchNormNetwork(nn.Module):
    """Two maps, with statistics of the batch."""

    in_channels, image_size, level_channels, decoder_channels = 1, (32, 32, 16), [2, 2], 2

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
        self.second = nn.Conv3d(2, 2, 2, stride=2)

    def encode(self, image):
        fine = self.first(image)
        return [fine, self.second(fine)]


def test_views_do_not_share_a_pass_that_uses_statistics_of_the_batch(make_views, make_context):
    torch.manual_seed(0)
    network, views = BatchNormNetwork(), make_views()
    probe = Probe(("view_a", "auxiliary"), "encoded")
    views["auxiliary"]["image"] = views["auxiliary"]["image"] * 5 + 3
    MultiTaskModel(network=network, tasks={"probe": probe})(views, make_context())
    for view in probe.views:
        torch.testing.assert_close(probe.seen[view]["encoded"][1], network.encode(views[view]["image"])[1])


def test_views_of_other_sizes_go_through_the_network_apart(make_context):
    network = BatchNormNetwork()
    network.first = nn.Conv3d(1, 2, 1)
    views = {"large": {"image": torch.rand(2, 1, 8, 8, 8)}, "small": {"image": torch.rand(1, 1, 4, 4, 4)}}
    probe = Probe(("large", "small"), "encoded")
    MultiTaskModel(network=network, tasks={"probe": probe})(views, make_context())
    assert probe.seen["small"]["encoded"][1].shape == (1, 2, 2, 2, 2)


@pytest.mark.parametrize("losses", SUBSETS, ids="+".join)
def test_exactly_the_parameters_that_are_left_to_train_get_a_gradient(losses, network, make_views, make_context):
    model = MultiTaskModel(network=network, tasks=tasks_of(losses))
    named, _ = model(make_views(), make_context())
    assert set(named) == set(losses)
    sum(named.values()).backward()
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert waiting == reached
    decoder = any(name.startswith("network.decoder") for name in waiting)
    assert decoder == ("reconstruction" in losses)
    assert not any(name.startswith("network.out.") for name in waiting)
    # the label loss reads one level, so the encoders of the others are left alone with it
    assert any(name.startswith("network.encoder4.") for name in waiting) == (losses != ("label",))
    assert any(name.startswith("network.encoder2.") for name in waiting)


def test_segmentation_reaches_the_whole_network(network, make_views, make_context):
    model = MultiTaskModel(network=network, tasks={"s": Segmentation(loss=DiceCELoss(softmax=True), view="view_a")})
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen
    assert all("norm_cross_attn" in name for name in frozen)


def test_looking_for_what_is_reached_leaves_the_network_and_the_random_state_alone(network):
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    MultiTaskModel(network=network, tasks={"r": Reconstruction(views=["view_a"])})
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    torch.manual_seed(1)
    torch.set_rng_state(state)
    MultiTaskModel(network=network, tasks={"probe": Probe(("view_a",), "logits")})
    assert torch.equal(torch.get_rng_state(), state)


def test_missing_view_is_named(network, make_views, make_context):
    views = make_views()
    del views["auxiliary"]
    with pytest.raises(InputError, match="auxiliary"):
        MultiTaskModel(network=network, tasks=tasks_of(LOSSES))(views, make_context())


def test_two_tasks_that_name_a_loss_alike_are_refused(network, make_views, make_context):
    tasks = {"one": Reconstruction(views=["view_a"]), "two": Reconstruction(views=["view_b"])}
    with pytest.raises(InputError, match=r"two.*reconstruction"):
        MultiTaskModel(network=network, tasks=tasks)(make_views(), make_context())


def test_no_task_is_refused(network):
    with pytest.raises(InputError, match="there is none"):
        MultiTaskModel(network=network, tasks={})


def test_every_task_hears_of_the_step(network):
    class Counter(Probe):
        heard: list[int] = []  # noqa: RUF012

        def after_step(self, step):
            self.heard.append(step)

    MultiTaskModel(network=network, tasks={"counter": Counter(("view_a",), "encoded")}).after_step(7)
    assert Counter.heard == [7]


class Negative(Probe):
    """Shows the network the negative of its source."""

    def __init__(self, source, name):
        super().__init__((f"{source}/negative",), "encoded", name)
        self.sources = (source,)

    def derived_views(self, views, context):
        (source,), (name,) = self.sources, self.views
        return {name: {**views[source], "image": -views[source]["image"]}}


def test_a_view_that_a_task_makes_is_encoded_like_any_other(network, make_views, make_context):
    views, task = make_views(), Negative("view_a", "negative")
    MultiTaskModel(network=network, tasks={"probe": task})(views, make_context())
    expected = network.encode(-views["view_a"]["image"])
    for level, own in zip(task.seen["view_a/negative"]["encoded"], expected, strict=True):
        torch.testing.assert_close(level, own, rtol=1e-4, atol=1e-5)
    assert set(views) == set(make_views())


def test_a_view_that_two_tasks_make_is_refused(network, make_views, make_context):
    tasks = {name: Negative("view_a", name) for name in ("one", "other")}
    with pytest.raises(InputError, match="'view_a/negative' again"):
        MultiTaskModel(network=network, tasks=tasks)(make_views(), make_context())


@pytest.mark.parametrize("segmented", [True, False])
def test_beside_what_is_segmented_other_views_leave_the_running_moments_alone(segmented, make_context):
    torch.manual_seed(0)
    network = SmallUNet(in_channels=1, out_channels=1, base_channels=4, depth=2)
    views = {"patch": {"image": torch.rand(4, 1, 16, 16)}, "auxiliary": {"image": 5 + torch.rand(4, 1, 16, 16)}}
    tasks = {"other": Probe(("auxiliary",), "encoded", "other")}
    if segmented:
        tasks["main"] = Probe(("patch",), "logits", "main")
    model, expected = MultiTaskModel(network=copy.deepcopy(network), tasks=tasks), network
    seen = "patch" if segmented else "auxiliary"
    encoded = expected.encode(views[seen]["image"])
    if segmented:
        expected.head(expected.decode(encoded))
    model(views, make_context())
    assert dict(network.named_buffers())
    for name, value in model.network.named_buffers():
        torch.testing.assert_close(value, dict(expected.named_buffers())[name])
    assert all(one.track_running_stats for one in model.network.modules() if isinstance(one, nn.BatchNorm2d))
