"""Streaming inference against MONAI's sliding window and argmax."""

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch import nn

from mtmed.errors import InputError
from mtmed.inferers import StreamingArgmaxInferer


def _network(dims: int, classes: int, channels: int = 1) -> nn.Module:
    torch.manual_seed(3)
    convolution = nn.Conv3d if dims == 3 else nn.Conv2d
    layers = convolution(channels, 6, 3, padding=1), nn.ReLU(), convolution(6, classes, 3, padding=1)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("size", "roi", "overlap"),
    [
        ((40, 33, 27), (16, 16, 16), 0.5),
        ((40, 33, 27), (16, 16, 16), (0.25, 0.6, 0.0)),
        ((41, 20, 18), (13, 9, 18), 0.7),
        ((12, 30, 9), (16, 16, 16), 0.5),  # padded along the first and the last axis
        ((5, 6, 7), (8, 8, 8), 0.5),
        ((30, 12, 12), (-1, 8, 8), 0.5),
        ((45, 31), (16, 12), 0.5),
        ((9, 31), (16, 12), 0.25),
    ],
)
def test_labels_equal_monais_sliding_window_and_argmax(size, roi, overlap, mode, batch):
    network = _network(len(size), 5)
    image = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = sliding_window_inference(image, roi, batch, network, overlap=overlap, mode=mode, sigma_scale=0.125)
    ours = StreamingArgmaxInferer(roi_size=roi, sw_batch_size=batch, overlap=overlap, mode=mode)(image, network)
    assert ours.shape == (2, 1, *size)
    assert ours.dtype == torch.uint8
    assert len(ours.unique()) > 1
    assert torch.equal(ours.long(), logits.argmax(1, keepdim=True))


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("size", "roi", "voxels"),
    [
        ((32, 9, 11), (0.5, -1, -1), (16, 9, 11)),
        ((33, 9, 11), (0.5, -1, -1), (17, 9, 11)),
        ((1, 9, 11), (0.5, -1, -1), (1, 9, 11)),
        ((31, 30, 7), (0.4, 0.1, 8), (13, 3, 8)),
        ((33, 15), (0.5, -1), (17, 15)),
        ((33, 15), 0.5, (17, 8)),
    ],
)
def test_shares_of_the_image_are_windows_of_that_size_rounded_up(size, roi, voxels, mode):
    network = _network(len(size), 5)
    image = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = sliding_window_inference(image, voxels, 2, network, overlap=0, mode=mode)
    ours = StreamingArgmaxInferer(roi_size=roi, sw_batch_size=2, overlap=0, mode=mode)(image, network)
    assert torch.equal(ours.long(), logits.argmax(1, keepdim=True))


@pytest.mark.parametrize("rows", [12, 13])
def test_half_an_image_without_overlap_gives_its_two_halves_and_their_mean_in_the_row_they_share(rows):
    seen = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        seen.append(windows)
        return torch.cat([torch.zeros_like(windows), windows - windows.mean()], 1)

    image = torch.randn(1, 1, rows, 4, 5, generator=torch.Generator().manual_seed(4))
    labels = StreamingArgmaxInferer(roi_size=[0.5, -1, -1], overlap=0, mode="constant")(image, network)
    half = (rows + 1) // 2
    first, second = image[:, :, :half], image[:, :, rows - half :]
    assert [torch.equal(ours, theirs) for ours, theirs in zip(seen, (first, second), strict=True)] == [True, True]
    sums = torch.zeros_like(image)
    sums[:, :, :half] += first - first.mean()
    sums[:, :, rows - half :] += second - second.mean()
    assert torch.equal(labels.bool(), sums > 0)


def test_each_image_has_windows_of_its_own_share():
    sizes = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(windows.shape[2:]))
        return torch.cat([windows, -windows], 1)

    inferer = StreamingArgmaxInferer(roi_size=[0.5, -1], overlap=0)
    for size in ((10, 4), (7, 6)):
        assert inferer(torch.randn(1, 1, *size), network).shape == (1, 1, *size)
    assert sizes == [(5, 4), (5, 4), (4, 6), (4, 6)]


def test_a_share_is_one_of_the_image_also_where_only_the_foreground_is_computed():
    network = _network(3, 4, channels=2)
    image = _brain((33, 12, 10), (slice(20, 30), slice(0, 12), slice(0, 10)))
    ours, voxels = (
        StreamingArgmaxInferer(roi_size=roi, overlap=0, foreground="nonzero")(image, network)
        for roi in ([0.5, -1, -1], [17, -1, -1])
    )
    assert torch.equal(ours, voxels)
    assert ours.any()


@pytest.mark.parametrize("roi", [[1.5, 8, 8], [8, 8, -0.5], 2.5])
def test_a_window_that_is_neither_voxels_nor_a_share_is_refused(roi):
    with pytest.raises(ValueError, match=r"share in \(0, 1\)"):
        StreamingArgmaxInferer(roi_size=roi)


