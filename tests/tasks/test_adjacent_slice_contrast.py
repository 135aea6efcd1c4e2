"""In-batch contrast of neighbouring slices: loss and accuracy by hand, groups, and what it trains."""

import numpy as np
import pytest
import torch
from slice_batches import make_dense_unet, make_slices, make_unet

from mtmed.errors import InputError
from mtmed.losses import InfoNCELoss
from mtmed.tasks import AdjacentSliceContrast, MultiTaskModel, StepContext

CONTEXT = StepContext(seed=0, step=0, positions=tuple(range(8)))
PICTURES = StepContext(seed=0, step=0, positions=tuple(range(8)), pictures=True)


def make_model(network=None, **options):
    return MultiTaskModel(network=network or make_unet(), tasks={"c": AdjacentSliceContrast(features=6, **options)})


def embeddings(model, view):
    """Projections of the pooled coarsest map, in float64 NumPy."""
    state = {name: tensor.numpy() for name, tensor in model.tasks["c"].state_dict().items()}
    with torch.no_grad():
        coarsest = model.network.encode(view["image"])[-1].numpy()
    pooled = coarsest.reshape(*coarsest.shape[:2], -1).mean(2)
    hidden = np.maximum(pooled @ state["projector.layers.0.weight"].T + state["projector.layers.0.bias"], 0)
    embedded = hidden @ state["projector.layers.2.weight"].T + state["projector.layers.2.bias"]
    return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


@pytest.mark.parametrize("make_network", [make_unet, make_dense_unet, lambda: make_unet(spatial_dims=3)])
def test_each_slice_looks_for_its_neighbour_among_the_pairs_of_its_group(make_network):
    network = make_network()
    model = make_model(network, temperature=0.2).double()
    view = make_slices(pairs=4, groups=2, spatial_dims=network.spatial_dims, dtype=torch.float64)
    losses, outputs = model({"patch": view}, PICTURES)
    embedded = embeddings(model, view)
    terms, hits = [], []
    for group in ((0, 1, 2, 3), (4, 5, 6, 7)):
        similarity = embedded[list(group[0::2])] @ embedded[list(group[1::2])].T
        for table in (similarity, similarity.T):
            terms += (np.log(np.exp(table / 0.2).sum(1)) - table.diagonal() / 0.2).tolist()
            hits += (table.argmax(1) == np.arange(2)).tolist()
    assert set(losses) == {"contrast"}
    assert float(losses["contrast"].detach()) == pytest.approx(np.mean(terms), rel=1e-9)
    assert float(outputs["contrast/accuracy"]) == pytest.approx(np.mean(hits))
    np.testing.assert_allclose(outputs["contrast/similarity"].numpy(), embedded[[0, 2]] @ embedded[[1, 3]].T)


def test_pictures_are_made_only_when_due_and_have_no_gradient():
    model, view = make_model(), make_slices()
    assert set(model({"patch": view}, CONTEXT)[1]) == {"contrast/accuracy"}
    outputs = model({"patch": view}, PICTURES)[1]
    assert set(outputs) == {"contrast/accuracy", "contrast/similarity"}
    assert not any(value.requires_grad for value in outputs.values())


def test_views_without_groups_are_one_group():
    model, view = make_model(), make_slices(groups=1)
    grouped = model({"patch": view}, CONTEXT)[0]["contrast"]
    del view["group"]
    assert torch.equal(model({"patch": view}, CONTEXT)[0]["contrast"], grouped)


def test_the_encoder_is_trained_and_nothing_of_the_decoder():
    model = make_model()
    losses, _ = model({"patch": make_slices()}, CONTEXT)
    losses["contrast"].backward()
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert waiting == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    network = model.network
    encoder = {f"network.{name}" for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}
    assert {name for name in waiting if name.startswith("network.")} == encoder


def test_half_precision_keeps_loss_and_similarities_in_single():
    with torch.autocast("cpu", torch.bfloat16):
        losses, outputs = make_model()({"patch": make_slices()}, PICTURES)
    assert losses["contrast"].dtype == outputs["contrast/similarity"].dtype == torch.float32


def test_training_brings_neighbours_together():
    model = make_model(make_unet("instance"))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    accuracies = []
    for step in range(60):
        view = make_slices(groups=1)
        generator = torch.Generator().manual_seed(step)
        for pair, side in enumerate(torch.randperm(4, generator=generator).tolist()):
            # both slices of a pair are bright in the same quarter
            view["image"][2 * pair : 2 * pair + 2] = 0.2 * torch.rand(2, 1, 32, 32, generator=generator)
            view["image"][2 * pair : 2 * pair + 2, :, : 8 * side + 4] += 1
        losses, outputs = model({"patch": view}, CONTEXT)
        accuracies.append(float(outputs["contrast/accuracy"]))
        optimizer.zero_grad()
        losses["contrast"].backward()
        optimizer.step()
    assert np.mean(accuracies[:3]) < 0.8
    assert np.mean(accuracies[-5:]) > 0.9


def test_batches_that_are_not_pairs_are_refused():
    model, view = make_model(), make_slices()
    with pytest.raises(InputError, match="batch_size: is 7, which leaves a slice without its partner"):
        model({"patch": {name: tensor[:7] for name, tensor in view.items()}}, CONTEXT)
    with pytest.raises(InputError, match="the samples of a pair are not of one scan; draw pairs"):
        model({"patch": {**view, "volume": torch.arange(8)}}, CONTEXT)
    with pytest.raises(InputError, match="the samples of a pair are not of one group; draw pairs"):
        model({"patch": {**view, "group": torch.arange(8)}}, CONTEXT)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="features"):
        AdjacentSliceContrast(features=0)
    with pytest.raises(InputError, match="temperature"):
        AdjacentSliceContrast(temperature=0.0)
    assert isinstance(AdjacentSliceContrast(temperature=0.3).loss, InfoNCELoss)
