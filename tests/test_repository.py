"""What holds for the repository as a whole."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

from curator_llm import errors

ROOT = Path(__file__).parents[1]
GENERATED = {
    "__pycache__",
    "build",
    "dist",
    ".venv",
    ".hypothesis",
    ".ipynb_checkpoints",
    ".pytest_cache",
    "dask-scratch-space",
}
LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock"}
INSTALLATION = ("constraints.txt", "pyproject.toml", "Makefile", ".ci/run", ".pre-commit-config.yaml")


def files() -> list[Path]:
    """Return what git tracks or would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    return [path for name in listing.decode().split("\0") if name and (path := ROOT / name).is_file()]


def exceptions(base: type[BaseException]) -> Iterator[type[BaseException]]:
    yield base
    for child in base.__subclasses__():
        yield from exceptions(child)


def test_no_file_is_larger_than_one_megabyte() -> None:
    assert [path for path in files() if path.stat().st_size > 1_000_000] == []


def test_nothing_generated_is_tracked() -> None:
    tracked = [path.relative_to(ROOT) for path in files()]
    assert [path for path in tracked if GENERATED & set(path.parts) or path.suffix in {".pyc", ".parquet", ".so"}] == []


def test_there_is_no_lock_file() -> None:
    assert [path for path in files() if path.name in LOCKS] == []


@pytest.mark.parametrize("name", INSTALLATION)
def test_what_installs_names_no_package_host(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [word for word in ("://", "index-url", "find-links", "trusted-host", "--hash") if word in text] == []


def test_every_module_has_at_most_400_lines() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files() if path.suffix == ".py"}
    assert {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > 400} == {}


def test_importing_the_package_loads_neither_openai_nor_dask_dataframe_nor_distributed() -> None:
    program = "import sys, curator_llm; print(*{'openai', 'dask.dataframe', 'distributed'} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    assert loaded.split() == []


#: Modules that make objects of bytes, and functions that run a text.
MAKERS_OF_OBJECTS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle"}
RUNNERS = {"eval", "exec", "compile", "__import__", "execfile", "system", "popen", "read_pickle", "to_pickle"}
YAML_OF_OBJECTS = {"unsafe_load", "full_load", "load_all", "UnsafeLoader", "FullLoader", "Loader"}


def run_or_unpickled(tree: ast.AST) -> list[str]:
    """Return what a module uses that runs a text, or makes objects of one."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            found += [name for name in modules if name.partition(".")[0] in MAKERS_OF_OBJECTS]
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            of_re = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in {"re", "sys"}
            found += [name] if name in RUNNERS and not of_re else []
            found += ["shell=True"] if any(word.arg == "shell" for word in node.keywords) else []
        if isinstance(node, ast.Attribute) and node.attr in YAML_OF_OBJECTS and ast.unparse(node.value) == "yaml":
            found.append(f"yaml.{node.attr}")
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "eval('1')",
        "os.system('id')",
        "run(['id'], shell=True)",
        "yaml.Loader",
    ],
)
def test_code_that_runs_a_text_or_unpickles_is_found(code: str) -> None:
    assert run_or_unpickled(ast.parse(code)) != []


def test_nothing_is_unpickled_or_evaluated_and_no_shell_is_called() -> None:
    package = {path: run_or_unpickled(ast.parse(path.read_text())) for path in (ROOT / "curator_llm").rglob("*.py")}
    assert len(package) > 100
    assert {str(path.relative_to(ROOT)): found for path, found in package.items() if found} == {}


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("kind", list(exceptions(errors.CuratorLLMError)), ids=lambda kind: kind.__name__)
def test_an_exception_survives_pickling(kind: type[errors.CuratorLLMError], pickler: object) -> None:
    error = kind("`timeout` is 0: give seconds above 0.")
    again = pickle.loads(pickler.dumps(error))  # type: ignore[attr-defined]
    assert type(again) is kind
    assert str(again) == "`timeout` is 0: give seconds above 0."
    assert vars(again) == vars(error)
