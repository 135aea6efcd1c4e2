"""Jigsaw: the table of orders, cells against slicing by hand, the network's paths, and learning."""

from itertools import permutations

import numpy as np
import pytest
import torch
from slice_batches import make_dense_unet, make_unet
from small_networks import make_small_unet, make_unetr

from mtmed.errors import InputError
from mtmed.tasks import Jigsaw, MultiTaskModel, StepContext
from mtmed.tasks.image_cells import assemble_cells, cut_cells, pool_cells
from mtmed.tasks.permutation_table import permutation_table


def make_model(network, **options):
    torch.manual_seed(1)
    task = Jigsaw(**{"features": 5, "hidden": 16, **options})
    return MultiTaskModel(network=network, tasks={"j": task}).train(), task


def make_context(step=0, size=2, **options):
    return StepContext(seed=0, step=step, positions=tuple(range(size)), **options)


def test_all_orders_of_four_cells_are_in_the_table_once_identity_first():
    table = permutation_table(4, 24)
    assert table[0].tolist() == [0, 1, 2, 3]
    assert {tuple(row) for row in table.tolist()} == set(permutations(range(4)))


def test_orders_of_eight_cells_are_chosen_greedily_far_apart():
    table = permutation_table(8, 24)
    assert table[0].tolist() == list(range(8))
    assert (np.sort(table, axis=1) == np.arange(8)).all()
    distances = (table[:, None] != table).sum(2) + 8 * np.eye(24, dtype=int)
    # more than 8 orders cannot differ at all places from each other
    assert (distances[:8, :8] >= 8).all()
    assert distances.min() >= 6
    assert permutation_table(8, 9).tolist() == table[:9].tolist()


def test_a_plain_greedy_loop_chooses_the_same_orders():
    every = list(permutations(range(4)))

    def apart(a, b):
        return sum(x != y for x, y in zip(a, b, strict=True))

    chosen = [every[0]]
    while len(chosen) < 10:
        rest = [one for one in every if one not in chosen]
        # max takes the first of equals
        chosen.append(max(rest, key=lambda o: (min(apart(o, c) for c in chosen), sum(apart(o, c) for c in chosen))))
    assert permutation_table(4, 10).tolist() == [list(one) for one in chosen]


