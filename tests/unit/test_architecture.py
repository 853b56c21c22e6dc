"""Imports point one way: down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ddmq

PACKAGE = Path(ddmq.__file__).parent

#: Lowest first; a module may import only what is listed before it.
CORE = [
    "ddmq.printable",
    "ddmq.untrusted",
    "ddmq.errors",
    "ddmq.log",
    "ddmq.patience",
    "ddmq.clock",
    "ddmq.scheduler",
    "ddmq.holder",
    "ddmq.names",
    "ddmq.settings",
    "ddmq.message",
    "ddmq.directories",
    "ddmq.fs",
    "ddmq.lockfile",
    "ddmq.locks",
    "ddmq.buckets",
    "ddmq.line",
    "ddmq.bundle",
    "ddmq.bundles",
    "ddmq.letters",
    "ddmq.store",
    "ddmq.purge",
    "ddmq.config",
    "ddmq.admin",
    "ddmq.housekeeping",
    "ddmq.broker",
]
ABOVE = [
    "ddmq.boundary",
    "ddmq.hpc.signals",
    "ddmq.hpc.options",
    "ddmq.hpc.arguments",
    "ddmq.hpc.placeholders",
    "ddmq.hpc.deadline",
    "ddmq.hpc.folder",
    "ddmq.hpc.journal",
    "ddmq.hpc.job",
    "ddmq.hpc.guardian",
    "ddmq.hpc.trouble",
    "ddmq.hpc.stream",
    "ddmq.hpc.result",
    "ddmq.hpc.runner",
    "ddmq.hpc.execution",
    "ddmq.hpc.heartbeat",
    "ddmq.hpc.settling",
    "ddmq.hpc.idleness",
    "ddmq.hpc.trials",
    "ddmq.hpc.worker",
    "ddmq.hpc.submit",
    "ddmq.hpc.chain",
    "ddmq.source",
    "ddmq.check.mounts",
    "ddmq.check.space",
    "ddmq.check.children",
    "ddmq.check.channel",
    "ddmq.check.probes",
    "ddmq.check.storm",
    "ddmq.check.rendezvous",
    "ddmq.check.report",
    "ddmq.check.session",
    "ddmq.symptoms",
    "ddmq.doctor",
    "ddmq.actions",
    "ddmq.commands",
    "ddmq.cli",
    "ddmq.hpc.cli",
    "ddmq.hpc.submit_cli",
]
LAYERS = CORE + ABOVE


def path_of(module):
    return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")


def without_types(tree):
    """Yield the nodes that run: not those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        is_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not is_types:
            yield node
            yield from without_types(node)


def imported_by(module):
    """Return all that a module imports, in functions too: modules, and names in them."""
    names = set()
    for node in without_types(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def importers_of(library):
    return {module for module in LAYERS if library in imported_by(module)}


def test_every_module_has_a_layer():
    files = {p for p in PACKAGE.rglob("*.py") if not p.stem.startswith("__")}
    assert files == {path_of(module) for module in LAYERS}


@pytest.mark.parametrize("module", LAYERS)
def test_imports_point_down(module):
    below = set(LAYERS[: LAYERS.index(module)])
    assert imported_by(module) & set(LAYERS) <= below


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_nothing_of_what_is_built_on_it(module):
    names = imported_by(module)
    assert not any(name.startswith("ddmq.hpc") for name in names)
    assert not {"argparse", "subprocess"} & names


def test_only_settings_reads_yaml():
    assert importers_of("yaml") == {"ddmq.settings"}


def test_only_lockfile_uses_filelock():
    assert importers_of("filelock") == {"ddmq.lockfile"}


def test_only_the_clock_reads_the_time():
    assert importers_of("time") == {"ddmq.clock"}
    assert importers_of("datetime") == {"ddmq.clock"}


def test_only_the_package_itself_says_what_is_public():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    kinds = {type(node) for node in tree.body}
    assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}
    assert set(ddmq.__all__) <= set(dir(ddmq))
