"""Overlay pictures: planes, sides, aspect and files."""

import matplotlib.image
import numpy as np
import pytest

from mtmed.metrics import overlay_figure, save_overlay

NAMES = {"0": "background", "1": "liver", "2": "spleen"}


def _volume():
    image = np.zeros((20, 16, 8), np.float32)
    label = np.zeros((20, 16, 8), np.uint8)
    label[14:18, 9:14, 2:6] = 1  # large index along the first axis: the patient's right
    image[label > 0] = 100
    return image, label


def test_three_planes_of_image_label_and_prediction():
    image, label = _volume()
    figure = overlay_figure(image, label, label, (1.0, 1.0, 3.0), NAMES, title="case a")
    panels = [axis for axis in figure.axes if axis.images]
    assert len(panels) == 9
    assert [panel.get_title() for panel in panels[:3]] == ["image", "label", "prediction"]
    assert "radiological" in figure.get_suptitle()
    assert "case a" in figure.get_suptitle()
    assert len([axis for axis in overlay_figure(image, None, label, (1, 1, 3), NAMES).axes if axis.images]) == 6


@pytest.mark.parametrize(("axis", "lengths"), [(2, (20, 16)), (1, (20, 24)), (0, (16, 24))])
def test_of_a_single_slice_only_its_plane_is_drawn(axis, lengths):
    image, label = (np.take(volume, [4], axis=axis) for volume in _volume())
    figure = overlay_figure(image, label, label, (1.0, 1.0, 3.0), NAMES)
    panels = [panel for panel in figure.axes if panel.images]
    assert len(panels) == 3
    assert tuple(panels[0].images[0].get_extent()) == (0, lengths[0], 0, lengths[1])


def test_panels_measure_millimetres():
    image, label = _volume()
    figure = overlay_figure(image, label, label, (0.5, 1.0, 3.0), NAMES)
    extents = [tuple(axis.images[0].get_extent()) for axis in figure.axes if axis.images][::3]
    assert extents == [(0, 10, 0, 16), (0, 10, 0, 24), (0, 16, 0, 24)]


def test_the_patients_right_is_on_the_left_and_anterior_is_up():
    image, label = _volume()
    figure = overlay_figure(image, label, label, (1, 1, 3), NAMES, window=(0, 100))
    axial = np.asarray(figure.axes[0].images[0].get_array())[..., 0]
    assert figure.axes[0].images[0].origin == "lower"
    rows, columns = np.nonzero(axial)
    assert columns.max() < axial.shape[1] / 2
    assert rows.min() >= 9
    texts = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert texts["R"][0] < texts["L"][0]
    assert texts["P"][1] < texts["A"][1]


def test_picture_is_written_whole_and_the_same_every_time(tmp_path):
    image, label = _volume()
    for name in ("a.png", "b.png"):
        save_overlay(tmp_path / name, image, label, label, (1, 1, 3), NAMES)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_volumes_of_different_shape_are_refused():
    image, label = _volume()
    with pytest.raises(ValueError, match="one shape"):
        overlay_figure(image, label[:-1], label, (1, 1, 1), NAMES)
