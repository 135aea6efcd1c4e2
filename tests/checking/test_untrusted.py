"""What a stranger's bundle would do is told without doing any of it."""

import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from traps import trapped_bundle, write_config

from mtmed.checking.untrusted.expression import read_expression
from mtmed.checking.untrusted.finding import printable
from mtmed.checking.untrusted.pickled import weights_faults
from mtmed.checking.untrusted.report import check_untrusted
from mtmed.cli import main
from mtmed.errors import InputError

BUNDLES = Path(__file__).parents[2] / "bundles"


def suspicious(text: str) -> list[str]:
    return [reason for _, _, reason in read_expression(text, {}) if reason]


def reasons(tmp_path: Path, content: Any) -> dict[str, str]:
    findings = check_untrusted([write_config(tmp_path / "train.json", content)])
    return {item.what: item.reason for item in findings if item.reason}


def test_nothing_of_a_trapped_bundle_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    config = trapped_bundle(tmp_path / "bundle", mark)
    monkeypatch.chdir(tmp_path / "bundle")
    monkeypatch.syspath_prepend(str(tmp_path / "bundle"))
    report = tmp_path / "report.json"
    assert main(["check", "--untrusted", str(tmp_path / "bundle"), "--json", str(report)]) == 1
    assert main(["check", "--untrusted", config]) == 1
    assert not mark.exists()
    assert "suspicious" in capsys.readouterr().out
    found = {item["what"] for item in json.loads(report.read_text())["findings"] if item["reason"]}
    assert {"trapmodule", "os.system", "subprocess.run", "trapmodule.component", "open", "trapmodule.py"} <= found
    # the same traps do run where a config is trusted, so they are traps
    main(["check", "--no-data", config])
    assert mark.exists()
    sys.modules.pop("trapmodule")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "eval('1')",
        "getattr(torch, 'load')('x')",
        "().__class__.__base__.__subclasses__()",
        "torch.load('x', weights_only=False)",
        "torch.load('x', weights_only=@safe)",
        "torch.hub.load('a', 'b')",
        "torch.os.system('x')",
        "torch._utils._rebuild('x')",
        "monai.utils.optional_import('os')[0].system('x')",
        "monai.bundle.run(config_file='x')",
        "np.load('x', allow_pickle=True)",
        "(lambda m: m.hub)(torch)",
        "[m for m in [torch]][0].load('x')",
        "print.__self__",
        "'{0.__class__}'.format(1)",
        "type('A', (), {})",
        "import subprocess",
        "from os import system",
        "unheard_of.thing()",
        "pathlib.Path('x').write_text('y')",
        "@a.unlink()",
        "'https://example.org/x'",
        "open('../x')",
        "'/etc/passwd'",
        "'@x + '",
        "1 +",
    ],
)
def test_an_expression_that_reaches_beyond_the_config_is_suspicious(text: str) -> None:
    assert suspicious(text), text


@pytest.mark.parametrize(
    "text",
    [
        "len(@cohort.manifests[0].modalities)",
        "torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "@output_dir + ('/model.pt' if @split.validation else '/last.pt')",
        "[p for p in @train#model.parameters() if p.requires_grad]",
        "monai.utils.set_determinism(@seed)",
        "torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0)))",
        "torch.load('x', weights_only=True)",
        "import mtmed.data",
        "mtmed.__version__",
        "{**@a, 'b': max(1, @c // 2)}",
        'f"{@a}/model.pt"',
    ],
)
def test_what_training_needs_is_known(text: str) -> None:
    assert suspicious(text) == []


def test_an_import_under_another_name_is_seen_through(tmp_path: Path) -> None:
    found = reasons(tmp_path, {"imports": ["$import os as torch"], "x": "$torch.system('y')"})
    assert "os reaches the machine" in found["os.system"]


@pytest.mark.parametrize(
    "target", ["os.system", "builtins.eval", "scripts.Network", "torch.jit.load", "monai.os.system"]
)
def test_a_target_that_is_no_known_component_is_suspicious(target: str, tmp_path: Path) -> None:
    assert target in reasons(tmp_path, {"x": {"_target_": target}})


