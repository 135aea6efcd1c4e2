"""A bundle of a few lines, run as the command line runs it."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from monai.bundle.scripts import run

CONFIG = {
    "imports": ["$import mtmed", "$import mtmed.bundle", "$import mtmed.networks"],
    "bundle_root": ".",
    "new": False,
    "device": "cpu",
    "epochs": 2,
    "width": 24,
    "weights": {"dice": 1.0},
    "output_dir": "$mtmed.bundle.run_folder('toy', root=@root)",
    "root": "runs",
    "pretrained": None,
    "network_def": {
        "_target_": "mtmed.networks.UNETR",
        "in_channels": 1,
        "out_channels": 2,
        "img_size": [16, 16, 16],
        "feature_size": 4,
        "hidden_size": "@width",
        "mlp_dim": 48,
        "num_heads": 2,
    },
    "table": {"_target_": "builtins.dict", "weights": "@weights"},
    "run": [
        "$mtmed.bundle.start_run(@output_dir, total_iterations=@epochs, new=@new)",
        "$@sink.append(@output_dir)",
        "$@sink.append(mtmed.bundle.network('network_def', pretrained=@pretrained))",
    ],
}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """MONAI's command replaces the handlers of the root logger."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def run_toy(tmp_path: Path) -> Callable[..., list[Any]]:
    """Runs the bundle, with more keys in its main config, with overlays and overrides; returns folder and network."""

    def start(*overlays: dict[str, Any], main: dict[str, Any] | None = None, **overrides: Any) -> list[Any]:
        sink: list[Any] = []
        files = []
        for number, content in enumerate(({**CONFIG, "root": str(tmp_path / "runs"), **(main or {})}, *overlays)):
            path = tmp_path / f"config_{number}.json"
            path.write_text(json.dumps(content))
            files.append(str(path))
        (tmp_path / "metadata.json").write_text("{}")
        (tmp_path / "logging.conf").write_text(
            "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=h\n"
            "[handler_h]\nclass=StreamHandler\nargs=(sys.stdout,)\n"
        )
        run(config_file=files, sink=_Kept(sink), **overrides)
        return sink

    return start


class _Kept:
    """Hands a list through MONAI's parser by reference."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def append(self, item: Any) -> None:
        self.items.append(item)

    def __repr__(self) -> str:
        return "kept"

    def __deepcopy__(self, memo: Any) -> "_Kept":
        return self
