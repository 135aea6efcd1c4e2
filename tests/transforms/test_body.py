import numpy as np
import pytest
from kidney_phantom import BODY, RAS, grid, inside, phantom

from mtmed.transforms.body import body_mask, median_index

SPACING = (4.0, 4.0, 4.0)
ARMS = {-1: ((-205.0, 0.0, 0.0), (22.0, 25.0, 1e4)), 1: ((205.0, 0.0, 0.0), (22.0, 25.0, 1e4))}


def plane(image, spacing=SPACING):
    return median_index(body_mask(image, spacing=spacing))


def with_table(image, affine):
    """A curved shell under the patient and its foam, as CT tables have."""
    shape = image.shape
    shell = inside([((0.0, -90.0, 0.0), (215.0, 48.0, 1e4))], shape, affine)
    hollow = inside([((0.0, -90.0, 0.0), (211.0, 44.0, 1e4))], shape, affine)
    lower = (np.arange(shape[1]) * 4 + affine[1, 3] < -115)[None, :, None]
    return np.where(shell & ~hollow & lower & (image < -300), 150.0, image).astype(np.float32)


def test_the_mask_is_the_body_up_to_the_working_spacing():
    image, _, affine = phantom()
    mask = body_mask(image, spacing=SPACING)
    truth = inside([BODY], image.shape, affine)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.98


@pytest.mark.parametrize("shift", [0.0, 30.0, -45.0])
def test_the_plane_follows_a_body_that_lies_off_centre(shift):
    image, _, affine = phantom(shift=shift)
    position = plane(image) * affine[0, 0] + affine[0, 3]
    assert position == pytest.approx(shift, abs=2)


def test_the_plane_is_the_same_for_finer_and_anisotropic_voxels():
    for spacing in ((1.6, 3.0, 5.0), (6.0, 2.0, 8.0)):
        image, _, affine = phantom(directions=np.diag(spacing), shift=20.0)
        assert plane(image, spacing) * affine[0, 0] + affine[0, 3] == pytest.approx(20, abs=3)


def test_table_and_lying_arms_do_not_count():
    image, _, affine = phantom()
    scene = with_table(image, affine)
    scene[inside(ARMS.values(), image.shape, affine)] = 40
    assert (scene > -300).sum() > 1.05 * (image > -300).sum()
    assert np.array_equal(body_mask(scene, spacing=SPACING), body_mask(image, spacing=SPACING))


def test_one_arm_that_touches_the_trunk_hardly_moves_the_plane():
    image, _, affine = phantom()
    arm = inside([((190.0, 0.0, 0.0), (28.0, 30.0, 1e4))], image.shape, affine)
    image[arm] = 40
    body = body_mask(image, spacing=SPACING)
    assert body[arm].mean() > 0.9
    columns = np.flatnonzero(body.any((1, 2))) * 4 + affine[0, 3]
    assert abs(columns[[0, -1]].mean()) > 20
    assert abs(plane(image) * 4 + affine[0, 3]) < 8


def test_lung_and_bowel_gas_belong_to_the_body():
    image, _, affine = phantom()
    gas = inside([((60.0, 20.0, 0.0), (50.0, 60.0, 1e4))], image.shape, affine)
    image[gas] = -900
    assert body_mask(image, spacing=SPACING)[gas].all()


@pytest.mark.parametrize(
    "make", [np.zeros_like, lambda image: np.clip(image, -80, 300), lambda i: (i > 0).astype("f4")]
)
def test_no_body_is_seen_without_air_around_it(make):
    image = make(phantom(shift=40.0)[0])
    assert body_mask(image, spacing=SPACING) is None


def test_air_alone_has_no_body():
    assert body_mask(np.full((20, 20, 20), -1000.0), spacing=SPACING) is None


def test_a_body_cut_off_by_the_field_of_view_is_found():
    image = phantom()[0][20:-20]
    assert image[0].max() == image[-1].max() == 40
    assert plane(image) == pytest.approx((image.shape[0] - 1) / 2, abs=1)


def test_a_single_slice_is_enough():
    image = phantom(shift=20.0)[0][:, :, :1]
    shape, affine = grid(RAS[:3, :3])
    assert plane(image) * 4 + affine[0, 3] == pytest.approx(20, abs=2)
    assert image.shape[:2] == shape[:2]


def test_the_median_halves_the_voxels():
    mask = np.random.default_rng(0).random((9, 5, 4)) < np.linspace(0.1, 0.9, 9)[:, None, None]
    counts = mask.sum((1, 2))
    middle = median_index(mask)
    left = sum(count * np.clip(middle + 0.5 - index, 0, 1) for index, count in enumerate(counts))
    assert left == pytest.approx(counts.sum() / 2)


def test_other_than_three_axes_are_refused():
    with pytest.raises(ValueError, match="expected H W D"):
        body_mask(np.zeros((1, 4, 4, 4)), spacing=SPACING)
