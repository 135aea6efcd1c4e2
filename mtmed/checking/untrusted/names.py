"""Which names a config may use without reaching beyond training a network.

The tables say what is known; whatever is in none of them is suspicious.
"""

import re

__all__ = ["BUILTINS", "MODULE_NAMES", "attribute_fault", "name_fault"]

MODULE_NAMES = frozenset(
    {"monai", "torch", "ignite", "mtmed", "numpy", "np", "math", "os", "sys", "pathlib", "datetime"}
)
"""Modules that are recognised by their own name, imported or not; MONAI gives the first ones to every expression."""

BUILTINS = frozenset(
    {"abs", "all", "any", "bool", "dict", "divmod", "enumerate", "filter", "float", "frozenset", "int", "isinstance"}
    | {"len", "list", "map", "max", "min", "next", "iter", "pow", "print", "range", "repr", "reversed", "round", "set"}
    | {"slice", "sorted", "str", "sum", "tuple", "type", "zip", "None", "True", "False"}
)

_KNOWN_PACKAGES = frozenset({"monai", "torch", "ignite", "mtmed", "numpy", "math", "datetime"})
# of modules that reach the machine only these, to the letter; [] is an item that is read
_HARMLESS = frozenset(
    {"os.environ[]", "os.environ.get", "os.path.join", "os.path.basename", "os.path.dirname", "os.path.exists"}
    | {"sys.stdout", "sys.stderr", "sys.stderr.isatty", "sys.stdout.isatty", "sys.maxsize", "pathlib.Path"}
)
_REACHING_MODULES = frozenset(
    {"os", "sys", "subprocess", "shutil", "socket", "pickle", "marshal", "shelve", "ctypes", "importlib", "builtins"}
    | {"runpy", "pty", "codeop", "inspect", "pydoc", "urllib", "http", "ftplib", "smtplib", "requests", "tempfile"}
    | {"pathlib", "io", "glob", "zipfile", "tarfile", "threading", "multiprocessing", "asyncio", "concurrent", "gc"}
    | {"operator", "functools", "atexit", "webbrowser", "platform", "dill", "cloudpickle", "joblib", "posix", "nt"}
    | {"unittest", "pdb", "timeit", "cProfile", "trace", "yaml", "fire"}
)
_REACHING = {
    re.compile(pattern): reason
    for pattern, reason in {
        r"torch\.(hub|package|serialization)\b": "loads code",
        r"torch\.utils\.(cpp_extension|model_zoo|bundled_inputs|collect_env)\b": "loads code",
        r"torch\.(jit|export)\.(load|script|trace)\b": "loads or makes code",
        r"torch\.(ops|classes)\.load_library": "loads a library",
        r"torch\.(fx|multiprocessing|testing|distributed\.(rpc|run|launch|elastic|launcher))\b": "starts code",
        r"torch\.save\b": "writes a file",
        r"numpy\.(f2py|ctypeslib|distutils|testing|lib)\b": "reaches beyond arrays",
        r"numpy\.(save\w*|memmap|fromfile|genfromtxt|loadtxt|DataSource)\b": "reads or writes files",
        r"monai\.bundle\b": "runs, downloads or evaluates other bundles",
        r"monai\.(fl|auto3dseg|config)\b": "runs other programs",
        r"monai\.apps\.(auto3dseg|nnunet|mmars|utils|datasets)\b": "downloads or runs",
        r"monai\.apps\.(download\w*|extractall|check_hash)\b": "downloads or runs",
        r"monai\.(\w+\.)*(optional_import|instantiate|load_submodules|run_cmd|require_pkg|module|run_debug)\b": (
            "finds code by its name"
        ),
        r"monai\.(\w+\.)*(Persistent\w+|CacheNTransDataset|LMDBDataset|GDSDataset)\b": "reads pickles",
        r"monai\.(\w+\.)*(pickle\w*|load_net\w*)\b": "reads pickles",
        r"ignite\.distributed\.(spawn|launcher|Parallel)\b": "starts processes",
        r"mtmed\.bundle\.process\b": "starts processes",
        r"mtmed\.bundle\.method_study\b": "starts the configs that a study file names: check these too",
        r"mtmed\.(studies|cli|zoo|checking)\b": "runs other configs",
    }.items()
}
_REACHING_ATTRIBUTES = frozenset(
    {
        "system",
        "popen",
        "Popen",
        "check_output",
        "check_call",
        "spawn",
        "fork",
        "execv",
        "execve",
        "write_text",
        "chmod",
    }
    | {"write_bytes", "unlink", "rmdir", "rmtree", "symlink_to", "hardlink_to", "touch", "mkdir", "makedirs", "open"}
    | {"load_module", "exec_module", "import_module", "find_spec", "loads", "load", "dump", "dumps", "tofile"}
    | {"extractall", "connect", "urlopen", "urlretrieve", "modules", "runcall", "environ", "putenv", "read_text"}
    | {"gi_frame", "gi_code", "f_globals", "f_builtins", "f_back", "tb_frame", "func_globals", "cr_frame"}
)
_HARMLESS_DUNDERS = frozenset({"__version__", "__name__"})


def name_fault(name: str) -> str:
    """Why a dotted name, as ``torch.nn.Linear``, is suspicious; empty if it is known.

    Args:
        name: with its package first; a trailing ``[]`` says that an item of it is read.
    """
    parts = name.removesuffix("[]").split(".")
    if parts[0] == "np":
        parts[0] = "numpy"
    full = ".".join(parts)
    if name in _HARMLESS:
        return ""
    if hidden := next((part for part in parts if _is_dunder(part)), None):
        return f"{hidden} reaches the inside of Python"
    if parts[0] in _REACHING_MODULES:
        return f"{parts[0]} reaches the machine"
    if parts[0] not in _KNOWN_PACKAGES:
        return f"{parts[0]} is no package that is known here"
    if through := next((part for part in parts[1:] if part in _REACHING_MODULES), None):
        return f"{through} is reached through {parts[0]}"
    if private := next((part for part in parts[1:] if part.startswith("_") and part not in _HARMLESS_DUNDERS), None):
        return f"{private} is private"
    for pattern, reason in _REACHING.items():
        if pattern.match(full):
            return reason
    if full != "torch.load" and (fault := attribute_fault(parts[-1])):
        return fault
    return ""


def attribute_fault(name: str) -> str:
    """Why an attribute of an object that is not known by name is suspicious; empty if it is not."""
    if _is_dunder(name):
        return f"{name} reaches the inside of Python"
    return f"{name} reads, writes or runs something" if name in _REACHING_ATTRIBUTES else ""


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name not in _HARMLESS_DUNDERS
