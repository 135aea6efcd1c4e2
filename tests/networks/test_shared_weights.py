"""What pre-training hands on, and where it arrives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtmed.errors import InputError
from mtmed.networks import build_network, load_network, save_encoder, save_network, save_shared, transfer_shared
from mtmed.networks.weights import load_weights
from mtmed.tasks import MultiTaskModel, Reconstruction, Segmentation

SETTINGS = {"image_size": [16, 16]}
CHANNELS = {"in_channels": 1, "out_channels": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "SmallUNet": {"base_channels": 2, "depth": 2},
    "UNet": {"features": [2, 2, 4, 4, 8, 2], "spatial_dims": 3},
    "UNETR": {"img_size": [16, 16], "spatial_dims": 2, "feature_size": 2, "hidden_size": 12, "mlp_dim": 12}
    | {"num_heads": 2},
    "DenseUNet": {"block_layers": [1, 1, 1, 1], "spatial_dims": 2},
    "BigUNet": {},
    "SegmentationModel": {"architecture": "Unet", "encoder": "resnet18"},
}


def definition(name: str, **changes: Any) -> dict[str, Any]:
    return {"_target_": f"mtmed.networks.{name}", **CHANNELS, **NETWORKS[name], **changes}


def make(name: str, seed: int = 0, **changes: Any) -> Any:
    if name == "SegmentationModel":
        pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(seed)
    return build_network(definition(name, **changes))


def encoder_of(network: Any) -> set[str]:
    return {name for name in network.state_dict() if name.startswith(network.encoder_prefixes)}


def decoding(network: nn.Module) -> MultiTaskModel:
    return MultiTaskModel(network=network, tasks={"ae": Reconstruction(views=["patch"])})


def encoding(network: nn.Module) -> MultiTaskModel:
    return MultiTaskModel(network=network, tasks={"ae": Reconstruction(views=["patch"], branch="coarsest")})


@pytest.mark.parametrize("name", [*NETWORKS])
def test_a_task_of_the_decoded_map_shares_all_but_the_head(name: str, tmp_path: Path) -> None:
    network = make(name)
    decoding(network)
    save_shared(tmp_path / "shared.pt", network, SETTINGS)
    head = {key for key in network.state_dict() if key.startswith(("final_conv.", "out."))}
    assert len(head) == 2
    assert set(load_weights(tmp_path / "shared.pt")["model"]) == set(network.state_dict()) - head


@pytest.mark.parametrize("name", [*NETWORKS])
def test_a_task_of_the_feature_maps_shares_the_encoder_alone(name: str, tmp_path: Path) -> None:
    network = make(name)
    encoding(network)
    save_shared(tmp_path / "shared.pt", network, SETTINGS)
    assert set(load_weights(tmp_path / "shared.pt")["model"]) == encoder_of(network)


def test_the_head_stays_even_if_it_was_trained(tmp_path: Path) -> None:
    network = make("SmallUNet")
    MultiTaskModel(network=network, tasks={"segmentation": Segmentation(loss=nn.CrossEntropyLoss())})
    save_shared(tmp_path / "shared.pt", network, SETTINGS)
    assert not any(name.startswith("final_conv.") for name in load_weights(tmp_path / "shared.pt")["model"])


def test_moments_of_batch_normalisation_go_with_their_layer(tmp_path: Path) -> None:
    network = make("BigUNet")
    trained = [name for name, _ in network.named_parameters() if name.startswith("ups.0.")]
    save_shared(tmp_path / "shared.pt", network, SETTINGS, trained=trained)
    beyond = set(load_weights(tmp_path / "shared.pt")["model"]) - encoder_of(network)
    assert beyond == {name for name in network.state_dict() if name.startswith("ups.0.")}
    assert any(name.endswith("running_var") for name in beyond)


@pytest.mark.parametrize("pre_train", [decoding, encoding], ids=["decoded", "encoded"])
def test_what_is_shared_arrives_and_the_rest_stays(pre_train: Any, tmp_path: Path) -> None:
    network, target = make("SmallUNet"), make("SmallUNet", seed=1, out_channels=5)
    pre_train(network)
    save_shared(tmp_path / "shared.pt", network, SETTINGS)
    shared = load_weights(tmp_path / "shared.pt")["model"]
    before = {name: value.clone() for name, value in target.state_dict().items()}
    report = transfer_shared(target, tmp_path / "shared.pt")
    for name, value in target.state_dict().items():
        assert torch.equal(value, shared.get(name, before[name])), name
    assert set(report.transferred) == set(shared)
    assert set(report.fresh) == set(before) - set(shared)
    beyond = len(shared) - report.expected
    assert report.decoder == beyond
    assert report.expected == len(encoder_of(target))
    assert f"encoder: {report.expected} of {report.expected} tensors transferred" in str(report)
    assert (f"and {beyond} of the decoder" in str(report)) == (pre_train is decoding)


def test_another_width_is_refused_in_one_line(tmp_path: Path) -> None:
    save_shared(tmp_path / "shared.pt", make("SmallUNet"), SETTINGS)
    with pytest.raises(InputError, match=r"shared\.pt: only \d+ of \d+ tensors fit \(conv_0\.") as caught:
        transfer_shared(make("SmallUNet", base_channels=4), tmp_path / "shared.pt")
    assert "\n" not in str(caught.value)


def test_a_decoder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    network = make("UNet", features=[2, 2, 4, 4, 8, 4])
    save_shared(tmp_path / "shared.pt", network, SETTINGS)
    with pytest.raises(InputError, match=r"upcat_1\..* in the file, .* in the network"):
        transfer_shared(make("UNet"), tmp_path / "shared.pt")


def test_a_missing_tensor_of_the_encoder_is_named(tmp_path: Path) -> None:
    save_shared(tmp_path / "shared.pt", make("SmallUNet"), SETTINGS)
    content = torch.load(tmp_path / "shared.pt")
    gone = next(iter(content["model"]))
    del content["model"][gone]
    torch.save(content, tmp_path / "shared.pt")
    with pytest.raises(InputError, match=rf"\({gone}: missing in the file"):
        transfer_shared(make("SmallUNet"), tmp_path / "shared.pt")


@pytest.mark.parametrize("save", [save_encoder, save_network])
def test_a_file_of_another_kind_is_refused(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "other.pt", make("SmallUNet"), SETTINGS)
    with pytest.raises(InputError, match=r"other\.pt: is not what a pre-training run shares"):
        transfer_shared(make("SmallUNet"), tmp_path / "other.pt")


def test_what_is_shared_is_not_taken_for_a_network(tmp_path: Path) -> None:
    save_shared(tmp_path / "shared.pt", make("SmallUNet"), SETTINGS)
    with pytest.raises(InputError, match="not an encoder"):
        load_network(tmp_path / "shared.pt")


def test_a_name_that_is_no_parameter_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'wings'"):
        save_shared(tmp_path / "shared.pt", make("SmallUNet"), SETTINGS, trained=["wings"])