@pytest.mark.parametrize(("size", "grid"), [((7, 9), (2, 3)), ((6, 4, 9), (2, 1, 4)), ((8, 8, 8), (2, 2, 2))])
def test_cells_are_slices_of_the_centre_and_come_together_again(size, grid):
    image = torch.rand(2, 3, *size)
    sides = [side // count for side, count in zip(size, grid, strict=True)]
    starts = [side % count // 2 for side, count in zip(size, grid, strict=True)]
    cells = cut_cells(image, grid)
    whole = torch.zeros_like(image)
    for number, place in enumerate(np.ndindex(*grid)):
        where = tuple(
            slice(start + index * side, start + (index + 1) * side)
            for start, index, side in zip(starts, place, sides, strict=True)
        )
        assert torch.equal(cells[:, number], image[(slice(None), slice(None), *where)])
        whole[(slice(None), slice(None), *where)] = cells[:, number]
    assert torch.equal(assemble_cells(cells, grid, size), whole)


def test_pooling_is_the_mean_of_cells_and_shares_voxels_between_two():
    feature_map = torch.rand(2, 3, 4, 6, 2, dtype=torch.float64)
    cells = cut_cells(feature_map, (2, 3, 1))
    torch.testing.assert_close(pool_cells(feature_map, (2, 3, 1)), cells.flatten(3).mean(3))
    line = torch.tensor([[[1.0, 2.0, 6.0], [1.0, 2.0, 6.0]]])[:, None]
    torch.testing.assert_close(pool_cells(line, (1, 2))[0, :, 0], torch.tensor([4 / 3, 14 / 3]))


@pytest.mark.parametrize(
    ("make", "size", "apart"),
    [
        (make_small_unet, (24, 16), True),
        (make_small_unet, (12, 16), False),
        (lambda: make_unet(spatial_dims=3), (32, 32, 32), False),
        (make_dense_unet, (64, 72), True),
        (make_dense_unet, (40, 40), False),
    ],
)
def test_cells_go_alone_where_the_network_takes_them_and_assembled_where_not(make, size, apart):
    network = make()
    model, task = make_model(network)
    view = {"image": torch.rand(2, 1, *size), "clean": torch.rand(2, 1, *size), "volume": torch.tensor([3, 4])}
    context = make_context(step=1)
    (shown,) = task.derived_views({"auxiliary": view}, context).values()
    orders = [task.orders[row] for row in task._draw(context)]
    cells = cut_cells(view["image"], task.cells)
    expected = torch.stack([one[order] for one, order in zip(cells, orders, strict=True)])
    if apart:
        count = len(orders[0])
        assert torch.equal(shown["image"], expected.flatten(0, 1))
        assert shown["volume"].tolist() == [3] * count + [4] * count
        assert "clean" not in shown
    else:
        assert torch.equal(shown["image"], assemble_cells(expected, task.cells, size))
    losses, outputs = model({"auxiliary": view}, context)
    losses["jigsaw"].backward()
    assert 0 <= float(outputs["jigsaw/accuracy"]) <= 1
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert waiting == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any(
        bool((p.grad != 0).any()) for n, p in network.named_parameters() if n.startswith(network.encoder_prefixes)
    )


def test_a_network_of_fixed_size_sees_an_image_of_its_size():
    network = make_unetr()
    model, task = make_model(network, grid=(2, 2, 1))
    view = {"image": torch.rand(2, 1, *network.image_size)}
    (shown,) = task.derived_views({"auxiliary": view}, make_context()).values()
    assert shown["image"].shape == view["image"].shape
    assert torch.equal(shown["image"].flatten(1).sort().values, view["image"].flatten(1).sort().values)
    losses, outputs = model({"auxiliary": view}, make_context(pictures=True))
    losses["jigsaw"].backward()
    assert torch.equal(outputs["jigsaw/auxiliary"], shown["image"])
    assert float(network.vit.patch_embedding.position_embeddings.grad.abs().sum()) > 0


def test_the_loss_equals_the_formula_in_numpy():
    model, task = make_model(make_small_unet().eval())
    model.double()
    model.eval()
    image = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    context = make_context(step=2, size=3)
    found, outputs = model({"auxiliary": {"image": image}}, context)
    terms, hits = [], []
    for one, row in zip(image, task._draw(context), strict=True):
        halves = [one[:, i : i + 8, j : j + 8] for i in (0, 8) for j in (0, 8)]
        pooled = []
        for cell in task.orders[row]:
            coarsest = model.network.encode(halves[cell][None])[-1].detach().numpy()
            weight, bias = (part.detach().numpy() for part in (task.projection.weight, task.projection.bias))
            pooled.append(weight @ coarsest[0].mean((1, 2)) + bias)
        values = np.concatenate(pooled)
        for index, layer in enumerate(task.classifier[0::2]):
            values = layer.weight.detach().numpy() @ values + layer.bias.detach().numpy()
            values = np.maximum(values, 0) if index < 2 else values
        terms.append(np.log(np.exp(values).sum()) - values[row])
        hits.append(values.argmax() == row)
    assert float(found["jigsaw"].detach()) == pytest.approx(np.mean(terms), rel=1e-9)
    assert float(outputs["jigsaw/accuracy"]) == pytest.approx(np.mean(hits))


def test_orders_depend_on_seed_step_and_position_only():
    _, task = make_model(make_small_unet())
    both = task._draw(make_context(step=5, size=8))
    assert task._draw(StepContext(seed=0, step=5, positions=(6, 2))) == [both[6], both[2]]
    assert task._draw(StepContext(seed=1, step=5, positions=tuple(range(8)))) != both
    drawn = {row for step in range(40) for row in task._draw(make_context(step, size=8))}
    assert drawn == set(range(24))


def test_a_network_learns_the_order_of_quadrants_that_differ():
    model, _ = make_model(make_small_unet(), features=8, hidden=32)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    ramp = torch.zeros(1, 1, 16, 16)
    ramp[..., :8, 8:], ramp[..., 8:, :8], ramp[..., 8:, 8:] = 1, 2, 3
    generator = torch.Generator().manual_seed(0)
    accuracies = []
    for step in range(100):
        image = ramp + 0.1 * torch.randn(16, 1, 16, 16, generator=generator)
        losses, outputs = model({"auxiliary": {"image": image}}, make_context(step, size=16))
        optimizer.zero_grad()
        losses["jigsaw"].backward()
        optimizer.step()
        accuracies.append(float(outputs["jigsaw/accuracy"]))
    assert np.mean(accuracies[-5:]) > 0.9


def test_wrong_options_and_images_smaller_than_the_grid_are_refused():
    for options in ({"features": 0}, {"hidden": 0}, {"grid": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            Jigsaw(**options)
    for options, message in (
        ({"grid": (2, 2, 2)}, "grid: has 3 numbers; give 2"),
        ({"grid": 1}, "grid: has 1 cells"),
        ({"grid": 4}, "grid: has 16 cells"),
        ({"permutations": 25}, "permutations: is 25, 4 cells have 24 orders"),
        ({"permutations": 1}, "permutations: is 1"),
    ):
        with pytest.raises(InputError, match=message):
            make_model(make_small_unet(), **options)
    model, _ = make_model(make_small_unet())
    for size, message in (
        ((3, 16), r"gives 3 x 16 voxels, the grid has 2 x 2 cells"),
        ((4, 8), r"leaves 1 x 2 voxels"),
    ):
        with pytest.raises(InputError, match=f"patch_size: {message}"):
            model({"auxiliary": {"image": torch.rand(2, 1, *size)}}, make_context())


def test_a_network_of_fixed_size_with_too_few_voxels_is_refused_before_any_step():
    network = make_unetr()
    coarsest = [side // network.level_strides[-1] for side in network.image_size]
    with pytest.raises(InputError, match=r"patch_size: leaves .* voxels on the coarsest feature map"):
        make_model(network, grid=[coarsest[0] + 1, *[1] * (len(coarsest) - 1)])
