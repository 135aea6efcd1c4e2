"""Momentum contrast: steps against a plain loop, who is a negative, what follows what, and resuming."""

import copy

import numpy as np
import pytest
import torch
from slice_batches import make_dense_unet, make_slices, make_unet

from mtmed.errors import InputError
from mtmed.networks import SmallUNet
from mtmed.tasks import MomentumContrast, MultiTaskModel, StepContext


def make_model(network=None, **options):
    torch.manual_seed(1)
    task = MomentumContrast(**{"features": 6, "queue": 20, "momentum": 0.8, **options})
    return MultiTaskModel(network=network or make_unet(), tasks={"m": task}).train()


def make_context(step=0, size=8):
    return StepContext(seed=0, step=step, positions=tuple(range(size)))


def train(model, steps, *, view_of=make_slices, rate=0.05):
    """Losses and outputs of some steps of gradient descent."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)
    found = []
    for step in steps:
        losses, outputs = model({"patch": view_of(step)}, make_context(step))
        optimizer.zero_grad()
        losses["momentum_contrast"].backward()
        optimizer.step()
        model.after_step(step)
        found.append({"loss": losses["momentum_contrast"].detach(), **outputs})
    return found


def embedded(encode, projector, image):
    """Embeddings in NumPy."""
    with torch.no_grad():
        coarsest = encode(image)[-1].numpy()
        pooled = torch.from_numpy(coarsest.reshape(*coarsest.shape[:2], -1).mean(2))
        vectors = projector.layers(pooled).numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("make_network", [make_unet, make_dense_unet, lambda: make_unet(spatial_dims=3)])
def test_steps_equal_a_plain_loop_with_a_list_as_queue(make_network):
    network = make_network()
    dims = network.spatial_dims
    model = make_model(network, minimum_distance=4, temperature=0.3).double()
    task = model.tasks["m"]
    old_network, old_projector = copy.deepcopy(network), copy.deepcopy(task.projector)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    queue = []
    for step in range(5):
        view = make_slices(step, spatial_dims=dims, dtype=torch.float64)
        queries = embedded(network.encode, task.projector, view["image"])
        keys = embedded(old_network.encode, old_projector, view["image"])
        places = list(zip(view["volume"].tolist(), view["slice"].tolist(), strict=True))
        terms, found, negatives = [], [], []
        for i, (volume, index) in enumerate(places):
            others = [key for v, s, key in queue if v != volume or abs(s - index) >= 4]
            positive = queries[i] @ keys[i ^ 1]
            logits = np.array([positive, *(queries[i] @ key for key in others)])
            terms.append(np.log(np.exp(logits / 0.3).sum()) - positive / 0.3)
            if others:
                found.append(bool((logits[1:] < positive).all()))
            negatives.append(len(others))
        losses, outputs = model({"patch": view}, make_context(step))
        assert float(losses["momentum_contrast"].detach()) == pytest.approx(np.mean(terms), rel=1e-9, abs=1e-12)
        assert ("momentum_contrast/accuracy" in outputs) == bool(found)
        if found:
            assert float(outputs["momentum_contrast/accuracy"]) == pytest.approx(np.mean(found))
        assert float(outputs["momentum_contrast/negatives"]) == pytest.approx(np.mean(negatives))
        optimizer.zero_grad()
        losses["momentum_contrast"].backward()
        optimizer.step()
        model.after_step(step)
        with torch.no_grad():
            for old, new in ((old_network, network), (old_projector, task.projector)):
                for a, b in zip(old.parameters(), new.parameters(), strict=True):
                    a.copy_(0.8 * a + 0.2 * b)
        queue = (queue + [(*place, key) for place, key in zip(places, keys, strict=True)])[-20:]
    assert len(queue) == 20
    assert np.mean(negatives) > 5


def test_the_first_step_has_nothing_to_compare_with_and_trains_nothing():
    model = make_model()
    losses, outputs = model({"patch": make_slices()}, make_context())
    losses["momentum_contrast"].backward()
    assert float(losses["momentum_contrast"].detach()) == 0
    assert float(outputs["momentum_contrast/negatives"]) == 0
    waiting = {name for name, p in model.named_parameters() if p.requires_grad}
    assert waiting == {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(bool((p.grad == 0).all()) for p in model.parameters() if p.grad is not None)


def negatives_of_each(task, volumes, slices):
    """Which places of the queue each query is compared with, seen in the gradient towards the keys."""
    model = MultiTaskModel(network=make_unet(), tasks={"m": task}).eval()
    torch.nn.functional.normalize(torch.randn(task.keys.shape), dim=1, out=task.keys)
    found = []
    for volume, index in zip(volumes, slices, strict=True):
        view = {
            "image": torch.rand(2, 1, 32, 32),
            "volume": torch.tensor([volume] * 2),
            **({} if index is None else {"slice": torch.tensor([index] * 2)}),
        }
        task.keys.grad, task.keys.requires_grad = None, True
        model({"patch": view}, make_context(size=2))[0]["momentum_contrast"].backward()
        found.append((task.keys.grad.abs().sum(1) > 0).nonzero().flatten().tolist())
    return found


def test_near_slices_of_the_same_volume_and_empty_places_are_no_negatives():
    task = MomentumContrast(queue=6, features=4, minimum_distance=3)
    task.volumes.copy_(torch.tensor([0, 0, 0, 1, 1, -1]))
    task.slices.copy_(torch.tensor([10, 12, 13, 10, 20, 0]))
    found = negatives_of_each(task, (0, 0, 1, 2, 0), (10, 15, 11, 10, None))
    assert found == [[2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


def test_without_slices_no_key_of_the_same_volume_is_a_negative_unless_asked_for():
    for distance, expected in ((3, [[2], [0, 1]]), (0, [[0, 1, 2], [0, 1, 2]])):
        task = MomentumContrast(queue=4, features=4, minimum_distance=distance)
        task.volumes.copy_(torch.tensor([5, 5, 6, -1]))
        assert negatives_of_each(task, (5, 6), (None, None)) == expected


def test_new_keys_take_the_places_of_the_oldest():
    for queue in (20, 8, 5):
        model = make_model(queue=queue)
        task = model.tasks["m"]
        added = 0
        for step in range(3):
            view = {**make_slices(step), "volume": torch.arange(4).repeat_interleave(2) + 4 * step}
            view["slice"] = torch.arange(8) + added
            model({"patch": view}, make_context(step))
            model.after_step(step)
            added += 8
            assert int((task.volumes >= 0).sum()) == min(added, queue)
            kept = task.slices[task.volumes >= 0].tolist()
            assert sorted(kept) == list(range(max(added - queue, 0), added))
        assert queue < 20 or task.slices.tolist() == [20, 21, 22, 23, *range(4, 20)]
    norms = task.keys.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_copies_are_frozen_leave_the_decoder_out_and_follow_weights_and_moments():
    network = make_unet("batch")
    model = make_model(network)
    copied = model.tasks["m"].momentum_network
    names = {name for name, _ in copied.named_parameters()}
    assert names == {name for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}
    frozen = [name for name, p in model.named_parameters() if ".momentum_" in name]
    assert len(frozen) == len(names) + 4
    assert not any(model.get_parameter(name).requires_grad for name in frozen)
    before = {name: tensor.clone() for name, tensor in copied.state_dict().items()}
    train(model, range(2))
    mean, count = "conv_0.conv_0.adn.N.running_mean", "conv_0.conv_0.adn.N.num_batches_tracked"
    state = network.state_dict()
    assert not torch.equal(copied.state_dict()[mean], before[mean])
    assert int(copied.state_dict()[count]) == int(state[count]) == 2
    old = copied.state_dict()
    expected = {name: 0.8 * old[name] + 0.2 * state[name] for name in (mean, "down_1.convs.conv_0.conv.weight")}
    model.after_step(2)
    for name, tensor in expected.items():
        torch.testing.assert_close(copied.state_dict()[name], tensor)


def test_copies_never_use_statistics_of_a_batch():
    """Nor dropout: a key is the same whatever else is in the batch, while the network itself is trained."""
    model = make_model(make_unet("batch"))
    train(model, range(2))
    task = model.tasks["m"]
    assert model.network.training
    assert task.training
    assert not any(m.training for part in (task.momentum_network, task.momentum_projector) for m in part.modules())
    image = make_slices()["image"]
    together = task._embed_keys({"image": image})
    alone = torch.cat([task._embed_keys({"image": one[None]}) for one in image])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_resumed_run_equals_an_uninterrupted_one(norm, tmp_path):
    model = make_model(make_unet(norm))
    train(model, range(4))
    torch.save(model.state_dict(), tmp_path / "checkpoint.pt")
    expected = train(model, range(4, 7))
    resumed = make_model(make_unet(norm, seed=5))
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    found = train(resumed, range(4, 7))
    assert [{name: float(value) for name, value in one.items()} for one in found] == [
        {name: float(value) for name, value in one.items()} for one in expected
    ]
    for name, tensor in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_keys_of_another_view_are_positives_sample_by_sample(spatial_dims):
    model = make_model(make_unet(spatial_dims=spatial_dims), key="other")
    task = model.tasks["m"]
    first, second = (make_slices(step, pairs=2, spatial_dims=spatial_dims) for step in (0, 1))
    view = {"image": first["image"][:3], "volume": torch.tensor([0, 1, 2])}
    other = {"image": second["image"][:3], "volume": torch.tensor([0, 1, 2])}
    model({"patch": view, "other": other}, make_context(size=3))
    model.after_step(0)
    assert task.volumes.tolist()[:3] == [0, 1, 2]
    keys = torch.from_numpy(embedded(task._followed[0].encode, task.projector, other["image"]))
    torch.testing.assert_close(task.keys[:3], keys)
    queries = embedded(model.network.encode, task.projector, view["image"])
    found, _ = model({"patch": view, "other": other}, make_context(1, size=3))
    table = np.exp(queries @ keys.numpy().T / 0.2)
    expected = np.log(table.sum(1) / table.diagonal()).mean()
    assert float(found["momentum_contrast"].detach()) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(InputError, match=r"views: a task reads 'other', there are \['patch'\]"):
        model({"patch": view}, make_context(size=3))


def test_a_conditioned_network_tells_its_copy_the_condition():
    torch.manual_seed(0)
    film = {"features": ["slice_position"], "mean": [0.5], "deviation": [0.3], "hidden": 4}
    network = SmallUNet(in_channels=1, out_channels=2, base_channels=4, depth=2, film=film)
    for name, parameter in network.named_parameters():
        if name.startswith("film."):
            torch.nn.init.normal_(parameter)
    model = make_model(network)

    def view_of(step):
        view = make_slices(step)
        return {**view, "condition": view["slice_position"][:, None]}

    assert all(torch.isfinite(one["loss"]) for one in train(model, range(2), view_of=view_of))
    task, view = model.tasks["m"], view_of(0)
    other = {**view, "condition": 1 - view["condition"]}
    assert not torch.allclose(task._embed_keys(view), task._embed_keys(other))


def test_half_precision_keeps_keys_and_loss_in_single():
    model = make_model()
    for step in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            losses, _ = model({"patch": make_slices(step)}, make_context(step))
        losses["momentum_contrast"].backward()
        model.after_step(step)
    assert losses["momentum_contrast"].dtype == model.tasks["m"].keys.dtype == torch.float32
    assert float(losses["momentum_contrast"].detach()) > 0


def test_wrong_arguments_and_batches_that_are_not_pairs_are_refused():
    for options in (
        {"queue": 0},
        {"features": 0},
        {"minimum_distance": -1},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"temperature": 0.0},
        {"temperature": float("nan")},
    ):
        with pytest.raises(InputError, match=next(iter(options))):
            MomentumContrast(**options)
    model, view = make_model(), make_slices()
    with pytest.raises(InputError, match="batch_size: is 5"):
        model({"patch": {name: tensor[:5] for name, tensor in view.items()}}, make_context(size=5))
    with pytest.raises(InputError, match="not of one scan"):
        model({"patch": {**view, "volume": torch.arange(8)}}, make_context())
