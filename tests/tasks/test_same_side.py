"""The same-side task: embeddings, accuracy, what it trains, and processes."""

import os

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.networks import UNet
from mtmed.tasks import MultiTaskModel, SameSide, SideEmbedding, StepContext, ViewFeatures

SIZE = (32, 16, 16)


def make_network():
    torch.manual_seed(0)
    return UNet(in_channels=1, out_channels=2, features=(2, 4, 4, 8, 12, 2), norm=("group", {"num_groups": 2}))


def make_pairs(batch=4, size=SIZE, seed=0, dtype=torch.float32):
    """Views ``first`` and ``second`` of pairs of either kind."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([[1, 2, 1, 2], [1, 2, 2, 1]])[:, :batch]
    return {
        name: {"image": torch.randn(batch, 1, *size, generator=generator, dtype=dtype), "value": value}
        for name, value in zip(("first", "second"), values, strict=True)
    }


CONTEXT = StepContext(seed=0, step=0, positions=(0, 1, 2, 3))


def call(task, first, second, values):
    """The task on hand-made coarsest feature maps."""
    features = {"first": ViewFeatures([first]), "second": ViewFeatures([second])}
    views = {
        name: {"image": torch.zeros(len(first), 1, 2, 2, 2), "value": torch.tensor(value)}
        for name, value in zip(("first", "second"), values, strict=True)
    }
    return task(features, views, CONTEXT)


@pytest.mark.parametrize("embedding", ["pooled", "flatten"])
def test_the_encoder_is_trained_and_nothing_of_the_decoder(embedding):
    network = make_network()
    task = SameSide(embedding=embedding, features=16, margin=100.0)
    model = MultiTaskModel(network=network, tasks={"same_side": task})
    losses, _ = model(make_pairs(), CONTEXT)
    assert set(losses) == {"same_side"}
    losses["same_side"].backward()
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert waiting == reached
    encoder = {f"network.{name}" for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}
    heads = {"tasks.same_side.projection.weight", "tasks.same_side.projection.bias"} if embedding == "pooled" else set()
    assert waiting == encoder | heads
    assert all(model.get_parameter(name).grad.abs().sum() > 0 for name in encoder if "conv.weight" in name)


def test_accuracy_and_distances_of_hand_made_embeddings():
    first = torch.zeros(5, 2, 1, 1, 1)
    second = torch.zeros(5, 2, 1, 1, 1)
    second[:, 0, 0, 0, 0] = torch.tensor([0.5, 0.75, 2.0, 0.7, 0.1])
    # same and near, same and on the threshold, opposite and far, opposite and near, same and near
    result = call(SameSide(embedding="flatten"), first, second, ([1, 2, 1, 2, 2], [1, 2, 2, 1, 2]))
    assert float(result.outputs["same_side/accuracy"]) == pytest.approx(3 / 5)
    assert float(result.outputs["same_side/distance_same"]) == pytest.approx((0.5 + 0.75 + 0.1) / 3)
    assert float(result.outputs["same_side/distance_opposite"]) == pytest.approx((2.0 + 0.7) / 2)
    assert float(result.losses["same_side"]) == pytest.approx((0.25 + 0.5625 + 0.01 + 0.09) / 5)


def test_distances_of_a_kind_without_pairs_are_left_out_and_no_output_has_a_gradient():
    task = SameSide(features=4)
    task.setup(make_network())
    first, second = (torch.randn(2, 12, 2, 1, 1, requires_grad=True) for _ in range(2))
    for values, kind in ((([1, 2], [1, 2]), "same"), (([1, 2], [2, 1]), "opposite")):
        result = call(task, first, second, values)
        assert set(result.outputs) == {"same_side/accuracy", f"same_side/distance_{kind}"}
        assert all(value.dim() == 0 and not value.requires_grad for value in result.outputs.values())
        assert result.losses["same_side"].requires_grad


def test_pooled_embeddings_have_norm_one_and_forget_where_a_feature_was():
    task = SameSide(features=16)
    task.setup(make_network())
    feature_map = torch.randn(3, 12, 4, 2, 2)
    embedded = task.embed([feature_map])
    assert embedded.shape == (3, 16)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(task.embed([feature_map.flip(2, 3)]), embedded)
    expected = task.projection(feature_map.mean((2, 3, 4)))
    torch.testing.assert_close(embedded, expected / expected.norm(dim=1, keepdim=True))


def test_flattened_embeddings_give_the_loss_of_the_authors_formula():
    network, views = make_network(), make_pairs(dtype=torch.float64)
    model = MultiTaskModel(network=network, tasks={"t": SameSide(embedding="flatten", margin=9.0)}).double()
    losses, outputs = model(views, CONTEXT)
    with torch.no_grad():
        a, b = (network.encode(views[name]["image"])[-1].numpy() for name in ("first", "second"))
    assert a.shape == (4, 12, 2, 1, 1)
    distance = np.array([np.linalg.norm((x - y).ravel()) for x, y in zip(a, b, strict=True)])
    same = np.array([1, 1, 0, 0])
    expected = (same * distance**2 + (1 - same) * np.maximum(9.0 - distance, 0) ** 2).mean()
    assert float(losses["same_side"].detach()) == pytest.approx(expected, rel=1e-12)
    assert float(outputs["same_side/distance_opposite"]) == pytest.approx(distance[2:].mean(), rel=1e-12)


def test_flattened_embeddings_of_two_sizes_are_refused_and_pooled_ones_are_not():
    views = make_pairs(size=(32, 32, 16))
    views["second"] = make_pairs()["second"]
    with pytest.raises(InputError, match=r"'flatten'.*\[32, 32, 16\] and \[32, 16, 16\] voxels; cut both to one size"):
        MultiTaskModel(network=make_network(), tasks={"t": SameSide(embedding="flatten")})(views, CONTEXT)
    losses, _ = MultiTaskModel(network=make_network(), tasks={"t": SameSide()})(views, CONTEXT)
    assert torch.isfinite(losses["same_side"])


def test_an_embedding_module_gives_what_the_task_compares():
    network, task = make_network(), SameSide(features=8)
    embed = SideEmbedding(network=network, task=task)
    MultiTaskModel(network=network, tasks={"t": task})
    image = torch.randn(2, 1, *SIZE)
    found = embed.eval()(image)
    torch.testing.assert_close(found, task.embed(network.encode(image)))
    assert found.shape == (2, 8)


def test_half_precision_keeps_the_embedding_in_single():
    network, task = make_network(), SameSide(features=8)
    model = MultiTaskModel(network=network, tasks={"t": task})
    with torch.autocast("cpu", torch.bfloat16):
        losses, outputs = model(make_pairs(), CONTEXT)
        embedded = SideEmbedding(network, task)(make_pairs()["first"]["image"])
    assert losses["same_side"].dtype == embedded.dtype == torch.float32
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(4))
    assert 0 <= float(outputs["same_side/accuracy"]) <= 1


def test_training_tells_two_kinds_of_shape_apart():
    model = MultiTaskModel(network=make_network(), tasks={"t": SameSide(features=16)})
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    accuracies = []
    for step in range(40):
        views = make_pairs(seed=step)
        for view in views.values():
            for image, value in zip(view["image"], view["value"], strict=True):
                image *= 0.3
                image[:, :, : 4 if value == 1 else 12] += 1.0
        losses, outputs = model(views, CONTEXT)
        accuracies.append(float(outputs["same_side/accuracy"]))
        optimizer.zero_grad()
        losses["same_side"].backward()
        optimizer.step()
    assert accuracies[0] < 1
    assert accuracies[-5:] == [1.0] * 5


def one_step(rows):
    """Loss, outputs and gradients of some pairs of the joint batch."""
    torch.manual_seed(0)
    model = MultiTaskModel(network=make_network(), tasks={"same_side": SameSide(features=8)}).double()
    wrapped = DistributedDataParallel(model) if dist.is_initialized() else model
    views = {name: {k: v[rows] for k, v in view.items()} for name, view in make_pairs(dtype=torch.float64).items()}
    losses, outputs = wrapped(views, CONTEXT)
    losses["same_side"].backward()
    mean = all_reduce_sum(losses["same_side"].detach()) / (dist.get_world_size() if dist.is_initialized() else 1)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": mean, "outputs": outputs, "gradients": gradients}


def _process(rank, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    # one process has the pairs of the same side, the other those of opposite sides
    torch.save(one_step(slice(2 * rank, 2 * rank + 2)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_what_one_gives_on_the_joint_batch(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    joint = one_step(slice(None))
    assert set(joint["outputs"]) == {"same_side/accuracy", "same_side/distance_same", "same_side/distance_opposite"}
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), joint)


def test_wrong_arguments_are_refused():
    wrong = [
        ({"views": ("first",)}, "has 1 names"),
        ({"embedding": "mean"}, "'mean'"),
        ({"features": 0}, "features"),
        ({"margin": -1.0}, "margin"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            SameSide(**options)