def test_padding_mode_and_value_are_monais():
    network = _network(3, 4)
    image = torch.randn(1, 1, 10, 9, 20, generator=torch.Generator().manual_seed(1))
    for mode, value in (("reflect", 0.0), ("constant", 2.5)):
        with torch.no_grad():
            logits = sliding_window_inference(
                image, (12, 12, 12), 2, network, overlap=0.5, mode="gaussian", padding_mode=mode, cval=value
            )
        ours = StreamingArgmaxInferer(roi_size=12, sw_batch_size=2, padding_mode=mode, cval=value)(image, network)
        assert torch.equal(ours.long(), logits.argmax(1, keepdim=True))


def test_batches_of_windows_are_full_but_the_last():
    counts: list[int] = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        counts.append(len(windows))
        return torch.cat([windows, -windows], 1)

    StreamingArgmaxInferer(roi_size=8, sw_batch_size=4)(torch.randn(1, 1, 24, 14, 8), network)  # 5 * 3 windows
    assert counts == [4, 4, 4, 3]


@pytest.mark.parametrize("heads", [(2, 4), (3, 3), (2, 2, 2), (6,)])
def test_each_head_has_the_argmax_of_its_own_channels(heads):
    network = _network(3, 6)
    image = torch.randn(2, 1, 20, 17, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = sliding_window_inference(image, (8, 8, 8), 3, network, overlap=0.5, mode="gaussian")
    expected = torch.cat([part.argmax(1, keepdim=True) for part in logits.split(heads, 1)], 1)
    ours = StreamingArgmaxInferer(roi_size=8, sw_batch_size=3, heads=heads)(image, network)
    assert ours.shape == (2, len(heads), 20, 17, 12)
    assert torch.equal(ours.long(), expected)


def test_heads_that_are_not_the_networks_channels_are_refused():
    with pytest.raises(ValueError, match=r"heads \(2, 4\) are 6 channels, the network gives 5"):
        StreamingArgmaxInferer(roi_size=8, heads=[2, 4])(torch.zeros(1, 1, 8, 8, 8), _network(3, 5))


@pytest.mark.parametrize("heads", [[], [2, 1]])
def test_heads_without_a_choice_are_refused(heads):
    with pytest.raises(ValueError, match="at least 2 channels"):
        StreamingArgmaxInferer(roi_size=8, heads=heads)


def _brain(size: tuple[int, ...], box: tuple[slice, ...], *, channels: int = 2, seed: int = 0) -> torch.Tensor:
    image = torch.zeros(1, channels, *size)
    values = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    image[(..., *box)] = values[(..., *box)]
    return image


@pytest.mark.parametrize(
    ("size", "brain", "computed"),
    [
        # 21 voxels: 5 windows of 8 at steps of 4 cover 24; 9 need 2, which cover 12; 5 are fewer than a window
        ((40, 33, 27), (slice(7, 28), slice(20, 29), slice(3, 8)), (slice(6, 30), slice(19, 31), slice(2, 10))),
        ((40, 6, 27), (slice(0, 4), slice(1, 4), slice(23, 27)), (slice(0, 8), slice(0, 6), slice(19, 27))),
        ((45, 31), (slice(30, 45), slice(2, 12)), (slice(29, 45), slice(1, 13))),
    ],
)
def test_foreground_is_predicted_on_monais_windows_of_its_box(size, brain, computed):
    network = _network(len(size), 4, channels=2)
    image = _brain(size, brain)
    roi = (8,) * len(size)
    with torch.no_grad():
        logits = sliding_window_inference(image[(..., *computed)], roi, 2, network, overlap=0.5, mode="gaussian")
    expected = torch.zeros(1, 1, *size, dtype=torch.long)
    expected[(..., *computed)] = logits.argmax(1, keepdim=True)
    ours = StreamingArgmaxInferer(roi_size=8, sw_batch_size=2, foreground="nonzero")(image, network)
    assert len(ours.unique()) > 1
    assert torch.equal(ours.long(), expected)


@pytest.mark.parametrize("size", [(40, 33, 27), (45, 31)])
def test_a_network_of_single_voxels_gives_the_same_foreground_wherever_the_windows_lie(size):
    network = nn.Conv3d(2, 5, 1) if len(size) == 3 else nn.Conv2d(2, 5, 1)
    image = _brain(size, tuple(slice(5, side - 9) for side in size))
    whole = StreamingArgmaxInferer(roi_size=8)(image, network)
    boxed = StreamingArgmaxInferer(roi_size=8, foreground="nonzero")(image, network)
    inside = (image != 0).any(1, keepdim=True)
    assert torch.equal(whole[inside], boxed[inside])


def test_windows_without_foreground_are_background_and_not_computed():
    calls: list[int] = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        calls.append(len(windows))
        return torch.cat([torch.zeros_like(windows), torch.ones_like(windows)], 1)

    image = torch.zeros(1, 1, 64, 8, 8)
    image[0, 0, [4, 50]] = 1.0
    image[0, 0, 20] = 0.4
    labels = StreamingArgmaxInferer(roi_size=8, overlap=0, foreground=0.5)(image, network)
    assert sum(calls) == 2  # the box is 4..52, in windows of 8
    assert labels.flatten(2).sum(2).item() == 2 * 8 * 8 * 8
    assert labels[0, 0, [4, 50]].eq(1).all()


def test_images_of_a_batch_have_boxes_of_their_own():
    network = _network(3, 3, channels=2)
    size = (30, 24, 20)
    first = _brain(size, (slice(2, 12), slice(3, 9), slice(10, 20)))
    second = _brain(size, (slice(15, 29), slice(0, 24), slice(4, 7)), seed=1)
    inferer = StreamingArgmaxInferer(roi_size=8, foreground="nonzero")
    both = inferer(torch.cat([first, second]), network)
    assert torch.equal(both, torch.cat([inferer(first, network), inferer(second, network)]))


def test_an_image_without_foreground_is_background_with_one_warning(caplog):
    image = MetaTensor(torch.zeros(1, 2, 16, 12, 9), meta={"filename_or_obj": "empty.nii.gz"})
    inferer = StreamingArgmaxInferer(roi_size=8, foreground="nonzero", heads=[2, 4])
    labels = inferer(image, _network(3, 6, channels=2))
    assert labels.shape == (1, 2, 16, 12, 9)
    assert labels.dtype == torch.uint8
    assert not labels.any()
    assert [record.message for record in caplog.records] == [
        "empty.nii.gz: has no foreground (nonzero), so its labels are all background"
    ]


def test_damaged_voxels_outside_the_foreground_are_still_found():
    image = torch.zeros(1, 1, 16, 16, 16)
    image[0, 0, 3, 3, 3] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        StreamingArgmaxInferer(roi_size=8, foreground=0.5)(image, _network(3, 2))


def test_more_than_256_classes_need_int16():
    def network(windows: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(windows), 300, *windows.shape[2:])
        logits[:, 299] = 1
        return logits

    labels = StreamingArgmaxInferer(roi_size=4)(torch.zeros(1, 1, 6, 6, 6), network)
    assert labels.dtype == torch.int16
    assert labels.eq(299).all()


def test_half_precision_logits_are_summed_in_single_precision():
    network = _network(3, 3)
    image = torch.randn(1, 1, 20, 12, 12)
    single = StreamingArgmaxInferer(roi_size=8)(image, lambda x: network(x).bfloat16().float())
    half = StreamingArgmaxInferer(roi_size=8)(image, lambda x: network(x).bfloat16())
    assert torch.equal(single, half)


@pytest.mark.parametrize("foreground", [None, "nonzero"])
def test_meta_data_and_device_of_the_image_are_kept(foreground):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    brain = _brain((20, 10, 10), (slice(9, 18), slice(2, 7), slice(2, 7)), channels=1)
    image = MetaTensor(brain, affine=affine, meta={"filename_or_obj": "a.nii.gz"})
    labels = StreamingArgmaxInferer(roi_size=8, foreground=foreground)(image, _network(3, 2))
    assert isinstance(labels, MetaTensor)
    assert labels.shape == image.shape
    assert torch.equal(labels.affine, image.affine)
    assert labels.meta["filename_or_obj"] == "a.nii.gz"


def test_output_that_is_not_finite_is_refused_by_the_name_of_the_image():
    image = MetaTensor(torch.randn(1, 1, 8, 8, 8), meta={"filename_or_obj": "scan.nii.gz"})
    image[0, 0, 1, 1, 1] = torch.nan
    with pytest.raises(InputError, match=r"scan\.nii\.gz: the network's output is not finite"):
        StreamingArgmaxInferer(roi_size=8)(image, _network(3, 2))


def test_networks_with_several_or_smaller_outputs_are_refused():
    image = torch.randn(1, 1, 8, 8, 8)
    with pytest.raises(ValueError, match="one tensor of the windows' size"):
        StreamingArgmaxInferer(roi_size=8)(image, lambda x: x[..., ::2])
    with pytest.raises(ValueError, match="it gave tuple"):
        StreamingArgmaxInferer(roi_size=8)(image, lambda x: (x, x))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(("name", "value"), [("overlap", 1.0), ("overlap", -0.1), ("sw_batch_size", 0)])
def test_options_outside_their_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        StreamingArgmaxInferer(roi_size=8, **{name: value})
