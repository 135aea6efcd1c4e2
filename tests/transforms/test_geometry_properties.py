"""From any grid to the network's and back: the grid of the input, and every voxel at its place in the patient."""

from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Orientationd
from scipy.spatial.transform import Rotation

from mtmed.transforms import SeparableSpacingd
from mtmed.transforms.reading import LoadVolumed
from mtmed.transforms.writing import resample_label_to, write_nifti_label

FEW = settings(max_examples=25, deadline=None)


class Grid(NamedTuple):
    """Voxels and affine of an image."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    def points(self, index=None):
        """Places in the patient, mm, of all voxel centres (… x 3), or of voxel indices."""
        index = np.stack(np.indices(self.shape), -1) if index is None else index
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]


@st.composite
def grids(draw):
    """Any order and direction of the axes, up to 25 degrees oblique about each, anisotropic."""
    shape = draw(st.tuples(*[st.integers(4, 9)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.4, 4)] * 3))
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([1, -1])] * 3))
    angles = draw(st.tuples(*[st.one_of(st.just(0.0), st.floats(-25, 25))] * 3))
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.eye(3)[:, order] @ np.diag(np.multiply(signs, spacing))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return Grid(shape, affine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grids")


def save(folder, grid, voxels):
    path = folder / "image.nii"
    nib.save(nib.Nifti1Image(voxels, grid.affine), path)
    return path


def seen_by_network(path, spacing=None, mode="bilinear"):
    """Voxels and grid after reading, turning to RAS and, if a spacing is given, resampling."""
    steps = [LoadVolumed("image"), Orientationd("image", axcodes="RAS", labels=None)]
    steps += [SeparableSpacingd("image", pixdim=spacing, mode=mode)] if spacing else []
    sample = {"image": str(path)}
    for step in steps:
        sample = step(sample)
    image = sample["image"]
    return np.asarray(image[0]), Grid(tuple(image.shape[1:]), np.asarray(image.affine, np.float64))


@FEW
@given(grids(), st.integers(0, 2**31))
def test_a_turned_label_map_comes_back_voxel_by_voxel(folder, grid, seed):
    labels = np.random.default_rng(seed).integers(0, 250, grid.shape).astype(np.uint8)
    turned, network = seen_by_network(save(folder, grid, labels))
    back = resample_label_to(turned, network.affine, grid.shape, grid.affine)
    np.testing.assert_array_equal(back, labels)
    # the axes of the network run to right, front and top as far as they can
    assert nib.aff2axcodes(network.affine) == ("R", "A", "S")


@FEW
@given(grids(), st.tuples(*[st.floats(0.6, 3)] * 3), st.tuples(*[st.floats(-3, 3)] * 3))
def test_intensity_that_grows_with_the_place_does_so_after_resampling(folder, grid, spacing, slope):
    voxels = (grid.points() @ slope).astype(np.float64)
    resampled, network = seen_by_network(save(folder, grid, voxels), spacing)
    places = network.points()
    index = (places - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T
    inside = ((index > -1e-6) & (index < np.array(grid.shape) - 1 + 1e-6)).all(-1)
    np.testing.assert_allclose(resampled[inside], (places @ slope)[inside], atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(network.affine[:3, :3], axis=0), spacing, rtol=1e-5)


@FEW
@given(grids(), st.tuples(*[st.floats(0.6, 3)] * 3), st.tuples(*[st.floats(-1, 1)] * 3))
def test_a_half_space_that_the_network_marks_is_marked_in_the_input(folder, grid, spacing, normal):
    length = np.linalg.norm(normal)
    if length < 0.1:
        return
    _, network = seen_by_network(save(folder, grid, np.ones(grid.shape, np.float32)), spacing)
    middle = grid.points(np.array(grid.shape) / 2)

    def depth(points):
        return (points - middle) @ (np.array(normal) / length)

    predicted = (depth(network.points()) > 0).astype(np.uint8)
    back = resample_label_to(predicted, network.affine, grid.shape, grid.affine)
    assert back.shape == grid.shape
    expected = depth(grid.points())
    # the nearest voxel of the network lies at most half its diagonal away
    sure = np.abs(expected) > np.linalg.norm(spacing) / 2 + 1e-3
    inner = np.zeros(grid.shape, bool)
    inner[1:-1, 1:-1, 1:-1] = True  # the outermost voxels may lie beyond the network's grid, where all is background
    np.testing.assert_array_equal(back[sure & inner], expected[sure & inner] > 0)


@FEW
@given(grids(), st.sampled_from([(1, 0), (0, 1), (2, 1), (1, 4)]))
def test_what_is_written_lies_on_the_grid_of_the_input(folder, grid, codes):
    path = save(folder, grid, np.ones(grid.shape, np.int16))
    image = nib.load(path)
    image.set_sform(grid.affine, codes[0])
    image.set_qform(grid.affine, codes[1])
    nib.save(image, path)
    labels = np.arange(np.prod(grid.shape)).reshape(grid.shape) % 7
    write_nifti_label(folder / "label.nii.gz", labels, like=path)
    given_image, written = nib.load(path), nib.load(folder / "label.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
    np.testing.assert_allclose(written.affine, given_image.affine, rtol=0, atol=1e-4)
    np.testing.assert_allclose(written.affine, grid.affine, rtol=0, atol=2e-3)  # the qform is kept in single precision
    assert [written.header[f"{form}form_code"] for form in "sq"] == [
        given_image.header[f"{form}form_code"] for form in "sq"
    ]
    assert not [name for name in folder.iterdir() if name.suffix == ".tmp"]
