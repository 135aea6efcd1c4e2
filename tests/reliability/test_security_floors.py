"""Versions with known holes are neither asked for nor installed."""

import configparser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[2]
FLOORS = {
    # memory corruption by a file that weights_only reads, CVE-2026-24747
    "torch": "2.10",
    # twelve advisories on bundles, downloads and pickles, up to GHSA-2wx3-8x3w-r8qv
    "monai": "1.6.1",
    # a DICOMDIR that leads out of its folder, CVE-2026-32711
    "pydicom": "3.0.2",
}


def requirements() -> dict[str, Requirement]:
    """Every requirement of ``setup.cfg``, of the library and of its extras, by name."""
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    texts = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    found = [Requirement(line) for text in texts for line in text.splitlines() if line.strip()]
    return {canonicalize_name(one.name): one for one in found}


def pinned() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): found for name, found in pairs}


@pytest.mark.parametrize("package", FLOORS)
def test_the_floor_excludes_what_is_known_to_be_open(package: str) -> None:
    specifier, floor = requirements()[package].specifier, Version(FLOORS[package])
    assert floor in specifier
    lowest = min(Version(one.version) for one in specifier if one.operator in (">=", "==", ">"))
    assert lowest >= floor


@pytest.mark.parametrize("package", FLOORS)
def test_what_is_installed_and_what_is_pinned_are_above_the_floor(package: str) -> None:
    floor = Version(FLOORS[package])
    if package in pinned():
        assert Version(pinned()[package]) >= floor
    try:
        installed = Version(version(package))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    assert installed >= floor


def test_what_tests_install_is_pinned() -> None:
    """A version that was never tested is not what `pip install -c constraints.txt` gives."""
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    extras = config["options.extras_require"]
    texts = [config["options"]["install_requires"], extras["test"], extras["zoo"], extras["fast"]]
    wanted = {canonicalize_name(Requirement(line).name) for text in texts for line in text.splitlines() if line.strip()}
    assert wanted - set(pinned()) == set()
