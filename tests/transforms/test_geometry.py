"""The fused sampling grid against SciPy, NumPy and known points."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from mtmed.errors import InputError
from mtmed.transforms import Affine, Elastic, Flip, Rotate90, SpatialAugmentation
from mtmed.transforms.affine import rotation_matrix
from mtmed.transforms.elastic import bspline_matrix
from mtmed.transforms.geometry import SampleGeometry
from mtmed.transforms.sampling import fill_sampling_grid
from mtmed.transforms.spatial_operation import LinearMap

RUN = {"seed": 7, "step": 3}
EVERYTHING = [
    Affine(probability=0.6, rotate_degrees=20, scale_range=(0.9, 1.1), shear_range=0.1, translate_range=2),
    Elastic(probability=0.6, control_spacing=5, magnitude=(1, 2)),
    Flip(probability=0.4, axes=[0, 1]),
]


def blobs(shape: tuple[int, ...], batch: int = 1, channels: int = 1, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(batch, channels, *shape, generator=torch.Generator().manual_seed(seed))
    pool = torch.nn.functional.avg_pool3d if len(shape) == 3 else torch.nn.functional.avg_pool2d
    return pool(noise, 3, 1, 1)


def batch_of(shape: tuple[int, ...], size: int) -> dict[str, torch.Tensor]:
    image = blobs(shape, size, 2)
    label = (image[:, :1] > 0).to(torch.uint8) * 3 + (image[:, 1:] > 0.2).to(torch.uint8)
    return {"image": image, "label": label, "distance": image[:, :1].abs(), "volume": torch.arange(size)}


def fixed(matrix: np.ndarray, **kwargs) -> SampleGeometry:
    homogeneous = np.eye(len(matrix) + 1)
    homogeneous[: len(matrix), : len(matrix)] = matrix
    return SampleGeometry(homogeneous, **kwargs)


def sampling_positions(geometry: SampleGeometry, shape: tuple[int, ...]) -> np.ndarray:
    """Formula of the documentation in float64: c + A^-1 (x + u(x) - c), in voxels."""
    rank = len(shape)
    centre = (np.array(shape) - 1) / 2
    x = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)
    for control in geometry.controls:
        field = control.coefficients
        for axis in range(rank):
            weights = bspline_matrix(shape[axis], control.spacing[axis])
            field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
        x += field
    back = np.linalg.inv(geometry.content)
    return (x - centre) @ back[:rank, :rank].T + back[:rank, rank] + centre


@pytest.mark.parametrize("shape", [(14, 17, 11), (19, 16)])
@pytest.mark.parametrize(("padding_mode", "scipy_mode"), [("border", "nearest"), ("zeros", "grid-constant")])
def test_image_equals_scipy_at_the_documented_positions(shape, padding_mode, scipy_mode):
    operations = [
        Affine(probability=1, rotate_degrees=25, scale_range=(0.8, 1.2), shear_range=0.1, translate_range=2),
        Elastic(probability=1, control_spacing=4.5, magnitude=(1, 2)),
        Flip(probability=0.5, axes=[0, 1]),
    ]
    spatial = SpatialAugmentation(operations, padding_mode=padding_mode)
    batch = batch_of(shape, 3)
    geometries = spatial.parameters_for(shape, **RUN, positions=range(3))
    warped = spatial.apply_to(batch, geometries)
    for index, geometry in enumerate(geometries):
        where = np.moveaxis(sampling_positions(geometry, shape), -1, 0)
        for name in ("image", "distance"):
            for ours, source in zip(warped[name][index], batch[name][index], strict=True):
                expected = map_coordinates(source.double().numpy(), where, order=1, mode=scipy_mode)
                np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)
        expected = map_coordinates(batch["label"][index, 0].numpy(), where, order=0, mode=scipy_mode)
        differs = warped["label"][index, 0].numpy() != expected
        tie = (np.abs(where - np.floor(where) - 0.5) < 1e-4).any(0)
        assert not (differs & ~tie).any()


@pytest.mark.parametrize("shape", [(9, 12, 7), (13, 10)])
def test_grid_in_normalised_coordinates_matches_the_formula(shape):
    spatial = SpatialAugmentation(EVERYTHING)
    for geometry in spatial.parameters_for(shape, **RUN, positions=range(6)):
        if geometry is None:
            continue
        grid = torch.empty(len(shape), *shape)
        fill_sampling_grid(grid, geometry.content, geometry.controls)
        sizes = np.array(shape)
        voxels = (np.moveaxis(grid.double().numpy()[::-1], 0, -1) + 1) * sizes / 2 - 0.5
        np.testing.assert_allclose(voxels, sampling_positions(geometry, shape), atol=2e-5)


def test_a_marked_voxel_moves_where_the_matrix_says():
    shape = (21, 21, 21)
    image = torch.zeros(1, 1, *shape)
    image[0, 0, 15, 12, 10] = 1.0
    rotation = rotation_matrix([0, 0, 90])
    # axis 0 turns towards axis 1: (5, 2) from the centre comes to (-2, 5)
    np.testing.assert_allclose(rotation @ [5, 2, 0], [-2, 5, 0], atol=1e-12)
    moved = SpatialAugmentation([]).apply_to({"image": image}, [fixed(rotation)])["image"]
    assert moved[0, 0, 8, 15, 10] == pytest.approx(1.0, abs=1e-4)
    assert moved.sum() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("angles", [[20.0, -35.0, 50.0], [-70.0]])
def test_an_oblique_rotation_moves_the_centre_of_mass_by_its_matrix(angles):
    rank = len(angles) if len(angles) > 1 else 2
    axes = np.stack(np.meshgrid(*[np.arange(41.0)] * rank, indexing="ij"), -1)
    start = np.array([8.0, 3.0, -5.0][:rank])
    image = np.exp(-((axes - 20 - start) ** 2).sum(-1) / 8)
    matrix = rotation_matrix(angles)
    assert np.linalg.det(matrix) == pytest.approx(1)
    tensor = torch.from_numpy(image).float()[None, None]
    moved = SpatialAugmentation([]).apply_to({"image": tensor}, [fixed(matrix)])["image"][0, 0].numpy()
    centre = (moved[..., None] * axes).reshape(-1, rank).sum(0) / moved.sum() - 20
    np.testing.assert_allclose(centre, matrix @ start, atol=0.02)


def test_translation_and_scale_have_the_documented_sense():
    image = torch.zeros(1, 1, 21, 21)
    image[0, 0, 12, 10] = 1.0
    matrix = np.eye(3)
    matrix[0, 2] = 3
    moved = SpatialAugmentation([]).apply_to({"image": image}, [SampleGeometry(matrix)])["image"]
    assert moved[0, 0, 15, 10] == pytest.approx(1, abs=1e-4)
    larger = SpatialAugmentation([]).apply_to({"image": image}, [fixed(np.eye(2) * 2)])["image"]
    assert larger[0, 0, 14, 10] == pytest.approx(1, abs=1e-4)
    assert larger.sum() > 3


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("pair", [(0, 1), (1, 0), (0, 2), (2, 1)])
def test_quarter_turns_are_exact_and_equal_numpy(turns, pair):
    shape = (8, 8, 8)
    batch = batch_of(shape, 1)
    operation = Rotate90(probability=1, axes=[pair])
    drawn = operation.draw(np.random.default_rng(turns), shape)
    quarter = np.eye(4)
    quarter[pair[0], pair[0]] = quarter[pair[1], pair[1]] = 0
    quarter[pair[1], pair[0]], quarter[pair[0], pair[1]] = 1, -1
    assert any(np.array_equal(drawn.matrix, np.linalg.matrix_power(quarter, k)) for k in (1, 2, 3))
    matrix = np.linalg.matrix_power(quarter, turns)
    exact = SpatialAugmentation([]).apply_to(batch, [SampleGeometry(matrix, exact=True)])
    sampled = SpatialAugmentation([]).apply_to(batch, [SampleGeometry(matrix)])
    for name in ("image", "label", "distance"):
        expected = np.rot90(batch[name][0].numpy(), turns, axes=(pair[0] + 1, pair[1] + 1))
        np.testing.assert_array_equal(exact[name][0].numpy(), expected)
        np.testing.assert_allclose(sampled[name][0].numpy(), expected, atol=1e-5)


def test_flips_of_an_asymmetric_object_equal_numpy_in_anisotropic_shapes():
    batch = batch_of((5, 9, 7), 1)
    flipped = SpatialAugmentation([Flip(probability=1, axes=[0, 2])])(batch, **RUN, positions=[0])
    for name in ("image", "label", "distance"):
        np.testing.assert_array_equal(flipped[name][0].numpy(), batch[name][0].numpy()[:, ::-1, :, ::-1])
    assert flipped["volume"] is batch["volume"]


def test_linear_maps_compose_in_the_listed_order():
    shape = (8, 8)
    batch = batch_of(shape, 1)
    operations = [Rotate90(probability=1, axes=[[0, 1]]), Flip(probability=1, axes=[0])]
    spatial = SpatialAugmentation(operations)
    content = spatial.parameters_for(shape, **RUN, positions=[0])[0].content
    after = spatial(batch, **RUN, positions=[0])["image"][0]
    candidates = {k: np.rot90(batch["image"][0].numpy(), k, axes=(1, 2))[:, ::-1] for k in (1, 2, 3)}
    matches = [k for k, expected in candidates.items() if np.array_equal(after.numpy(), expected)]
    quarter = np.array([[0.0, -1], [1, 0]])
    assert len(matches) == 1
    np.testing.assert_array_equal(content[:2, :2], np.diag([-1, 1]) @ np.linalg.matrix_power(quarter, matches[0]))


@pytest.mark.parametrize("shape", [(10, 12, 8), (15, 12)])
def test_batched_equals_per_element_and_does_not_depend_on_the_batch(shape):
    spatial = SpatialAugmentation(EVERYTHING)
    batch = batch_of(shape, 6)
    together = spatial(batch, **RUN, positions=torch.arange(6))
    fired = [geometry is not None for geometry in spatial.parameters_for(shape, **RUN, positions=range(6))]
    assert any(fired)
    for index in range(6):
        alone = spatial({k: v[index : index + 1] for k, v in batch.items()}, **RUN, positions=[index])
        for name, tensor in alone.items():
            assert torch.equal(tensor[0], together[name][index])
    order = [4, 1, 5]
    mixed = spatial({k: v[order] for k, v in batch.items()}, **RUN, positions=order)
    for row, index in enumerate(order):
        assert torch.equal(mixed["image"][row], together["image"][index])
        assert torch.equal(mixed["label"][row], together["label"][index])


def test_samples_for_which_nothing_fired_are_untouched_bit_for_bit():
    batch = batch_of((10, 9, 8), 8)
    spatial = SpatialAugmentation([Affine(probability=0.5, rotate_degrees=30)])
    geometries = spatial.parameters_for((10, 9, 8), **RUN, positions=range(8))
    warped = spatial.apply_to(batch, geometries)
    same = [torch.equal(warped["image"][index], batch["image"][index]) for index in range(8)]
    assert same == [geometry is None for geometry in geometries]
    assert 0 < sum(same) < 8


def test_probability_zero_returns_what_was_given_and_one_always_fires():
    batch = batch_of((8, 8, 8), 5)
    never = SpatialAugmentation([Affine(probability=0, rotate_degrees=30), Flip(probability=0, axes=[0])])
    assert all(never(batch, **RUN, positions=range(5))[name] is tensor for name, tensor in batch.items())
    always = SpatialAugmentation([Elastic(probability=1)])
    assert None not in always.parameters_for((8, 8, 8), **RUN, positions=range(5))


def test_firing_follows_the_probability():
    spatial = SpatialAugmentation([Affine(probability=0.3, rotate_degrees=5)])
    fired = [item is not None for item in spatial.parameters_for((4, 4), **RUN, positions=range(1000))]
    assert 0.25 < np.mean(fired) < 0.35


def test_the_input_is_never_written():
    batch = batch_of((8, 8, 8), 3)
    before = {name: tensor.clone() for name, tensor in batch.items()}
    SpatialAugmentation(EVERYTHING)(batch, **RUN, positions=range(3))
    assert all(torch.equal(batch[name], before[name]) for name in batch)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_labels_keep_their_dtype_and_set_of_values(dtype):
    label = torch.tensor([0, 7, 200])[torch.randint(0, 3, (2, 1, 9, 10, 11))].to(dtype)
    warped = SpatialAugmentation(
        [Affine(probability=1, rotate_degrees=40, scale_range=(0.7, 0.8)), Elastic(probability=1)], padding_mode="zeros"
    )({"label": label}, **RUN, positions=[0, 1])["label"]
    assert warped.dtype == dtype
    assert set(warped.unique().tolist()) <= set(label.unique().tolist()) | {0}


def test_image_and_label_move_alike():
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 3, indexing="ij")
    image = (0.5 - (axes[0] ** 2 + (axes[1] / 0.6 - 0.2) ** 2 + (axes[2] + 0.2) ** 2))[None, None]
    spatial = SpatialAugmentation(
        [Affine(probability=1, rotate_degrees=30, scale_range=(0.9, 1.1)), Elastic(probability=1, magnitude=(2, 4))]
    )
    warped = spatial({"image": image, "label": (image > 0).to(torch.uint8)}, **RUN, positions=[0])
    assert not torch.equal(warped["label"], (image > 0).to(torch.uint8))
    differs = (warped["image"] > 0) != (warped["label"] > 0)
    # they may differ within one voxel of the surface only
    slope = 0.25
    assert warped["image"][differs].abs().max() < slope
    assert differs.float().mean() < 0.02


def test_outside_is_the_border_or_zero():
    batch = {"image": torch.ones(1, 1, 12, 12), "label": torch.ones(1, 1, 12, 12, dtype=torch.uint8)}
    half = [fixed(np.eye(2) * 0.5)]
    border = SpatialAugmentation([]).apply_to(batch, half)
    zeros = SpatialAugmentation([], padding_mode="zeros").apply_to(batch, half)
    assert torch.allclose(border["image"], torch.ones(()))
    assert border["label"].min() == 1
    assert zeros["label"].sum() == 36
    assert zeros["image"][0, 0, 0, 0] == 0


def test_mixed_precision_around_it_changes_nothing():
    batch = batch_of((12, 12, 12), 2)
    spatial = SpatialAugmentation([Elastic(probability=1)])
    plain = spatial(batch, **RUN, positions=[0, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = spatial(batch, **RUN, positions=[0, 1])
    assert torch.equal(plain["image"], mixed["image"])


def test_half_precision_maps_keep_their_dtype():
    warped = SpatialAugmentation([Elastic(probability=1)])(
        {"distance": torch.rand(1, 1, 8, 8, 8).half()}, **RUN, positions=[0]
    )
    assert warped["distance"].dtype == torch.float16


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: Affine(probability=1.5), "Affine.probability"),
        (lambda: Affine(probability=1, scale_range=(0.0, 1.0)), "Affine.scale_range"),
        (lambda: Affine(probability=1, shear_range=-1), "Affine.shear_range"),
        (lambda: Elastic(probability=1, magnitude=(3, 1)), "Elastic.magnitude"),
        (lambda: Elastic(probability=1, control_spacing=0), "Elastic.control_spacing"),
        (lambda: Flip(probability=1, axes=[]), "Flip.axes"),
        (lambda: Rotate90(probability=1, axes=[[1, 1]]), "Rotate90.axes"),
        (lambda: SpatialAugmentation([torch.nn.Identity()]), "SpatialAugmentation.operations"),
        (lambda: SpatialAugmentation([], padding_mode="wrap"), "SpatialAugmentation.padding_mode"),
    ],
)
def test_unusable_arguments_are_named(make, culprit):
    with pytest.raises(InputError, match=f"^{culprit}"):
        make()


@pytest.mark.parametrize(
    "operation",
    [
        Rotate90(probability=0, axes=[[0, 1]]),
        Rotate90(probability=0, axes=[[0, 2]]),
        Flip(probability=0, axes=[2]),
        Affine(probability=0, rotate_degrees=[1, 2, 3]),
        Affine(probability=0, scale_range=[[1, 1], [1, 1], [1, 1]]),
        Elastic(probability=0, control_spacing=[4, 4, 4]),
    ],
)
def test_operations_that_do_not_fit_the_shape_are_refused_at_first_use(operation):
    with pytest.raises(InputError, match=type(operation).__name__):
        SpatialAugmentation([operation]).parameters_for((8, 9), **RUN, positions=[0])


def test_tensors_of_different_shape_are_refused():
    with pytest.raises(InputError, match="label"):
        SpatialAugmentation([Elastic(probability=1)])(
            {"image": torch.zeros(1, 1, 8, 8), "label": torch.zeros(1, 1, 8, 9)}, **RUN, positions=[0]
        )


def test_affine_draws_stay_within_their_ranges():
    operation = Affine(probability=1, scale_range=[[0.5, 0.6], [1, 1], [2, 3]], translate_range=[0, 1, 4])
    for seed in range(20):
        drawn = operation.draw(np.random.default_rng(seed), (8, 8, 8))
        assert isinstance(drawn, LinearMap)
        scale = np.diag(drawn.matrix)[:3]
        assert 0.5 <= scale[0] <= 0.6
        assert scale[1] == 1
        assert 2 <= scale[2] <= 3
        assert (np.abs(drawn.matrix[:3, 3]) <= [0, 1, 4]).all()
