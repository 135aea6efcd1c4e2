"""A key of a bundle that nothing reads is an option that does nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties

from mtmed.bundle.options import _ids, _normal, _references

BUNDLES = Path(__file__).parents[2] / "bundles"
OF_MONAI = {"imports", "initialize", "run", "finalize"}
# what MONAI's tools ask a bundle for; one stands in a config only if the config or they use it
PROPERTIES = {item["id"] for table in (TrainProperties, InferProperties, MetaProperties) for item in table.values()}
CONFIGS = {
    str(path.relative_to(BUNDLES)): json.loads(path.read_text())
    for path in sorted(BUNDLES.glob("*/*.json"))
    if path.name != "metadata.json"
}

# an overlay may say what runs, but imports nothing
MAINS = {name: config for name, config in CONFIGS.items() if "imports" in config}
OVERLAYS = {name: config for name, config in CONFIGS.items() if "imports" not in config}


def strings(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict):
        for value in config.values():
            yield from strings(value)
    elif isinstance(config, list):
        for value in config:
            yield from strings(value)


def overlays_of(name: str) -> list[dict[str, Any]]:
    return [config for other, config in OVERLAYS.items() if Path(other).parent == Path(name).parent]


@pytest.mark.parametrize("name", MAINS)
def test_every_key_on_top_of_a_bundle_is_read(name: str) -> None:
    config = CONFIGS[name]
    read = OF_MONAI | PROPERTIES
    for source in (config, *overlays_of(name)):
        read |= {reference.split("::")[0] for reference in _references(source)}
    # what mtmed looks up by name
    read |= {key for key in config for text in strings([config["run"], config.get("checks", [])]) if f"'{key}'" in text}
    assert set(config) - read == set()


@pytest.mark.parametrize("name", MAINS)
def test_every_reference_of_a_bundle_leads_somewhere(name: str) -> None:
    config = CONFIGS[name]
    assert set(_references(config)) - set(_ids(config)) == set()


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_key_of_an_overlay_replaces_one_or_is_read_in_it(name: str) -> None:
    mains = [main for other, main in MAINS.items() if Path(other).parent == Path(name).parent]
    known = {identifier for main in mains for identifier in _ids(main)} | OF_MONAI | set(_references(OVERLAYS[name]))
    assert {_normal(key) for key in CONFIGS[name]} - known == set()
