"""Weights files: whole networks, encoders, and what happens when they do not fit."""

import os
import resource
from pathlib import Path

import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks import (
    atomic_save,
    build_network,
    carried,
    load_network,
    network_definition,
    save_encoder,
    save_network,
    transfer_encoder,
)

DEFINITION = {
    "_target_": "mtmed.networks.UNETR",
    "in_channels": 1,
    "out_channels": 2,
    "img_size": [16, 16, 16],
    "feature_size": 4,
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_heads": 2,
}
SETTINGS = {"spacing": [4.0, 4.0, 5.0], "patch_size": [16, 16, 16]}


class TestDefinition:
    def test_a_built_network_knows_its_definition(self) -> None:
        assert network_definition(build_network(DEFINITION)) == DEFINITION

    @pytest.mark.parametrize("target", ["subprocess.run", "torch.nn.Linear", "mtmed.networks.nothing", 3])
    def test_only_network_classes_may_be_named(self, target: object) -> None:
        with pytest.raises(InputError, match="not a network"):
            build_network({**DEFINITION, "_target_": target})

    def test_an_argument_the_class_does_not_take_is_named(self) -> None:
        with pytest.raises(InputError, match="wings"):
            build_network({**DEFINITION, "wings": 2})

    def test_objects_are_refused_as_arguments(self) -> None:
        with pytest.raises(InputError, match="plain"):
            build_network({**DEFINITION, "norm_name": object()})


class TestWholeNetwork:
    def test_a_saved_network_comes_back_with_weights_and_settings(self, tmp_path: Path) -> None:
        network = build_network(DEFINITION).eval()
        save_network(tmp_path / "model.pt", network, SETTINGS)
        loaded, settings = load_network(tmp_path / "model.pt")
        image = torch.rand(1, 1, 16, 16, 16)
        assert torch.equal(loaded(image), network(image))
        assert settings == SETTINGS

    def test_an_encoder_is_not_taken_for_a_network(self, tmp_path: Path) -> None:
        save_encoder(tmp_path / "encoder.pt", build_network(DEFINITION), SETTINGS)
        with pytest.raises(InputError, match="not an encoder"):
            load_network(tmp_path / "encoder.pt")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"gone\.pt: no such file"):
            load_network(tmp_path / "gone.pt")

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
    def test_a_truncated_file_is_refused(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "model.pt"
        save_network(path, build_network(DEFINITION), SETTINGS)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(InputError, match=r"model\.pt"):
            load_network(path)

    def test_a_pickled_object_is_refused_and_not_run(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "sprung"),)

        torch.save({"model": Trap()}, tmp_path / "model.pt")
        with pytest.raises(InputError, match="more than tensors"):
            load_network(tmp_path / "model.pt")
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        ("network", "argument"), [("BigUNet", "imagenet_weights"), ("SegmentationModel", "encoder_weights")]
    )
    def test_a_file_may_not_say_which_weights_its_network_starts_from(
        self, tmp_path: Path, network: str, argument: str
    ) -> None:
        definition = {"_target_": f"mtmed.networks.{network}", "in_channels": 1, "out_channels": 1, argument: "other"}
        torch.save({"model": {}, "network_def": definition, "settings": {}}, tmp_path / "model.pt")
        with pytest.raises(InputError, match=rf"model\.pt: its network_def names {argument}, .* that mtmed wrote"):
            load_network(tmp_path / "model.pt")

    def test_names_of_a_wrapped_network_lose_their_prefix_and_that_is_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        network = build_network(DEFINITION)
        state = {f"module.{name}": value for name, value in network.state_dict().items()}
        torch.save({"model": state, "network_def": DEFINITION, "settings": SETTINGS}, tmp_path / "model.pt")
        with caplog.at_level("INFO"):
            loaded, _ = load_network(tmp_path / "model.pt")
            load_network(tmp_path / "model.pt")
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())
        assert [record.getMessage() for record in caplog.records] == [
            f"Notice: the names of the weights in {tmp_path / 'model.pt'} begin with module., which is taken off"
        ]

    def test_weights_of_another_architecture_say_how_many_fit(self, tmp_path: Path) -> None:
        state = build_network(DEFINITION).state_dict()
        other = {**DEFINITION, "out_channels": 5}
        torch.save({"model": state, "network_def": other, "settings": SETTINGS}, tmp_path / "model.pt")
        fits = len(state) - 2  # weight and bias of the last layer
        said = rf"only {fits} of the {len(state)} tensors of its network_def fit \(out\.conv\.conv\.weight: \[2, 4"
        with pytest.raises(InputError, match=said):
            load_network(tmp_path / "model.pt")

    @pytest.mark.parametrize(
        ("content", "said"),
        [({"model": [1]}, "its model is no dictionary"), ({"model": {"a": 3}}, "a is no dense tensor of numbers")],
    )
    def test_a_model_that_is_no_dictionary_of_tensors_is_refused(
        self, tmp_path: Path, content: dict[str, object], said: str
    ) -> None:
        torch.save({"network_def": DEFINITION, "settings": SETTINGS, **content}, tmp_path / "model.pt")
        with pytest.raises(InputError, match=said):
            load_network(tmp_path / "model.pt")

    def test_non_finite_weights_are_refused(self, tmp_path: Path) -> None:
        network = build_network(DEFINITION)
        state = network.state_dict()
        state["out.conv.conv.bias"][0] = float("nan")
        torch.save({"model": state, "network_def": DEFINITION, "settings": {}}, tmp_path / "model.pt")
        with pytest.raises(InputError, match="not finite"):
            load_network(tmp_path / "model.pt")


