"""MixCL's losses against Eq. 4 to 7 written out in float64 NumPy, on the task's own projections."""

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import CrossCorrelationLoss, LabelContrastLoss
from mtmed.randomness import torch_generator
from mtmed.tasks import MixCLConsistency, MultiTaskModel

REDUNDANCY, TEMPERATURE = 0.0051, 0.1


def full_task(**options):
    return MixCLConsistency(
        **{"identity": CrossCorrelationLoss(), "label": LabelContrastLoss(), "pixels_per_class": 10_000, **options}
    )


def projections(model, views, name, level):
    task = model.tasks["t"]
    with torch.no_grad():
        return task.projectors[str(level)](model.network.encode(views[name]["image"])[level]).double().numpy()


def identity_by_hand(first, second):
    """Eq. 4 with C_ij off the diagonal, on centred channels (Eq. 5)."""
    x, y = (np.moveaxis(z, 1, 0).reshape(z.shape[1], -1) for z in (first, second))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    correlation = (x @ y.T) / np.sqrt((x**2).sum(1)[:, None] * (y**2).sum(1)[None])
    diagonal = np.diag(correlation)
    return ((1 - diagonal) ** 2).sum() + REDUNDANCY * ((correlation**2).sum() - (diagonal**2).sum())


def label_by_hand(anchors, partners, anchor_tags, partner_tags):
    """Eq. 6 for each anchor; every voxel of the level takes part."""
    terms = []
    for vector, (label, group) in zip(anchors, anchor_tags, strict=True):
        if label == 0:
            continue
        similarity = partners @ vector / np.linalg.norm(partners, axis=1) / np.linalg.norm(vector) / TEMPERATURE
        same_group = np.array([tag[1] == group for tag in partner_tags])
        same_label = np.array([tag[0] == label for tag in partner_tags])
        positive = same_group & same_label
        negative = same_group & ~same_label
        if positive.any():
            terms.append(-np.log(np.exp(similarity[positive]).sum() / np.exp(similarity[positive | negative]).sum()))
    return np.mean(terms)


def every_voxel(z, label, groups):
    """Vectors and (label, group) of all voxels of a level of stride 2."""
    down = label[:, 0, 1::2, 1::2, 1::2].numpy()
    vectors = np.moveaxis(z, 1, -1).reshape(-1, z.shape[1])
    tags = [(int(value), groups[b]) for b in range(len(down)) for value in down[b].ravel()]
    return vectors, tags


def small(views):
    """Mostly unlabelled in a way that keeps the loop over anchors short."""
    for view in views.values():
        keep = torch.zeros_like(view["label"])
        keep[:, :, 5:12, 5:12, 3:8] = 1
        view["label"] = view["label"] * keep
    views["view_b"]["label"] = views["view_a"]["label"]
    return views


def test_identity_is_the_sum_over_all_levels(network, make_views, make_context):
    model, views = MultiTaskModel(network=network, tasks={"t": full_task(label=None)}), make_views()
    losses, outputs = model(views, make_context())
    levels = [
        identity_by_hand(projections(model, views, "view_a", level), projections(model, views, "view_b", level))
        for level in range(5)
    ]
    np.testing.assert_allclose(losses["identity"].item(), sum(levels), rtol=1e-4)
    for level, value in enumerate(levels):
        np.testing.assert_allclose(outputs[f"identity/level_{level}"].item(), value, rtol=1e-4)
    assert set(losses) == {"identity"}


@pytest.mark.parametrize(("pairs", "datasets"), [("dataset", (0, 1)), ("dataset", (4, 4)), ("sample", (4, 4))])
def test_label_loss_compares_the_voxels_of_one_level(pairs, datasets, network, make_views, make_context):
    task = full_task(identity=None, pairs=pairs)
    model, views = MultiTaskModel(network=network, tasks={"t": task}), small(make_views(datasets=datasets))
    losses, _ = model(views, make_context(positions=(6, 7)))
    groups = datasets if pairs == "dataset" else (6, 7)
    anchors = every_voxel(projections(model, views, "view_a", 1), views["view_a"]["label"], groups)
    partners = every_voxel(projections(model, views, "auxiliary", 1), views["auxiliary"]["label"], groups)
    expected = label_by_hand(anchors[0], partners[0], anchors[1], partners[1])
    np.testing.assert_allclose(losses["label"].item(), expected, rtol=1e-4)
    assert set(losses) == {"label"}


@pytest.mark.parametrize("level", [0, 2])
def test_label_level_is_a_choice(level, network, make_views, make_context):
    model = MultiTaskModel(
        network=network, tasks={"t": full_task(identity=None, label_level=level, pixels_per_class=8)}
    )
    assert set(model.tasks["t"].projectors) == {str(level)}
    assert model(make_views(), make_context())[0]["label"].item() > 0
    with pytest.raises(InputError, match="label_level"):
        MultiTaskModel(network=network, tasks={"t": full_task(label_level=5)})


