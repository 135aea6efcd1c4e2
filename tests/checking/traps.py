"""Configs and modules that leave a mark if anything of them runs."""

import json
from pathlib import Path
from typing import Any


def write_config(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content, indent=4))
    return str(path)


def trap(mark: Path) -> str:
    """Python that makes a file."""
    return f"open({str(mark)!r}, 'w').write('ran')"


def trapped_bundle(folder: Path, mark: Path) -> str:
    """A bundle that would leave a mark through an expression, an import, a component, a pickle and a YAML tag."""
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(mark)!r}).write_text('ran')\n\n\ndef component():\n    pass\n"
    (folder / "trapmodule.py").write_text(code)
    config = {
        "imports": ["$import trapmodule", "$import os"],
        "value": f"${trap(mark)}",
        "part": {"_target_": "trapmodule.component"},
        "other": {"_target_": "subprocess.run", "args": ["touch", str(mark)]},
        "run": ["$@value", f"$os.system('touch {mark}')"],
    }
    (folder / "logging.conf").write_text(f"[handler_h]\nclass=StreamHandler\nargs=({trap(mark)},)\n")
    (folder / "metadata.json").write_text(json.dumps({"version": f"${trap(mark)}"}))
    (folder / "tagged.yaml").write_text(f"value: !!python/object/apply:os.system ['touch {mark}']\n")
    return write_config(folder / "train.json", config)
