"""No file is unpickled: by the text of the code, and by running it with a trap in place of pickle."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gi_tract_runs import GI_TRACT, TINY_GI_TRACT, write_abdomens
from pickle_trap import run_trapped, sprung

REPOSITORY = Path(__file__).parents[2]
FORBIDDEN = {
    "unpickles": r"pickle\.(loads?|Unpickler|_\w+)\b|\bfrom _?pickle import (?!UnpicklingError)|\bimport _pickle",
    "pickles beside": r"\b(joblib|shelve|dill|cloudpickle|marshal|jsonpickle)\b",
    "lets NumPy unpickle": r"allow_pickle(?!=False)",
    "lets torch unpickle": r"weights_only(?!=True|`)|MONAI_ALLOW_PICKLE|TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",
    "trusts more classes": r"add_safe_globals|safe_globals\(",
    "caches by pickle": r"\b(PersistentDataset|CacheNTransDataset|LMDBDataset|GDSDataset|pickle_hashing)\b",
    "unpickles tables": r"read_pickle|to_pickle",
    "runs a scripted file": r"torch\.jit\.load|torch\.package|torch\.hub",
}
# what `mtmed check --untrusted` finds in a stranger's config stands there by name, as text
NAMED_ONLY = "mtmed/checking/untrusted/"
LOADS = re.compile(r"(?:torch|np|numpy)\.load\(")


def sources() -> Iterator[tuple[str, str]]:
    for folder in ("mtmed", "bundles"):
        for suffix in ("py", "json", "conf"):
            for file in sorted((REPOSITORY / folder).rglob(f"*.{suffix}")):
                yield file.relative_to(REPOSITORY).as_posix(), file.read_text(encoding="utf-8")


def unsafe_loads(text: str) -> list[str]:
    """Calls that load arrays or tensors and do not forbid pickles in the same line."""
    safe = re.compile(r"(?:torch\.load\(.*weights_only=True|(?:np|numpy)\.load\(.*allow_pickle=False)")
    return [line.strip() for line in text.splitlines() if LOADS.search(line) and not safe.search(line)]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_of_the_library_and_the_bundles(what: str) -> None:
    read = [(name, text) for name, text in sources() if not name.startswith(NAMED_ONLY)]
    found = {name: match[0] for name, text in read if (match := re.search(FORBIDDEN[what], text))}
    assert len(read) > 200
    assert found == {}, f"{what}: {found}"


def test_every_load_forbids_pickles_where_it_stands() -> None:
    assert {name: lines for name, text in sources() if (lines := unsafe_loads(text))} == {}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("pickle.load(file)", "unpickles"),
        ("pickle.Unpickler(file).load()", "unpickles"),
        ("from pickle import loads", "unpickles"),
        ("import joblib", "pickles beside"),
        ("np.load(path, allow_pickle=True)", "lets NumPy unpickle"),
        ("torch.load(path, weights_only=False)", "lets torch unpickle"),
        ("torch.serialization.add_safe_globals([Case])", "trusts more classes"),
        ('"_target_": "PersistentDataset"', "caches by pickle"),
    ],
)
def test_the_search_would_find_it(line: str, what: str) -> None:
    assert re.search(FORBIDDEN[what], line)
    assert unsafe_loads("x = torch.load(path)")
    assert unsafe_loads("x = np.load(path)")


READS = {
    "bytes": "import pickle; pickle.loads(pickle.dumps([1]))",
    "a file": "import pickle; pickle.dump([1], open('a', 'wb')); pickle.load(open('a', 'rb'))",
    "an array": "import numpy as np; np.save('a.npy', np.array([{}])); np.load('a.npy', allow_pickle=True)",
    "a checkpoint": "import torch; torch.save([1], 'a.pt'); torch.load('a.pt', weights_only=False)",
}


@pytest.mark.parametrize("what", READS)
def test_the_trap_springs(what: str, tmp_path: Path) -> None:
    done = run_trapped(tmp_path, "-c", READS[what])
    assert done.returncode != 0
    assert "a pickle was read by" in done.stderr
    assert sprung(tmp_path)


SCRIPT = """
import json, logging
from monai.bundle import run
from mtmed.cli import main

given = json.loads(open("given.json").read())
bundle, tiny, split = given["bundle"], given["tiny"], {"shares": given["tiny"]["shares"]}
common = {"dataset_dir": "data", "device": "cpu"}
train = {**tiny, **common, "store_dir": "store", "output_dir": "run"}
run(config_file=bundle + "/train.json", **train, workers=1)
run(config_file=bundle + "/train.json", **{**train, "epochs": 3})
run(config_file=bundle + "/evaluate.json", **common, **split, checkpoint="run/model.pt", output_dir="evaluation")
assert main(["release", "run/model.pt"]) == 0
run(config_file=bundle + "/inference.json", **common, checkpoint="run/model.safetensors", output_dir="inference")
assert main(["check", "data"]) == 0
assert main(["export", bundle, "--checkpoint", "run/model.pt", "--name", "gi_mr_segmentation"]) == 0
"""


def test_training_resuming_scoring_segmenting_checking_and_exporting_unpickle_no_file(tmp_path: Path) -> None:
    write_abdomens(tmp_path / "data")
    given = {"bundle": str(GI_TRACT), "tiny": {**TINY_GI_TRACT, "epochs": 1}}
    (tmp_path / "given.json").write_text(json.dumps(given))
    done = run_trapped(tmp_path, "-c", SCRIPT)
    assert sprung(tmp_path) == ""
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert (tmp_path / "run" / "losses.csv").read_text().splitlines()[-1].startswith("6,")
    for written in ("run/checkpoint.pt", "evaluation/scores.csv", "dist/gi_mr_segmentation/models/model.pt"):
        assert (tmp_path / written).is_file()
    assert list((tmp_path / "inference").glob("*_seg.nii.gz"))


@pytest.mark.slow
def test_a_study_unpickles_no_file(tmp_path: Path) -> None:
    write_abdomens(tmp_path / "data")
    study = json.loads((GI_TRACT / "studies" / "patient.json").read_text())
    study |= {"bundle": str(GI_TRACT), "seeds": [0], "arms": {"small_unet": {}, "film": {"train": {"film": True}}}}
    study["steps"]["train"]["config"] = "train.json"
    del study["inputs"]["imagenet"]
    (tmp_path / "study.json").write_text(json.dumps(study))
    tiny = {
        f"train.{key}" if key != "shares" else key: value for key, value in TINY_GI_TRACT.items() if key != "device"
    }
    words = [word for key, value in tiny.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    words += ["--set", f"data={tmp_path / 'data'}", "--set", f"train.store_dir={tmp_path / 'store'}", "--output", "out"]
    done = run_trapped(tmp_path, "-m", "mtmed.cli", "study", "study.json", *words)
    assert sprung(tmp_path) == ""
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "2 of 2 runs have scores" in done.stdout