def test_components_of_the_known_packages_are_known(tmp_path: Path) -> None:
    names = ("Compose", "torch.optim.Adam", "monai.losses.DiceLoss", "mtmed.networks.UNETR", "ignite.metrics.Loss")
    assert reasons(tmp_path, {name: {"_target_": name} for name in names}) == {}


def test_a_key_that_becomes_code_below_a_relative_reference_is_suspicious(tmp_path: Path) -> None:
    found = reasons(tmp_path, {"a'] or open('x') or ['": {"b": "$@#c", "c": 1}})
    assert any("no plain key" in reason for reason in found.values())


def test_a_key_that_stands_twice_is_suspicious(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"a": 1,\n "a": 2}')
    found = check_untrusted([tmp_path / "c.json"])
    assert "again in line 2" in found[0].reason


def test_a_file_that_a_macro_names_is_read_too(tmp_path: Path) -> None:
    write_config(tmp_path / "part.json", {"x": "$eval('1')"})
    found = reasons(tmp_path, {"a": "%part.json::x", "b": "%../other.json::x"})
    assert "eval" in found
    assert "%../other.json::x" in found


def test_texts_of_the_metadata_may_name_addresses(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps({"data_source": "https://example.org", "x": "$eval('1')"}))
    assert reasons(tmp_path, {"a": 1}).keys() == {"eval"}


def test_yaml_that_repeats_itself_by_aliases_is_read_in_no_time(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    assert not [item for item in check_untrusted([tmp_path / "c.yaml"]) if item.reason]


@pytest.mark.parametrize("bundle", ["mixcl", "ms_lesion", "siamese_kidney", "gi_tract", "two_stage"])
def test_bundles_of_mtmed_do_what_they_say(bundle: str) -> None:
    found = {item.what for item in check_untrusted([BUNDLES / bundle]) if item.reason}
    # the runner of a whole study starts the configs that the study names
    module = "mtmed.bundle.method_study"
    starts = {module, f"{module}.check_method", f"{module}.run_method"}
    assert found == (starts if bundle == "two_stage" else set())


class _Evil:
    def __reduce__(self) -> Any:
        return eval, ("1",)


def test_weights_are_told_by_their_opcodes(tmp_path: Path) -> None:
    state = {"a": torch.nn.Parameter(torch.ones(2)), "b": torch.ones(3, dtype=torch.int64), "c": [1, "x", None]}
    torch.save(state, tmp_path / "new.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("new.pt", "old.pt"):
        found = weights_faults(tmp_path / name)
        assert found is not None
        assert found[1] == [], name
    torch.save({"a": _Evil()}, tmp_path / "evil.pt")
    torch.save({"a": _Evil()}, tmp_path / "evil_old.pt", _use_new_zipfile_serialization=False)
    for protocol in range(2, 6):
        (tmp_path / f"evil_{protocol}.bin").write_bytes(pickle.dumps(_Evil(), protocol=protocol))
    for path in tmp_path.glob("evil*"):
        found = weights_faults(path)
        assert found is not None
        assert any("eval" in fault for fault in found[1]), (path.name, found)


def test_a_name_that_is_hidden_from_the_opcodes_is_suspicious(tmp_path: Path) -> None:
    # STACK_GLOBAL on texts that are no texts: module and name made by another call
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04]]\x93.")
    found = weights_faults(tmp_path / "x.pkl")
    assert found is not None
    assert "hidden" in found[1][0]


def test_other_files_of_a_bundle_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    np.save(folder / "plain.npy", np.zeros(3))
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "header.safetensors").write_bytes(b"\xff" * 64)
    (folder / "run.txt").write_text("#!/bin/sh\n")
    (folder / "notes.txt").write_text("notes")
    (folder / "out").symlink_to("/etc/hosts")
    with zipfile.ZipFile(folder / "scripted.pt", "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("m/code/__torch__.py", "x")
    found = {Path(item.file).name for item in check_untrusted([folder]) if item.reason}
    assert found == {"objects.npy", "header.safetensors", "run.txt", "out", "scripted.pt"}


def test_what_is_no_config_is_refused() -> None:
    with pytest.raises(InputError, match="no such file"):
        check_untrusted(["nowhere.json"])
    with pytest.raises(InputError, match="is no config"):
        check_untrusted([__file__])


def test_a_strangers_text_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[2Jb") == "a\\x1b[2Jb"
    assert len(printable("x" * 500)) == 60