def test_labels_of_another_data_set_do_not_touch_the_loss(network, make_views, make_context):
    """The gradient at the first sample's voxels depends on its own data set alone."""
    gradients = []
    for change in (False, True):
        views = make_views(datasets=(0, 1))
        if change:
            for name in ("view_a", "auxiliary"):
                views[name]["label"] = views[name]["label"].clone()
                views[name]["label"][1] = views[name]["label"][1].flip(0) % 2
        task = full_task(identity=None)
        torch.manual_seed(0)
        model = MultiTaskModel(network=network, tasks={"t": task})
        # one anchor map of which only the first sample's part is looked at
        captured = []
        task.label.register_forward_pre_hook(lambda module, inputs, captured=captured: captured.append(inputs))
        model(views, make_context())
        anchors, labels, groups, partners, partner_labels, partner_groups = captured[0]
        mine = groups == 0
        anchors = anchors.detach()[mine].requires_grad_()
        loss = LabelContrastLoss()(
            anchors, labels[mine], groups[mine], partners.detach(), partner_labels, partner_groups
        )
        loss.backward()
        gradients.append((loss.item(), anchors.grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-6)
    torch.testing.assert_close(gradients[0][1], gradients[1][1])


def test_pixels_are_a_function_of_seed_step_and_position(network, make_views, make_context):
    task = full_task(identity=None, pixels_per_class=5)
    model, views = MultiTaskModel(network=network, tasks={"t": task}), make_views()

    def drawn(**options):
        label, captured = task._draw, []

        def spy(name, *arguments):
            sample = label(name, *arguments)
            captured.append((name, sample))
            return sample

        task._draw = spy
        model(views, make_context(**options))
        task._draw = label
        return {name: sample.voxel for name, sample in captured}

    first, again = drawn(), drawn()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["view_a"], first["auxiliary"])
    for change in ({"step": 4}, {"seed": 1}, {"positions": (2, 3)}):
        assert not torch.equal(first["view_a"], drawn(**change)["view_a"])
    # the sample at position 1 draws the same voxels wherever it lies in the local batch
    half = len(first["view_a"]) // 2
    assert torch.equal(drawn(positions=(9, 1))["view_a"][half:], first["view_a"][half:])


def test_voxels_are_drawn_by_the_weight_map(network, make_views, make_context):
    """Without replacement, at most the budget of each class, and never where the weight is zero."""
    views = make_views()
    task = full_task(identity=None, pixels_per_class=50, epsilon=0.0)
    allowed = torch.zeros(views["view_a"]["distance"].shape)
    allowed[..., :8] = 4.0
    views["view_a"]["distance"] = allowed
    model = MultiTaskModel(network=network, tasks={"t": task})
    z = model.tasks["t"].projectors["1"](network.encode(views["view_a"]["image"])[1])
    sample = task._draw("view_a", z, views["view_a"], make_context())
    for image in range(2):
        for value in range(3):
            voxels = sample.voxel[(sample.batch == image) & (sample.label == value)]
            assert len(voxels) == len(voxels.unique()) == 50
            assert bool((voxels % 8 < 4).all())


def test_drawing_does_not_touch_the_global_generator(network, make_views, make_context):
    model = MultiTaskModel(network=network, tasks={"t": full_task()})
    state = torch.get_rng_state()
    model(make_views(), make_context())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch_generator(0, 3, 0, "pixels/view_a").initial_seed() != torch.initial_seed()


def test_pictures_are_made_only_when_they_are_due(network, make_views, make_context):
    model, views = MultiTaskModel(network=network, tasks={"t": full_task(pixels_per_class=20)}), make_views()
    assert all(value.dim() == 0 for value in model(views, make_context())[1].values())
    outputs = model(views, make_context(pictures=True))[1]
    assert outputs["correlation"].shape == (16, 16)
    assert set(outputs["relation"].unique().tolist()) == {-1.0, 0.0, 1.0}
    for name in ("view_a", "auxiliary"):
        distance = views[name]["distance"].double().numpy()
        weight = 0.5 * np.sqrt(distance) * np.exp(-distance / 8) + 0.05
        np.testing.assert_allclose(outputs[f"sampling_weight/{name}"].numpy(), weight, rtol=1e-5)
    assert not any(value.requires_grad for value in outputs.values())


def test_patches_without_foreground_give_zero_and_a_graph(network, make_views, make_context):
    views = make_views()
    for view in views.values():
        view["label"] = torch.zeros_like(view["label"])
    model = MultiTaskModel(network=network, tasks={"t": full_task(identity=None)})
    loss = model(views, make_context())[0]["label"]
    assert loss.item() == 0
    loss.backward()
    assert model.tasks["t"].projectors["1"][0].weight.grad is not None


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"identity": None, "label": None}, "both losses"),
        ({"views": ("one",)}, "views"),
        ({"pairs": "all"}, "pairs"),
        ({"pixels_per_class": 0}, "pixels_per_class"),
    ],
)
def test_options_out_of_range_are_named(options, culprit):
    with pytest.raises(InputError, match=culprit):
        full_task(**options)
