"""The dense U-Net: its layers and their order, any size of image, recomputed layers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtmed.engines.precision import keep_thin_maps_in_float32
from mtmed.errors import InputError
from mtmed.networks import (
    DenseUNet,
    build_network,
    load_network,
    save_encoder,
    save_network,
    transfer_encoder,
    with_foreground_prior,
)

TARGET = "mtmed.networks.DenseUNet"


def make(seed: int = 0, **options: Any) -> DenseUNet:
    torch.manual_seed(seed)
    network = DenseUNet(**{"in_channels": 1, "out_channels": 2, **options})
    for parameter in network.parameters():  # normalisations do not start as the identity here
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.3)
    return network


def reference(state: dict[str, Tensor], image: Tensor, paper_order: bool) -> Tensor:
    """The network of the methods text, written with functions and in float64."""
    dims = image.dim() - 2
    convolve: Callable[..., Tensor] = [functional.conv2d, functional.conv3d][dims - 2]
    transpose: Callable[..., Tensor] = [functional.conv_transpose2d, functional.conv_transpose3d][dims - 2]
    state = {name: value.double() for name, value in state.items()}

    def layer(name: str, x: Tensor, **options: Any) -> Tensor:
        return convolve(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def normalised(name: str, x: Tensor, **options: Any) -> Tensor:
        x = functional.group_norm(x, 4, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]).relu()
        return layer(f"{name}.convolutions.0", x, **options)

    def up(name: str, x: Tensor) -> Tensor:
        return transpose(x, state[f"{name}.deconv.weight"], state[f"{name}.deconv.bias"], stride=2)

    skips = []
    x = layer("stem", image.double(), stride=1 if paper_order else 2, padding=1)
    for block, layers in enumerate((2, 2, 4, 8)):
        for number in range(layers):
            x = torch.cat([x, normalised(f"blocks.{block}.{number}", x, padding=1)], 1)
        if paper_order:
            x = normalised(f"transitions.{block}.0", x, stride=2)
            x = normalised(f"transitions.{block}.1", x)
            skips.append(x)
        elif block < 3:
            x = normalised(f"transitions.{block}.0", x)
            x = layer(f"transitions.{block}.0.convolutions.1", x, stride=2)
            skips.append(x)
    if paper_order:
        skips.pop()
    for block in range(4 if paper_order else 3):
        if not paper_order or block > 0:
            x = torch.cat([x, skips.pop()], 1)
        for number in range(2):
            x = normalised(f"decoder_blocks.{block}.{number}", x, padding=1)
        x = up(f"upsamples.{block}", x)
    return layer("final_conv", x if paper_order else up("upsamples.2", x))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("paper_order", [False, True])
def test_logits_equal_those_of_the_network_written_with_functions(paper_order: bool, spatial_dims: int) -> None:
    network = make(in_channels=2, out_channels=3, paper_order=paper_order, spatial_dims=spatial_dims).double()
    image = torch.rand(2, 2, *(32, 16, 48)[:spatial_dims], dtype=torch.float64)
    torch.testing.assert_close(network(image), reference(network.state_dict(), image, paper_order))


def test_channels_and_strides_are_those_of_the_authors_code() -> None:
    network = make()
    seen: list[tuple[int, int]] = []
    for block in network.blocks:
        block.register_forward_hook(
            lambda _, __, maps: seen.append((sum(m.shape[1] for m in maps), 64 // maps[0].shape[2]))
        )
    features = network.encode(torch.rand(1, 1, 64, 32, 48))
    assert seen == [(12, 2), (48, 4), (80, 8), (144, 16)]
    assert network.level_channels == [16, 16, 16, 144] == [f.shape[1] for f in features]
    assert network.level_strides == [4, 8, 16, 16]
    assert [tuple(f.shape[2:]) for f in features] == [(64 // s, 32 // s, 48 // s) for s in network.level_strides]
    assert network.decode(features).shape == (1, network.decoder_channels, 64, 32, 48)
    assert network.decoder_channels == 4


def test_the_papers_order_has_a_transition_after_each_of_the_four_blocks() -> None:
    network = make(paper_order=True)
    features = network.encode(torch.rand(1, 1, 32, 16, 48))
    assert network.level_channels == [16, 16, 16, 16] == [f.shape[1] for f in features]
    assert network.level_strides == [2, 4, 8, 16]
    assert [tuple(f.shape[2:]) for f in features] == [(32 // s, 16 // s, 48 // s) for s in network.level_strides]
    assert network.decode(features).shape == (1, network.decoder_channels, 32, 16, 48)


def normalised_parameters(channels: int, out: int, kernel: int) -> int:
    return 2 * channels + kernel**3 * channels * out + out


def test_parameters_are_as_many_as_counted_by_hand() -> None:
    n = normalised_parameters
    blocks = n(4, 4, 3) + n(8, 4, 3)
    blocks += n(16, 16, 3) + n(32, 16, 3)
    blocks += sum(n(channels, 16, 3) for channels in (16, 32, 48, 64))
    blocks += sum(n(channels, 16, 3) for channels in (16, 32, 48, 64, 80, 96, 112, 128))
    halving = 2**3 * 16 * 16 + 16
    transitions = n(12, 16, 1) + n(48, 16, 1) + n(80, 16, 1) + 3 * halving
    decoder = n(160, 128, 3) + n(128, 128, 3) + n(80, 32, 3) + n(32, 32, 3) + n(32, 4, 3) + n(4, 4, 3)
    upsamples = (8 * 128 * 64 + 64) + (8 * 32 * 16 + 16) + (8 * 4 * 4 + 4)
    stem, head = 27 * 4 + 4, 4 * 2 + 2
    counted = stem + blocks + transitions + decoder + upsamples + head
    assert sum(parameter.numel() for parameter in make().parameters()) == counted == 1_517_718


def order_of_layers(network: DenseUNet) -> str:
    """Layers as they are called: s stem, n norm (with ReLU), c 3³, m 1³, h halving, u upsampling."""
    calls: list[str] = []

    def called(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module is network.stem:
            letter = "s"
        elif isinstance(module, nn.GroupNorm):
            letter = "n"
        elif isinstance(module, nn.ConvTranspose3d):
            letter = "u"
        else:
            assert isinstance(module, nn.Conv3d)
            letter = {1: "m", 2: "h", 3: "c"}[module.kernel_size[0]]
        if calls[-1:] == ["n"]:
            assert inputs[0].min() >= 0
        calls.append(letter)

    for module in network.modules():
        if isinstance(module, nn.GroupNorm | nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(called)
    network(torch.rand(1, 1, 16, 16, 16))
    return "".join(calls)


def test_a_group_norm_precedes_every_convolution_of_the_blocks_and_every_transition() -> None:
    encoder = "s" + "ncnc" + "nmh" + "ncnc" + "nmh" + "nc" * 4 + "nmh" + "nc" * 8
    assert order_of_layers(make()) == encoder + "ncncu" * 3 + "u" + "m"


def test_in_the_papers_order_the_stride_comes_first_and_has_a_group_norm_too() -> None:
    encoder = "s" + "".join("nc" * layers + "nhnm" for layers in (2, 2, 4, 8))
    assert order_of_layers(make(paper_order=True)) == encoder + "ncncu" * 4 + "m"


def test_the_last_transposed_convolution_is_applied_twice() -> None:
    network = make()
    sides: list[int] = []
    network.upsamples[2].register_forward_hook(lambda _, __, output: sides.append(output.shape[2]))
    network(torch.rand(1, 1, 32, 32, 32)).sum().backward()
    assert sides == [16, 32]
    names = [name for name, _ in network.named_parameters() if "upsamples" in name]
    assert names == [f"upsamples.{level}.deconv.{kind}" for level in range(3) for kind in ("weight", "bias")]


@pytest.mark.parametrize("paper_order", [False, True])
@pytest.mark.parametrize("size", [(37, 16, 20), (1, 2, 3), (50, 33)])
def test_any_size_equals_the_same_image_padded_by_hand(size: tuple[int, ...], paper_order: bool) -> None:
    network = make(spatial_dims=len(size), paper_order=paper_order)
    image = torch.rand(1, 1, *size)
    padded = torch.zeros(1, 1, *(16 * -(-side // 16) for side in size))
    before = [-side % 16 // 2 for side in size]
    inside = (..., *(slice(start, start + side) for start, side in zip(before, size, strict=True)))
    padded[inside] = image
    logits = network(image)
    assert logits.shape == (1, 2, *size)
    torch.testing.assert_close(logits, network(padded)[inside])


def test_images_of_a_batch_do_not_see_each_other() -> None:
    network, images = make(), torch.rand(3, 1, 32, 16, 16)
    together = network(images)
    for image, logits in zip(images, together, strict=True):
        torch.testing.assert_close(network(image[None])[0], logits, rtol=1e-4, atol=1e-5)


def gradients(network: nn.Module, image: Tensor) -> list[Tensor]:
    network.zero_grad()
    network(image).square().mean().backward()
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def kept_bytes(network: nn.Module, image: Tensor) -> int:
    """Bytes that autograd keeps between forward and backward pass, without parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(image)
    assert output.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("paper_order", [False, True])
