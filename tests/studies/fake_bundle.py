"""Small fake bundles that MONAI really runs, and processes that start at once."""

import sys
from collections.abc import Callable
from typing import Any

from mtmed.studies.study_folder import StudyFolder

__all__ = ["CHOICES", "CONFIGS", "STUDY", "use_fast_jobs"]

# "attempts.txt" gets an x per start; only the first start is slow, as if it had left a checkpoint
COMMON = {
    "imports": ["$import json", "$import pathlib", "$import sys", "$import time"],
    "dataset_dir": "data",
    "output_dir": "out",
    "device": "cpu",
    "seed": 0,
    "seconds": 0,
    "fail": False,
    "folder": "$pathlib.Path(@output_dir)",
    "run": [
        "$@folder.mkdir(parents=True, exist_ok=True)",
        "$(@folder / 'attempts.txt').open('a').write('x')",
        "$time.sleep(@seconds if (@folder / 'attempts.txt').read_text() == 'x' else 0)",
        "$sys.exit('the loss is not finite') if @fail else None",
    ],
}
HEADER = "dataset,case,group,organ,dice"
CONFIGS: dict[str, dict[str, Any]] = {
    "pretrain": {
        **COMMON,
        "losses": ["identity", "label"],
        "run": [*COMMON["run"], "$(@folder / 'encoder.pt').touch()"],
    },
    "train": {
        **COMMON,
        "pretrained": None,
        "folds": 5,
        "fold": 0,
        "fraction": 100,
        "split_seed": 0,
        "learning_rate": 0.1,
        "depth": 3,
        "teachers": None,
        "best": 0.5,
        "network_def": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1},
        "run": [
            *COMMON["run"],
            "$pathlib.Path(@pretrained).resolve(strict=True) if @pretrained else None",
            "$(@folder / 'losses.csv').write_text('iteration,loss\\n1,0.5\\n2,0.4\\n')",
            "$(@folder / 'best.json').write_text(json.dumps({'metric': 'dice', 'value': @best, 'epoch': 1}))",
            "$(@folder / 'last.pt').touch()",
        ],
    },
    "evaluate": {
        **COMMON,
        "checkpoint": None,
        "loaded": "$json.loads(pathlib.Path(@checkpoint).read_text())",
        "settings": "$@loaded['settings']",
        "depth": "$@settings['depth']",
        "width": "$2 * @depth",
        "folds": 5,
        "fold": 0,
        "split_seed": 0,
        "run": [
            *COMMON["run"],
            "$pathlib.Path(@checkpoint).resolve(strict=True)",
            f"$(@folder / 'scores.csv').write_text('{HEADER}\\nA,{{0}},{{0}},liver,0.{{0}}5\\n'.format(@fold))",
        ],
    },
    "quick": {"learning_rate": 0.5, "network_def#out_features": 3},
}
STUDY: dict[str, Any] = {
    "title": "A study",
    "bundle": "../bundle",
    "inputs": {"unlabelled": "u", "data": "d"},
    "folds": [0, 1],
    "steps": {
        "pretrain": {"config": "pretrain.json", "vary": ["seed"], "overrides": {"dataset_dir": "{unlabelled}"}},
        "train": {
            "config": "train.json",
            "vary": ["fold", "fraction", "seed"],
            "overrides": {"dataset_dir": "{data}"},
        },
        "evaluate": {
            "config": "evaluate.json",
            "vary": ["fold"],
            "overrides": {"dataset_dir": "{data}", "checkpoint": "{train}/last.pt"},
        },
    },
    "arms": {"scratch": {"pretrain": None}, "pretrained": {"train": {"pretrained": "{pretrain}/encoder.pt"}}},
    "score": {"step": "evaluate", "metrics": ["dice"]},
    "reference_arm": "scratch",
}

# changes of the study: two arms are compared, two others read the better one, and one of these reads an arm by name
TRAINING = {"config": "train.json", "vary": ["fold", "fraction", "seed"], "overrides": {"dataset_dir": "{data}"}}
CHOICES: dict[str, Any] = {
    "seeds": [0, 1],
    "steps": {
        "pretrain": STUDY["steps"]["pretrain"],
        "train": TRAINING,
        "distill": TRAINING,
        "evaluate": STUDY["steps"]["evaluate"],
    },
    "arms": {
        "scratch": {},
        "joint": {"train": {"best": [0.4, 0.6]}},
        "pretrained": {"train": {"pretrained": "{pretrain}/encoder.pt", "best": [0.8, 0.1]}},
        "teacher": {"evaluate": {"checkpoint": "{mode.train}/last.pt"}},
        "student": {
            "distill": {"teachers": ["{mode.train}/last.pt", "{scratch.train}/last.pt"]},
            "evaluate": {"checkpoint": "{distill}/last.pt"},
        },
    },
    "choices": {"mode": {"among": ["joint", "pretrained"], "step": "train", "title": "Joint or before"}},
}

# like a bundle, without MONAI: makes its output, and does what its overrides say
FAST = """
import json, pathlib, sys, time
words = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
folder = pathlib.Path(words["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "attempts.txt").open("a").write("x")
(folder / "words.json").write_text(json.dumps(words))
if "best" in words:
    best = json.loads(words["best"])
    value = best[int(words["seed"])] if isinstance(best, list) else best
    (folder / "best.json").write_text(json.dumps({"metric": "dice", "value": value}))
print("working", flush=True)
if (folder / "attempts.txt").read_text() == "x":
    time.sleep(float(words.get("seconds", 0)))
sys.exit("boom" if words.get("fail") == "True" else 0)
"""


def use_fast_jobs(patch: Callable[[object, str, Any], None] = setattr) -> None:
    """Jobs are processes that start at once instead of MONAI; choices are what they are."""
    command = StudyFolder.command

    def fast_command(self: StudyFolder, key: str) -> list[str]:
        words = command(self, key)
        if "--config_file" not in words:
            return words
        return [sys.executable, "-S", "-c", FAST, *words[words.index("--config_file") + 2 :]]

    patch(StudyFolder, "command", fast_command)
