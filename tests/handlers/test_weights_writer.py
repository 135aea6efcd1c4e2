"""When weights are written, and what is in them."""

import json

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

from mtmed.handlers import BestModelWriter, Checkpoint, EncoderWriter, LastModelWriter, SharedWeightsWriter
from mtmed.networks import build_network, load_network, network_definition
from mtmed.networks.weights import load_weights

SETTINGS = {"spacing": [1.0, 1.0, 1.0]}


@pytest.fixture
def network():
    torch.manual_seed(0)
    definition = {
        "_target_": "mtmed.networks.UNETR",
        "in_channels": 1,
        "out_channels": 2,
        "img_size": [16, 16, 16],
        "feature_size": 2,
        "hidden_size": 12,
        "mlp_dim": 12,
        "num_heads": 2,
    }
    return build_network(definition)


def test_network_is_written_at_the_best_validation_only(network, make_evaluator, tmp_path):
    path, written = tmp_path / "model.pt", []
    evaluator = make_evaluator(handlers=[BestModelWriter(path=path, network=network, settings=SETTINGS)])
    for epoch, best in ((2, -1.0), (4, 2.0), (6, 0.0)):
        evaluator.state.best_metric = best
        path.unlink(missing_ok=True)
        evaluator.run(epoch)
        written.append(path.is_file())
    assert written == [True, False, True]
    loaded, settings = load_network(path)
    assert settings == SETTINGS
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in network.state_dict().items())


def _best(folder):
    return json.loads((folder / "best.json").read_text())


def test_best_value_and_its_epoch_of_the_trainer_stand_beside_the_network(network, make_evaluator, tmp_path):
    evaluator = make_evaluator(handlers=[BestModelWriter(path=tmp_path / "m.pt", network=network, settings=SETTINGS)])
    trainer, found = Engine(lambda engine, batch: None), []
    ValidationHandler(interval=2, validator=evaluator).attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED)
    def look():
        found.append(_best(tmp_path) if (tmp_path / "best.json").is_file() else None)
        if trainer.state.epoch == 4:
            # as if the best so far had been worse
            evaluator.state.best_metric = -1.0

    trainer.run([0], max_epochs=7)
    dice = evaluator.state.metrics["mean_dice"]
    first, again = ({"metric": "mean_dice", "value": dice, "epoch": epoch} for epoch in (2, 6))
    assert found == [None, first, first, first, first, again, again]
    assert 0.5 < dice < 1


def test_value_is_null_while_the_metric_is_nan(network, make_evaluator, tmp_path):
    evaluator = make_evaluator(handlers=[BestModelWriter(path=tmp_path / "m.pt", network=network, settings=SETTINGS)])
    values, found = iter([float("nan"), 0.3, 0.2]), []
    handlers = evaluator._event_handlers[Events.EPOCH_COMPLETED]
    handlers.insert(1, (lambda: evaluator.state.metrics.update(mean_dice=next(values)), (), {}))
    for epoch in (1, 2, 3):
        evaluator.run(epoch)
        found.append((_best(tmp_path)["value"], _best(tmp_path)["epoch"]))
    assert found == [(None, 1), (0.3, 2), (0.3, 2)]


class _Fading(torch.nn.Module):
    """Segments worse with each step of the trainer it looks at."""

    def __init__(self, trainer, definition):
        super().__init__()
        self.trainer = [trainer]
        self.network = build_network(definition)

    def forward(self, image):
        bright = image - 0.5
        if self.trainer[0].state.epoch != 2:
            bright[:, :, :4] = -1
        return torch.cat([-bright, bright], 1)