def test_recomputed_layers_have_the_same_gradients_and_keep_less(paper_order: bool) -> None:
    plain, recomputing = (make(paper_order=paper_order, recompute=recompute) for recompute in (False, True))
    image = torch.rand(1, 1, 32, 30, 16)
    expected = gradients(plain, image)
    assert len(expected) == len(list(plain.parameters()))
    torch.testing.assert_close(gradients(recomputing, image), expected, rtol=1e-6, atol=0)
    with torch.no_grad():
        assert torch.equal(recomputing(image), plain(image))
    assert kept_bytes(recomputing, image) < 0.5 * kept_bytes(plain, image)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("paper_order", [False, True])
def test_gradients_are_the_slope_of_the_loss(paper_order: bool, recompute: bool) -> None:
    options = {"block_layers": [1, 2, 1, 1], "growth": [4, 8, 4, 4], "spatial_dims": 2}
    network = make(paper_order=paper_order, recompute=recompute, **options).double()
    image = torch.rand(1, 1, 32, 30, dtype=torch.float64)
    slopes = gradients(network, image)
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in network.parameters()]
    values = []
    with torch.no_grad():
        for step in (-1e-6, 1e-6):
            for parameter, direction in zip(network.parameters(), directions, strict=True):
                parameter += step * direction
            values.append(network(image).square().mean())
            for parameter, direction in zip(network.parameters(), directions, strict=True):
                parameter -= step * direction
    expected = sum((slope * direction).sum() for slope, direction in zip(slopes, directions, strict=True))
    torch.testing.assert_close((values[1] - values[0]) / 2e-6, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"paper_order": True}, {"recompute": True}, {"spatial_dims": 2}])
