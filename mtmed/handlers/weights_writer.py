"""Weights files while training: the best network, the last encoder."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from mtmed.distributed import rank
from mtmed.files import atomic_file
from mtmed.networks.shared_weights import save_shared
from mtmed.networks.weights import save_encoder, save_network

__all__ = ["BestModelWriter", "EncoderWriter", "LastModelWriter", "SharedWeightsWriter"]

logger = logging.getLogger(__name__)


class BestModelWriter:
    """Writes the network whenever the evaluator's key metric is the best so far.

    Nothing is better than NaN, so while the metric is NaN each validation writes, and the first number is the best.
    Attach it to the evaluator; by then the evaluator has compared its metric. Beside the weights file it then writes
    ``best.json``, ``{"metric", "value", "epoch"}``: the name of the key metric, its value (null for NaN) and the epoch
    of the trainer after which it was measured, which MONAI's ``ValidationHandler`` gives the evaluator as its own. A
    resumed run writes both again where the one it continues did, as the checkpoint has the best value and its epoch.

    Args:
        path: weights file.
        network: the network that is validated.
        settings: what is needed to feed the network again.
    """

    def __init__(self, *, path: str | Path, network: nn.Module, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.network = network
        self.settings = dict(settings)

    def attach(self, engine: Engine) -> None:
        """Write at the end of each validation that was the best."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _write(self, engine: Any) -> None:
        if rank() == 0 and engine.state.best_metric_epoch == engine.state.epoch:
            save_network(self.path, self.network, self.settings)
            self._record(engine.state)
        if math.isnan(engine.state.best_metric):
            # to MONAI the first value of all is the best one, whatever it is
            engine.state.best_metric_epoch = -1

    def _record(self, state: Any) -> None:
        value = float(state.best_metric)
        best = {
            "metric": state.key_metric_name,
            "value": value if math.isfinite(value) else None,
            "epoch": state.epoch,
        }
        with atomic_file(self.path.with_name("best.json")) as file:
            file.write((json.dumps(best, indent=4) + "\n").encode())


class LastModelWriter:
    """Writes the network at the end of each epoch: what there is to use when nothing is validated.

    Args:
        path: weights file.
        network: the network that is trained.
        settings: what is needed to feed the network again.
    """

    _save = staticmethod(save_network)

    def __init__(self, *, path: str | Path, network: nn.Module, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.network = network
        self.settings = dict(settings)

    def attach(self, engine: Engine) -> None:
        """Write at the end of each epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _write(self) -> None:
        if rank() == 0:
            self._save(self.path, self.network, self.settings)


class EncoderWriter(LastModelWriter):
    """Writes the encoder at the end of each epoch, so that the last one is what pre-training hands on.

    Args:
        path: weights file.
        network: the network that is pre-trained.
        settings: what is needed to feed the network again.
    """

    _save = staticmethod(save_encoder)


class SharedWeightsWriter(LastModelWriter):
    """Writes encoder and trained decoder at the end of each epoch, see `mtmed.networks.save_shared`.

    Args:
        path: weights file.
        network: the network that is pre-trained, after `mtmed.tasks.MultiTaskModel` froze what no loss depends on.
        settings: what is needed to feed the network again.
    """

    _save = staticmethod(save_shared)
