"""Outlines, zoom and panels."""

from dataclasses import replace

import numpy as np
import pytest

from mtmed.studies.case_figure import CaseRow, case_figure, outline, zoom_box


def _case(*, spacing=(1.0, 1.0), shape=(80, 60)):
    reference, right, wrong = (np.zeros(shape, np.uint8) for _ in range(3))
    reference[10:14, 20:26] = 1
    reference[50:70, 30:50] = 1  # the largest, and all arms have it
    right[:] = reference
    wrong[50:70, 30:50] = 1
    image = np.zeros(shape)
    image[10:14, 20:26] = 100
    return CaseRow(
        heading="worst: demo/a",
        image=image,
        reference=reference,
        predictions={"good": right, "bad": wrong},
        dice={"good": "Dice 1.00", "bad": "Dice 0.97"},
        spacing=spacing,
        window=(0.0, 100.0),
    )


def test_outline_of_one_voxel_is_its_four_edges_in_mm():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    segments = {tuple(sorted(map(tuple, segment))) for segment in outline(mask, (2.0, 0.5)).tolist()}
    left, right, low, high = 2.0, 4.0, 1.0, 1.5
    assert segments == {
        ((left, low), (left, high)),
        ((right, low), (right, high)),
        ((left, low), (right, low)),
        ((left, high), (right, high)),
    }


def test_outline_has_an_edge_per_boundary_face_also_at_the_border():
    mask = np.random.default_rng(0).random((7, 9)) > 0.5
    padded = np.pad(mask, 1).astype(int)
    faces = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    assert len(outline(mask, (1.0, 1.0))) == faces
    assert len(outline(np.zeros((3, 3), bool), (1.0, 1.0))) == 0
    assert len(outline(np.ones((2, 3), bool), (1.0, 1.0))) == 10


def test_zoom_is_a_square_around_what_the_arms_disagree_about():
    left, right, low, high = zoom_box(_case())
    assert right - left == high - low == 40.0
    assert left <= 10
    assert right >= 14
    assert low <= 20 <= 26 <= high
    wide = zoom_box(_case(spacing=(2.0, 1.0)))
    assert wide[1] - wide[0] == wide[3] - wide[2]
    assert 0 <= wide[0] <= 20


def test_zoom_takes_the_largest_among_equals_and_the_whole_image_if_nothing_is_there():
    case = _case()
    case.predictions["bad"][:] = case.reference
    left, right, low, high = zoom_box(case)
    assert left <= 50 <= 70 <= right
    assert low <= 30 <= 50 <= high
    empty = CaseRow("", np.zeros((20, 30)), np.zeros((20, 30), int), {}, {}, (1.0, 2.0), (0, 1))
    assert zoom_box(empty) == (0.0, 20.0, 0.0, 60.0)


def test_zoom_stays_on_the_reference_if_an_arm_outlines_nearly_everything():
    case = _case(spacing=(2.0, 2.0))
    expected = zoom_box(case)
    case.predictions["good"][:] = 1
    assert zoom_box(case) == expected
    case.reference[:] = 0
    assert zoom_box(case) == (20.0, 140.0, 0.0, 120.0)


def test_zoom_tells_touching_organs_apart():
    case = _case()
    for plane in (case.reference, *case.predictions.values()):
        plane[:] = 0
        plane[:50] = 1
        plane[50:54, 10:14] = 2
    case.predictions["bad"][51:53, 11:13] = 0
    assert zoom_box(case) == (32.0, 72.0, 0.0, 40.0)


def test_a_row_per_case_and_a_column_per_arm_after_the_plain_image():
    figure = case_figure([_case(), _case()], ["good", "bad", "gone"], ["lesion"], title="Cases")
    titles = [panel.get_title() for panel in figure.axes]
    row = ["worst: demo/a", "good\nDice 1.00", "bad\nDice 0.97", "gone\nnot scored"]
    assert titles == row * 2
    plain, good, _, gone = figure.axes[:4]
    assert len(plain.collections) == 0
    assert [len(lines.get_segments()) for lines in good.collections] == [100, 100]
    assert not gone.images
    assert "no prediction" in [text.get_text() for text in gone.texts]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["reference", "prediction"]


def test_the_patients_right_is_on_the_left_and_pixels_measure_millimetres():
    panel = case_figure([_case(spacing=(0.5, 2.0))], ["good"], ["lesion"], title="").axes[1]
    assert panel.get_xlim() == (40.0, 0.0)  # what is outlined ends at 35 mm, 5 mm are left around it
    assert panel.get_ylim() == (35.0, 105.0)
    assert panel.get_aspect() == 1.0
    picture = panel.images[0]
    assert tuple(picture.get_extent()) == (0.0, 40.0, 0.0, 120.0)
    shown = np.asarray(picture.get_array())
    assert shown[20:26, 10:14].min() == 100
    assert shown.sum() == 100 * 24
    segments = np.concatenate(panel.collections[0].get_segments())
    assert segments[:, 0].min() == 10 * 0.5
    assert segments[:, 1].max() == 50 * 2.0
    texts = {text.get_text(): text.get_position() for text in panel.texts}
    assert texts["R"][0] < texts["L"][0]


def test_black_around_the_image_is_cut_off():
    case = _case()
    case.reference[:] = case.predictions["good"][:] = case.predictions["bad"][:] = 0
    case.reference[0, 0] = 1
    panel = case_figure([case], ["good"], ["lesion"], title="").axes[0]
    assert (panel.get_xlim(), panel.get_ylim()) == ((19.0, 0.0), (0.0, 31.0))
    case.reference[:], case.image[:] = 0, 0
    panel = case_figure([case], ["good"], ["lesion"], title="").axes[0]
    assert (panel.get_xlim(), panel.get_ylim()) == ((80.0, 0.0), (0.0, 60.0))


def test_many_organs_have_different_lines():
    case = _case()
    planes = 1 << np.arange(80 * 60).reshape(80, 60) % 14 >> 1
    case = replace(case, reference=planes, predictions={"good": planes})
    organs = [f"organ {number}" for number in range(13)]
    handles = case_figure([case], ["good"], organs, title="").legends[0].get_lines()
    assert len(handles) == 14
    looks = {(line.get_color(), line.get_linestyle(), str(line._unscaled_dash_pattern)) for line in handles}
    assert len(looks) == 14


def test_no_case_and_planes_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="no case"):
        case_figure([], ["good"], ["lesion"], title="")
    case = _case()
    case.predictions["bad"] = np.zeros((3, 3))
    with pytest.raises(ValueError, match="one shape"):
        case_figure([case], ["good"], ["lesion"], title="")


def test_organs_that_overlap_are_outlined_whole():
    case = _case()
    for plane in (case.reference, *case.predictions.values()):
        plane[:] = 0
        plane[10:30, 10:30] = 1
        plane[20:50, 20:40] |= 4
    panel = case_figure([case], ["good"], ["a", "b", "c"], title="").axes[1]
    # reference, then prediction: 2 (20 + 20) and 2 (30 + 20) edges, none of the second organ
    assert [len(lines.get_segments()) for lines in panel.collections] == [80, 0, 100] * 2
    handles = case_figure([case], ["good"], ["a", "b", "c"], title="").legends[0].get_texts()
    assert [text.get_text() for text in handles] == ["reference", "predicted a", "predicted c"]
    case.predictions["bad"][22:24, 22:24] = 4  # one of two organs is missing
    low, high, *_ = zoom_box(case)
    assert low <= 10 < 30 <= high
