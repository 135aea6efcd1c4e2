"""One folder per run, found again by the same command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.bundle.messages import mendable
from mtmed.networks import build_network, save_encoder

RunToy = Callable[..., list[Any]]


def test_device_and_length_do_not_change_the_folder(run_toy: RunToy) -> None:
    assert run_toy()[0] == run_toy(epochs=7, device="cpu:0")[0]


def test_another_setting_gets_another_folder(run_toy: RunToy) -> None:
    assert run_toy()[0] != run_toy(width=48)[0]


def test_the_executed_config_and_the_log_lie_in_the_folder(run_toy: RunToy) -> None:
    folder = Path(run_toy(epochs=3)[0])
    assert '"epochs": 3' in (folder / "config.json").read_text()
    assert "Run folder" in (folder / "log.txt").read_text()


def test_a_finished_run_stops_with_status_0_and_a_longer_one_goes_on(run_toy: RunToy) -> None:
    folder = Path(run_toy()[0])
    torch.save({"iteration": 2}, folder / "checkpoint.pt")
    with pytest.raises(SystemExit) as caught:
        run_toy()
    assert caught.value.code == 0
    assert run_toy(epochs=3)[0] == str(folder)


def test_a_run_that_stopped_early_is_finished_whatever_its_length(
    run_toy: RunToy, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(run_toy(epochs=4)[0])
    torch.save({"iteration": 1, "stopped": True}, folder / "checkpoint.pt")
    for epochs in (4, 9):
        with pytest.raises(SystemExit) as caught:
            run_toy(epochs=epochs)
        assert caught.value.code == 0
        assert "it stopped early; another --patience is another run; start over with" in capsys.readouterr().out


def test_a_checkpoint_is_not_continued_with_other_settings(run_toy: RunToy) -> None:
    folder = Path(run_toy()[0])
    torch.save({"iteration": 1}, folder / "checkpoint.pt")
    with pytest.raises(RuntimeError) as caught:
        run_toy(output_dir=str(folder), width=48)
    assert "another width (24 there, 48 now)" in str(mendable(caught.value))
    assert run_toy(output_dir=str(folder), epochs=5)[0] == str(folder)


def test_new_renames_the_earlier_run(run_toy: RunToy) -> None:
    folder = Path(run_toy()[0])
    torch.save({"iteration": 2}, folder / "checkpoint.pt")
    assert run_toy(new=True)[0] == str(folder)
    assert not (folder / "checkpoint.pt").exists()
    assert (folder.with_name(folder.name + ".old-1") / "checkpoint.pt").is_file()


@pytest.mark.parametrize("part", ["", "predictions", "overlays"])
def test_fragments_of_a_killed_writer_are_swept(part: str, run_toy: RunToy) -> None:
    folder = Path(run_toy()[0])
    live = folder / "another_run" / ".checkpoint.pt.4242.tmp"
    fragment = folder / part / ".checkpoint.pt.4242.tmp"
    for path in (live, fragment):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (folder / part / "kept.json").write_text("{}")
    run_toy()
    assert (fragment.exists(), live.exists()) == (False, True)
    assert (folder / part / "kept.json").is_file()


def test_a_folder_that_cannot_be_written_is_named(run_toy: RunToy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError) as caught:
        run_toy(output_dir=str(tmp_path / "file" / "run"))
    assert "cannot be written" in str(mendable(caught.value))


def test_a_length_below_one_is_refused_before_a_folder_is_made(run_toy: RunToy, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        run_toy(epochs=0)
    assert "give 0 iterations; give whole numbers of 1 or more" in str(mendable(caught.value))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("device", "problem"), [("cuda", "there is no GPU here; use --device cpu"), ("gpu", "is no device; use cpu")]
)
def test_a_device_that_is_not_there_is_refused(
    run_toy: RunToy, monkeypatch: pytest.MonkeyPatch, device: str, problem: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError) as caught:
        run_toy(device=device)
    assert problem in str(mendable(caught.value))


def test_a_gpu_with_a_number_too_high_is_refused(run_toy: RunToy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert run_toy(device="cuda:1")
    with pytest.raises(RuntimeError) as caught:
        run_toy(device="cuda:2")
    assert "is cuda:2, but GPUs here end at cuda:1" in str(mendable(caught.value))


class TestNetwork:
    def test_the_definition_of_the_checkpoint_wins_over_the_default(self, run_toy: RunToy, tmp_path: Path) -> None:
        source = self._encoder(run_toy, tmp_path)
        network = run_toy({"network_def#out_channels": 4}, pretrained=str(source))[1]
        assert network.definition["hidden_size"] == 48
        assert network.definition["out_channels"] == 4

    def test_a_scale_asked_for_that_differs_from_the_checkpoint_is_refused(
        self, run_toy: RunToy, tmp_path: Path
    ) -> None:
        source = self._encoder(run_toy, tmp_path)
        with pytest.raises(RuntimeError) as caught:
            run_toy({"network_def#feature_size": 16}, pretrained=str(source))
        assert "network_def::feature_size: is 16" in str(mendable(caught.value))

    def _encoder(self, run_toy: RunToy, tmp_path: Path) -> Path:
        definition = {**run_toy()[1].definition, "hidden_size": 48}
        save_encoder(tmp_path / "encoder.pt", build_network(definition), {})
        return tmp_path / "encoder.pt"