class TestTransfer:
    def test_all_encoder_tensors_arrive_and_the_rest_stays(self, tmp_path: Path) -> None:
        source = build_network(DEFINITION)
        target = build_network({**DEFINITION, "out_channels": 5})
        before = {name: value.clone() for name, value in target.state_dict().items()}
        save_encoder(tmp_path / "encoder.pt", source, SETTINGS)
        report = transfer_encoder(target, tmp_path / "encoder.pt")
        own, after = source.state_dict(), target.state_dict()
        for name in after:
            expected = own[name] if name.startswith(target.encoder_prefixes) else before[name]
            assert torch.equal(after[name], expected), name
        assert len(report.transferred) == report.expected
        assert f"{report.expected} of {report.expected} tensors" in str(report)

    def test_another_width_is_refused_with_the_numbers(self, tmp_path: Path) -> None:
        save_encoder(tmp_path / "encoder.pt", build_network(DEFINITION), SETTINGS)
        with pytest.raises(InputError, match=r"only \d+ of the encoder's \d+ tensors fit"):
            transfer_encoder(build_network({**DEFINITION, "hidden_size": 48}), tmp_path / "encoder.pt")

    def test_settings_are_carried_over(self, tmp_path: Path) -> None:
        save_encoder(tmp_path / "encoder.pt", build_network(DEFINITION), SETTINGS)
        assert carried(tmp_path / "encoder.pt", "spacing", None) == [4.0, 4.0, 5.0]
        assert carried(None, "spacing", [1.0, 1.0, 1.0]) == [1.0, 1.0, 1.0]
        with pytest.raises(InputError, match="no setting 'window'"):
            carried(tmp_path / "encoder.pt", "window", None)


@pytest.mark.parametrize("content", [b"", b"junk", b"hello world\n", b"t", b"PK\x03\x04", b"K\x01."])
def test_a_file_of_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pt: is (empty|damaged or not a weights file); copy it again"):
        load_network(tmp_path / "model.pt")


class TestAtomicSave:
    def test_a_failed_write_leaves_the_old_file_and_no_fragment(self, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.pt"
        atomic_save({"value": torch.zeros(10)}, path)
        old = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        import signal

        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(InputError, match=r"checkpoint\.pt: no space left"):
                atomic_save({"value": torch.zeros(100_000)}, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.read_bytes() == old
        assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(InputError, match="cannot be written"):
            atomic_save({}, tmp_path / "file" / "checkpoint.pt")
