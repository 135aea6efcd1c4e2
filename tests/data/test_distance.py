import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mtmed.data import distance
from mtmed.data.distance import boundary_distance


def by_definition(label, spacing=1.0):
    """The shortest of all pairwise distances to voxels of another class."""
    voxels = np.argwhere(np.ones(label.shape, bool)) * spacing
    apart = cdist(voxels, voxels)
    apart[label.ravel()[:, None] == label.ravel()[None]] = np.inf
    return apart.min(axis=1).reshape(label.shape)


def blobs(shape, seed=0, classes=4):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, classes, [-(-n // 4) for n in shape])
    for axis, length in enumerate(shape):
        coarse = coarse.repeat(4, axis).take(range(length), axis)
    return coarse.astype(np.uint8)


@pytest.fixture(params=["edt", "scipy"])
def method(request, monkeypatch):
    if request.param == "scipy":
        monkeypatch.setattr(distance, "edt", None)
    elif distance.edt is None:
        pytest.skip("edt is not installed")


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("shape", [(9, 8, 10), (14, 11)])
def test_distance_is_that_to_the_nearest_voxel_of_another_class(shape):
    label = blobs(shape)
    found = boundary_distance(label)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, by_definition(label), rtol=1e-3)


@pytest.mark.usefixtures("method")
def test_neighbours_of_another_class_have_distance_one():
    label = np.zeros((12, 12, 12), np.int16)
    label[4:8, 4:8, 4:8] = 300
    found = boundary_distance(label)
    assert found[4, 5, 6] == 1
    assert found[3, 5, 6] == 1
    assert found[5, 5, 5] == 2
    assert found.min() == 1


@pytest.mark.usefixtures("method")
def test_edge_of_the_volume_is_no_boundary():
    label = np.zeros((20, 3, 3), np.uint8)
    label[10:] = 1
    np.testing.assert_array_equal(boundary_distance(label)[:, 1, 1], [*range(10, 0, -1), *range(1, 11)])


@pytest.mark.usefixtures("method")
def test_single_class_gives_the_diagonal():
    np.testing.assert_allclose(boundary_distance(np.full((3, 4, 12), 7, np.uint8)), 13)


@pytest.mark.skipif(distance.edt is None, reason="edt is not installed")
def test_both_methods_agree(monkeypatch):
    label = blobs((40, 33, 28), seed=1, classes=6)
    fast = boundary_distance(label)
    monkeypatch.setattr(distance, "edt", None)
    np.testing.assert_allclose(fast.astype(np.float32), boundary_distance(label).astype(np.float32), rtol=1e-3)


@pytest.mark.usefixtures("method")
def test_with_a_spacing_the_distance_is_in_its_unit():
    label, spacing = blobs((9, 8, 10)), (0.7, 1.5, 5.0)
    found = boundary_distance(label, spacing=spacing)
    np.testing.assert_allclose(found, by_definition(label, spacing), rtol=1e-3)


def test_voxel_size_in_mm_is_the_length_of_the_affine_columns():
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * [0.7, 1.5, 5.0]
    np.testing.assert_allclose(distance.voxel_size(affine, "mm"), [0.7, 1.5, 5.0])
    assert distance.voxel_size(affine, "voxel") == (1.0, 1.0, 1.0)
