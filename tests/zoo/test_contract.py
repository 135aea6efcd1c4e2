"""Every rule of the contract finds its own breach and no other."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from mtmed.errors import InputError
from mtmed.zoo import check_bundle
from mtmed.zoo.metadata_schema import METADATA_SCHEMA


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content, indent=4) + "\n")


@pytest.mark.parametrize(
    "name", ["LICENSE", "configs/inference.json", "configs/metadata.json", "models/model.pt", "docs/README.md"]
)
def test_missing_file_is_found(exported: Path, name: str) -> None:
    (exported / name).unlink()
    assert check_bundle(exported) == [f"{name}: is missing"]


def test_weights_may_come_through_large_files(exported: Path) -> None:
    (exported / "models" / "model.pt").unlink()
    (exported / "large_files.yml").write_text("large_files:\n")
    assert check_bundle(exported) == []


@pytest.mark.parametrize("name", ["spleen", "spleen_ct", "spleen-ct_segmentation", "spleen__segmentation"])
def test_name_outside_the_pattern_is_found(exported: Path, name: str) -> None:
    problems = check_bundle(exported.rename(exported.with_name(name)))
    assert problems
    assert all(problem.startswith(f"{name}: the folder's name must") for problem in problems)


def test_json_in_another_form_is_found(exported: Path) -> None:
    file = exported / "configs" / "train.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=2))
    assert check_bundle(exported) == [
        "configs/train.json: is not indented by 4 spaces with a line break at the end",
    ]


@pytest.mark.parametrize(
    "path", ["/home/someone/data", "/workspace/data", "~/data", "C:\\data", "$'/mnt/x' + '/y'", "/Users/me"]
)
def test_path_of_one_machine_is_found(exported: Path, path: str) -> None:
    edit(exported / "configs" / "inference.json", lambda config: config.update(dataset_dir=path))
    (problem,) = check_bundle(exported)
    assert problem == f"configs/inference.json: dataset_dir holds a path of one machine: {path}"


@pytest.mark.parametrize(
    "value",
    ["$@bundle_root + '/data/x'", "$f'{@output_dir}/media/x'", "https://host.org/home/x", "data/home/x", "a ~ b"],
)
def test_relative_path_is_allowed(exported: Path, value: str) -> None:
    edit(exported / "configs" / "inference.json", lambda config: config.update(dataset_dir=value))
    assert check_bundle(exported) == []


def test_large_file_is_found_outside_models_only(exported: Path) -> None:
    for name in ("models/more.pt", "docs/picture.png"):
        with open(exported / name, "wb") as file:
            file.truncate(25 * 1024 * 1024 + 1)
    assert check_bundle(exported) == ["docs/picture.png: is larger than 25 MB"]


def test_left_overs_of_python_are_found(exported: Path) -> None:
    (exported / "mtmed" / "__pycache__").mkdir()
    assert check_bundle(exported) == ["mtmed/__pycache__: does not belong in a bundle"]


def test_version_outside_the_changelog_is_found(exported: Path) -> None:
    edit(exported / "configs" / "metadata.json", lambda metadata: metadata.update(version="9.0.0"))
    assert check_bundle(exported) == ["configs/metadata.json: version 9.0.0 is not in changelog"]


def test_breach_of_the_schema_is_found(exported: Path) -> None:
    def change(metadata: dict) -> None:
        del metadata["copyright"]
        del metadata["network_data_format"]["inputs"]["image"]["value_range"]

    edit(exported / "configs" / "metadata.json", change)
    problems = check_bundle(exported)
    assert len(problems) == 2
    assert any("'copyright' is a required property" in problem for problem in problems)
    where = "network_data_format::inputs::image"
    assert f"configs/metadata.json: {where}: 'value_range' is a required property" in problems


def test_configs_of_different_networks_are_found(exported: Path) -> None:
    edit(exported / "configs" / "train.json", lambda config: config["network_def"].update(out_channels=4))
    assert check_bundle(exported) == ["configs/train.json: network_def is not that of inference.json"]


def test_metadata_of_another_network_is_found(exported: Path) -> None:
    def change(metadata: dict) -> None:
        metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 7

    edit(exported / "configs" / "metadata.json", change)
    assert check_bundle(exported) == [
        "configs/metadata.json: network_data_format::outputs::pred has 7 channels, the network 3",
    ]


def test_network_that_is_not_literal_is_found(exported: Path) -> None:
    for name in ("train.json", "inference.json"):
        edit(exported / "configs" / name, lambda config: config["network_def"].update(in_channels="$1"))
    problems = check_bundle(exported)
    assert "configs/inference.json: network_def::in_channels is '$1', which must be a plain value" in problems


@pytest.mark.parametrize(
    ("name", "key"), [("train.json", "device"), ("inference.json", "inferer"), ("inference.json", "evaluator")]
)
def test_missing_key_is_found(exported: Path, name: str, key: str) -> None:
    edit(exported / "configs" / name, lambda config: config.pop(key))
    assert check_bundle(exported) == [f"configs/{name}: {key} is missing"]


def test_root_of_the_source_is_found(exported: Path) -> None:
    edit(exported / "configs" / "train.json", lambda config: config.update(bundle_root="bundles/mixcl"))
    assert check_bundle(exported) == ["configs/train.json: bundle_root is 'bundles/mixcl', which must be \".\""]


def test_folder_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing: is no folder"):
        check_bundle(tmp_path / "nothing")


def test_schema_is_a_schema_and_allows_what_the_documentation_allows(source_bundle: Path) -> None:
    validator = jsonschema.Draft202012Validator
    validator.check_schema(METADATA_SCHEMA)
    metadata = json.loads((source_bundle / "metadata.json").read_text())
    assert list(validator(METADATA_SCHEMA).iter_errors(metadata)) == []
    tensor = metadata["network_data_format"]["inputs"]["image"]
    metadata["teacher_data_format"] = {
        "inputs": {"flair": {**tensor, "spatial_shape": ["8*n", "*", 16], "value_range": []}, "task_id": 3},
        "outputs": {"hemisphere_logits": tensor},
    }
    assert list(validator(METADATA_SCHEMA).iter_errors(metadata)) == []
    metadata["teacher_data_format"]["inputs"] = {}
    assert len(list(validator(METADATA_SCHEMA).iter_errors(metadata))) == 1


def test_metadata_names_the_versions_that_are_tested(source_bundle: Path) -> None:
    metadata = json.loads((source_bundle / "metadata.json").read_text())
    lines = (source_bundle.parents[1] / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    named = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
        **{package.lower(): version for package, version in metadata["required_packages_version"].items()},
    }
    assert {package: pinned[package] for package in named} == named
