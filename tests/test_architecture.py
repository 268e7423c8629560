"""The rules of the house: imports go down, in no circle, and backends are named where they are dealt with."""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend_independent
PACKAGE = Path(__file__).resolve().parents[1] / "keras_exfuse"
# Each may import what stands above it, itself, and nothing else of the package.
LAYERS = (
    ("_constants", "_files", "_optional", "_threads", "_palette", "recipes"),
    ("_kernels", "visualize"),
    ("layers", "losses", "data"),
    ("backbones", "metrics", "presets"),
    ("models",),
    ("inference",),
    ("loading", "export"),
    ("training",),
    ("cli",),
    ("",),  # The package itself: the public surface.
    ("__main__",),
)
# Where a backend is named outside of `_kernels`: file, and why.
NAMES_A_BACKEND = {
    "training/distribution.py": "devices, seeds and determinism are each backend's own",
    "training/data.py": "the pipelines are tf.data under every backend",
    "training/run_directory.py": "TensorBoard's events are written by TensorFlow",
    "export": "every format is written under TensorFlow",
    "data": "the pipelines are tf.data under every backend",
    "cli": "messages and options about backends",
    "models/_batches.py": "the data sets of a user may be TensorFlow's or torch's",
    "models/_inputs.py": "TensorFlow's errors carry ours",
    "inference/exported.py": "runs a SavedModel",
    "inference/predictor.py": "chooses how Keras predicts",
    "backbones": "public weight files are torch's",
}
BACKENDS = re.compile(r"\b(tensorflow|torch|jax)\b")


def modules():
    """Name, path and tree of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, path, ast.parse(path.read_text())


MODULES = {name: (path, tree) for name, path, tree in modules()}


def imports_of(tree):
    """Modules of the package that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_exfuse"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("keras_exfuse"))


def part_of(module):
    return module.split(".")[1] if "." in module else ""


def test_every_part_has_its_place():
    assert {part_of(name) for name in MODULES} == {part for row in LAYERS for part in row}


def test_imports_go_down():
    height = {part: number for number, row in enumerate(LAYERS) for part in row}
    wrong = [
        f"{name} imports {target}"
        for name, (_, tree) in MODULES.items()
        for target in imports_of(tree)
        if part_of(target) != part_of(name) and height[part_of(target)] >= height[part_of(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others():
    edges = {name: set(imports_of(tree)) & set(MODULES) for name, (_, tree) in MODULES.items()}
    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(edges[name]):
                visit(target, [*path, name])
            done.add(name)

    for name in edges:
        visit(name, [])


def test_the_network_knows_nothing_of_how_it_is_computed():
    for name, (_, tree) in MODULES.items():
        if part_of(name) in ("models", "layers", "backbones"):
            targets = {each for each in imports_of(tree) if each.startswith("keras_exfuse._kernels")}
            assert targets <= {"keras_exfuse._kernels"}, name


def test_backends_are_named_where_they_are_dealt_with():
    wrong = []
    for path, tree in MODULES.values():
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith("_kernels/") or any(place.startswith(each) for each in NAMES_A_BACKEND):
            continue
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node)
        }
        for node in ast.walk(tree):
            named = (
                isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
            )
            if (named and BACKENDS.fullmatch(node.value)) or (
                isinstance(node, ast.Import) and any(BACKENDS.match(each.name) for each in node.names)
            ):
                wrong.append(f"{place}:{node.lineno}")
    assert not wrong, "\n".join(wrong)