def test_scripted_network_gives_the_same_logits(options: dict[str, Any]) -> None:
    network = make(**options)
    image = torch.rand(1, 1, *(33, 16, 20)[: network.spatial_dims])
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(image), network(image), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(scripted.encode(image), network.encode(image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_exported_program_gives_the_same_logits() -> None:
    network, image = make(recompute=True).eval(), torch.rand(1, 1, 20, 16, 16)
    with torch.no_grad():
        program = torch.export.export(network, (image,))
        torch.testing.assert_close(program.module()(image), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("paper_order", [False, True])
def test_the_encoder_is_what_encode_reaches_and_nothing_else(paper_order: bool) -> None:
    network = make(paper_order=paper_order)
    network.encode(torch.rand(1, 1, 32, 16, 16))[-1].sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}


def test_it_is_rebuilt_from_its_weights_file(tmp_path: Any) -> None:
    definition = {"_target_": TARGET, "in_channels": 1, "out_channels": 2, "block_layers": [1, 1, 2, 1]}
    network = build_network(definition).eval()
    save_network(tmp_path / "model.pt", network, {})
    image = torch.rand(1, 1, 16, 16, 20)
    assert torch.equal(load_network(tmp_path / "model.pt")[0](image), network(image))


def test_a_pretrained_encoder_arrives_whole_whether_layers_are_recomputed_or_not(tmp_path: Any) -> None:
    definition = {"_target_": TARGET, "in_channels": 1, "out_channels": 2}
    pretrained = build_network({**definition, "recompute": True})
    save_encoder(tmp_path / "encoder.pt", pretrained, {})
    network: Any = build_network(definition)
    report = transfer_encoder(network, tmp_path / "encoder.pt")
    assert len(report.transferred) == report.expected
    assert all(name.startswith(("decoder_blocks.", "upsamples.", "final_conv.")) for name in report.fresh)
    image = torch.rand(1, 1, 16, 16, 16)
    assert torch.equal(network.encode(image)[-1], pretrained.encode(image)[-1])  # type: ignore[operator]


def test_a_foreground_prior_lands_in_the_head() -> None:
    network = with_foreground_prior(make(), 0.01, classes=2)
    assert network.final_conv.bias.softmax(0)[1].item() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("size", [(32, 32, 32), (16, 16, 16), (30, 17, 16), (48, 16, 16)])
def test_bfloat16_gradients_are_close_to_those_of_float32(size: tuple[int, ...], recompute: bool) -> None:
    """The coarsest maps are 2, 1, 2 and 3 voxels high here."""
    torch.manual_seed(0)
    network = DenseUNet(in_channels=1, out_channels=2, recompute=recompute)
    keep_thin_maps_in_float32(network)
    image = torch.rand(1, 1, *size)

    def joined(enabled: bool) -> Tensor:
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = network(image)
        (logits.float() - image).square().mean().backward()
        return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

    expected = joined(False)
    for _ in range(2):
        # memory that is given back full of NaN is what unwritten gradients are read from
        dirty = [torch.full((size,), torch.nan) for size in (1000, 7000, 100_000, 1_000_000)]
        del dirty
        assert (joined(True) - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"block_layers": [2, 2, 4]}, "block_layers"),
        ({"growth": [4, 16, 16, 0]}, "growth"),
        ({"growth": [4, 16, 16, 6]}, "does not divide growth 6"),
        ({"stem_channels": 6}, "stem_channels"),
        ({"groups": 8, "growth": [8] * 4, "stem_channels": 8}, "decoder's last"),
        ({"groups": 0}, "below 1"),
        ({"spatial_dims": 1}, "spatial_dims"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        build_network({"_target_": TARGET, "in_channels": 1, "out_channels": 2, **options})
