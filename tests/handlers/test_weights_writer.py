"""When weights are written, and what is in them."""

import pytest
import torch
from ignite.engine import Engine, Events

from mtmed.handlers import BestModelWriter, EncoderWriter, LastModelWriter
from mtmed.networks import build_network, load_network
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
