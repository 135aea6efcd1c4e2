"""Every option of every bundle with a letter left out is refused, with the option that is meant."""

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from mtmed.bundle.active import CommandLine
from mtmed.bundle.options import _entry, _ids, option_problems

BUNDLES = Path(__file__).parents[2] / "bundles"
MAINS = [
    str(path.relative_to(BUNDLES))
    for path in sorted(BUNDLES.glob("*/*.json"))
    if path.name != "metadata.json" and "imports" in ConfigParser.load_config_file(path)
]
OF_MONAI = {"imports", "initialize", "run", "finalize"}
AMBIGUOUS = {"pars"}  # could be pairs or parts


def misspelt(identifier: str, known: set[str]) -> str:
    """The identifier without the letter nearest to the middle of its last part whose loss gives no other option."""
    parent, separator, name = identifier.rpartition("::")
    middle = len(name) // 2
    for place in sorted(range(len(name)), key=lambda place: abs(place - middle)):
        wrong = parent + separator + name[:place] + name[place + 1 :]
        if wrong not in known:
            return wrong
    raise AssertionError(identifier)


def refused(path: Path, identifiers: list[str]) -> dict[str, str]:
    """What is said of each of these when it is misspelt, all in one command."""
    main: dict[str, Any] = ConfigParser.load_config_file(path)
    wrong = {misspelt(one, AMBIGUOUS | set(_ids(main))): one for one in identifiers}
    assert len(wrong) == len(identifiers)
    overrides = {key: _entry(main, one) for key, one in wrong.items()}
    parser = ConfigParser()
    parser.read_config(str(path))
    parser.update(overrides)
    problems = option_problems(CommandLine((str(path),), overrides), parser)
    return {wrong[problem.culprit]: str(problem) for problem in problems if problem.culprit in wrong}


@pytest.mark.parametrize("name", MAINS)
def test_every_misspelt_option_is_refused_with_the_one_that_is_meant(name: str) -> None:
    options = [key for key in ConfigParser.load_config_file(BUNDLES / name) if key not in OF_MONAI]
    said = refused(BUNDLES / name, options)
    assert [key for key in options if key not in said] == []
    assert [
        text
        for key, text in said.items()
        if f"unknown option (from the command line); did you mean {key!r}?" not in text
    ] == []


@pytest.mark.parametrize("name", MAINS)
def test_every_misspelt_argument_of_a_component_is_refused(name: str) -> None:
    main = ConfigParser.load_config_file(BUNDLES / name)

    def is_argument(identifier: str) -> bool:
        parent, _, key = identifier.rpartition("::")
        component = _entry(main, parent) if parent else {}
        target = component.get("_target_", "") if isinstance(component, dict) else ""
        # these two take any argument: torch refuses what its loader does not know, MONAI passes over the other's
        return (
            bool(target)
            and not target.endswith(("DataLoader", "Activationsd"))
            and len(key) > 2
            and not key.startswith("_")
        )

    arguments = [one for one in _ids(main) if is_argument(one)]
    said = refused(BUNDLES / name, arguments)
    assert [one for one in arguments if one not in said] == []
    assert all("; did you mean '" in text or "; see the keys on top of " in text for text in said.values())