def test_a_resumed_run_keeps_the_best_of_the_one_it_continues(network, make_evaluator, small_trainer, tmp_path):
    def train(folder, epochs):
        trainer = small_trainer(epochs=epochs, total=8)
        watched = _Fading(trainer, network_definition(network))
        writer = BestModelWriter(path=folder / "model.pt", network=watched.network, settings=SETTINGS)
        evaluator = make_evaluator(handlers=[writer], network=watched)
        model = trainer.multi_task_model
        Checkpoint(path=folder / "c.pt", model=model, optimizer=trainer.optimizer, evaluator=evaluator).attach(trainer)
        ValidationHandler(interval=1, validator=evaluator).attach(trainer)
        trainer.go()
        return _best(folder)

    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = train(tmp_path / "whole", 4)
    assert whole["epoch"] == 2
    assert train(tmp_path / "killed", 1)["epoch"] == 1
    assert train(tmp_path / "killed", 3) == whole
    # the epochs after the best one write nothing
    (tmp_path / "killed" / "best.json").write_text('{"of": "epoch 2"}')
    assert train(tmp_path / "killed", 4) == {"of": "epoch 2"}


def test_network_is_written_while_the_metric_is_nan_and_the_first_number_is_the_best(network, make_evaluator, tmp_path):
    path, written = tmp_path / "model.pt", []
    evaluator = make_evaluator(handlers=[BestModelWriter(path=path, network=network, settings=SETTINGS)])
    values = iter([float("nan"), float("nan"), 0.3, 0.2, float("nan"), 0.4])
    # after the metric, before MONAI compares it
    evaluator.prepend = evaluator._event_handlers[Events.EPOCH_COMPLETED]
    evaluator.prepend.insert(1, (lambda: evaluator.state.metrics.update(mean_dice=next(values)), (), {}))
    for epoch in range(1, 7):
        path.unlink(missing_ok=True)
        evaluator.run(epoch)
        written.append(path.is_file())
    assert written == [True, True, True, False, False, True]
    assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (0.4, 6)


def test_encoder_of_the_last_epoch_is_kept(network, tmp_path):
    engine = Engine(lambda engine, batch: None)
    EncoderWriter(path=tmp_path / "encoder.pt", network=network, settings=SETTINGS).attach(engine)

    @engine.on(Events.ITERATION_COMPLETED)
    def train():
        with torch.no_grad():
            network.vit.norm.weight.add_(1)

    engine.run([0], max_epochs=3)
    content = load_weights(tmp_path / "encoder.pt")
    assert torch.equal(content["model"]["vit.norm.weight"], torch.full((12,), 4.0))
    assert all(name.startswith(network.encoder_prefixes) for name in content["model"])
    assert len(content["model"]) == sum(name.startswith(network.encoder_prefixes) for name in network.state_dict())


def test_network_of_the_last_epoch_is_kept_where_nothing_is_validated(network, tmp_path):
    engine = Engine(lambda engine, batch: None)
    LastModelWriter(path=tmp_path / "last.pt", network=network, settings=SETTINGS).attach(engine)

    @engine.on(Events.ITERATION_COMPLETED)
    def train():
        with torch.no_grad():
            network.out.conv.conv.bias.fill_(engine.state.epoch)

    engine.run([0], max_epochs=3)
    loaded, settings = load_network(tmp_path / "last.pt")
    assert settings == SETTINGS
    assert torch.equal(loaded.out.conv.conv.bias, torch.full((2,), 3.0))


def test_what_pre_training_shares_of_the_last_epoch_is_kept(network, tmp_path):
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(("out.", "decoder2.")))
    engine = Engine(lambda engine, batch: None)
    SharedWeightsWriter(path=tmp_path / "shared.pt", network=network, settings=SETTINGS).attach(engine)

    @engine.on(Events.ITERATION_COMPLETED)
    def train():
        with torch.no_grad():
            network.vit.norm.weight.add_(1)

    engine.run([0], max_epochs=3)
    content = load_weights(tmp_path / "shared.pt")
    assert (content["kind"], content["settings"]) == ("shared", SETTINGS)
    assert torch.equal(content["model"]["vit.norm.weight"], torch.full((12,), 4.0))
    left_out = {name for name in network.state_dict() if name.startswith(("out.", "decoder2."))}
    assert set(content["model"]) == set(network.state_dict()) - left_out
