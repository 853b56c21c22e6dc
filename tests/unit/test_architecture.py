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
    "ddmq.former.renamed",
    "ddmq.errors",
    "ddmq.storage.background",
    "ddmq.clock",
    "ddmq.schedulers",
    "ddmq.storage.names",
    "ddmq.storage.range_names",
    "ddmq.settings",
    "ddmq.untrusted",
    "ddmq.message",
    "ddmq.seen",
    "ddmq.storage.directories",
    "ddmq.storage.filesystem",
    "ddmq.storage.lock_file",
    "ddmq.storage.locks",
    "ddmq.storage.layout",
    "ddmq.storage.dead_letters",
    "ddmq.storage.scan",
    "ddmq.storage.buckets",
    "ddmq.storage.bundle_file",
    "ddmq.storage.bundles",
    "ddmq.storage.ranges",
    "ddmq.storage.ready",
    "ddmq.storage.leases",
    "ddmq.storage.delayed",
    "ddmq.storage.drop",
    "ddmq.storage.census",
    "ddmq.storage.leftovers",
    "ddmq.storage.then",
    "ddmq.storage.workers",
    "ddmq.storage.contents",
    "ddmq.storage.pause",
    "ddmq.storage.whereabouts",
    "ddmq.storage.cancelled",
    "ddmq.storage.keys",
    "ddmq.storage.store",
    "ddmq.storage.purge",
    "ddmq.storage.transfer",
    "ddmq.storage.settings_file",
    "ddmq.storage.roots",
    "ddmq.storage.expiry",
    "ddmq.storage.housekeeping",
    "ddmq.queue_policy",
    "ddmq.holding.heartbeat",
    "ddmq.holding.held",
    "ddmq.broker",
]
ABOVE = [
    "ddmq.cli.errors",
    "ddmq.hpc.signals",
    "ddmq.hpc.placeholders",
    "ddmq.hpc.options",
    "ddmq.diagnose.check.mounts",
    "ddmq.diagnose.versions",
    "ddmq.diagnose.surroundings",
    "ddmq.cli.version",
    "ddmq.cli.spec",
    "ddmq.hpc.limits",
    "ddmq.cli.worker_arguments",
    "ddmq.hpc.folder",
    "ddmq.hpc.journal",
    "ddmq.hpc.granted",
    "ddmq.hpc.report.binned",
    "ddmq.hpc.report.gather",
    "ddmq.hpc.report.asked",
    "ddmq.hpc.report.sections",
    "ddmq.hpc.report.numbers",
    "ddmq.hpc.report.charts",
    "ddmq.hpc.report.page",
    "ddmq.hpc.faults",
    "ddmq.hpc.beginning",
    "ddmq.hpc.results.result",
    "ddmq.hpc.results.output_names",
    "ddmq.hpc.results.manifest",
    "ddmq.hpc.running.guardian",
    "ddmq.hpc.running.stream",
    "ddmq.hpc.running.process",
    "ddmq.hpc.running.execution",
    "ddmq.hpc.running.progress",
    "ddmq.hpc.running.command",
    "ddmq.hpc.running.persistent",
    "ddmq.hpc.running.launcher",
    "ddmq.hpc.running.slots",
    "ddmq.hpc.settling",
    "ddmq.hpc.brake",
    "ddmq.hpc.poller",
    "ddmq.hpc.then",
    "ddmq.hpc.preflight",
    "ddmq.hpc.supply",
    "ddmq.hpc.triage",
    "ddmq.hpc.presence",
    "ddmq.hpc.worker",
    "ddmq.hpc.functions.serving",
    "ddmq.hpc.functions.calling",
    "ddmq.hpc.functions.library",
    "ddmq.hpc.submit",
    "ddmq.hpc.chain",
    "ddmq.hpc.executor.calls",
    "ddmq.hpc.executor.enclosure",
    "ddmq.hpc.executor.plain_calls",
    "ddmq.hpc.executor.pickled_calls",
    "ddmq.hpc.executor.bundled_calls",
    "ddmq.hpc.executor.caller",
    "ddmq.hpc.executor.crew",
    "ddmq.hpc.executor.collector",
    "ddmq.hpc.executor.executor",
    "ddmq.cli.input",
    "ddmq.cli.whole_file",
    "ddmq.former.queues",
    "ddmq.diagnose.finding",
    "ddmq.diagnose.check.space",
    "ddmq.diagnose.check.children",
    "ddmq.diagnose.check.channel",
    "ddmq.diagnose.check.probes",
    "ddmq.diagnose.check.storm",
    "ddmq.diagnose.check.rendezvous",
    "ddmq.diagnose.check.report",
    "ddmq.diagnose.check.session",
    "ddmq.diagnose.patient",
    "ddmq.diagnose.symptoms.access",
    "ddmq.diagnose.symptoms.times",
    "ddmq.diagnose.symptoms.contents",
    "ddmq.diagnose.doctor",
    "ddmq.cli.workforce",
    "ddmq.cli.panel",
    "ddmq.cli.screen",
    "ddmq.cli.watching",
    "ddmq.cli.commands.workers",
    "ddmq.cli.commands.watch",
    "ddmq.cli.commands.view",
    "ddmq.cli.commands.queues",
    "ddmq.cli.commands.publish",
    "ddmq.cli.commands.consume",
    "ddmq.cli.commands.settle",
    "ddmq.cli.selection",
    "ddmq.cli.commands.dead_letters",
    "ddmq.cli.commands.peek",
    "ddmq.cli.commands.status",
    "ddmq.cli.commands.log",
    "ddmq.cli.commands.results",
    "ddmq.cli.commands.report",
    "ddmq.cli.commands.pause",
    "ddmq.cli.commands.transfer",
    "ddmq.cli.commands.cancel",
    "ddmq.cli.commands.export",
    "ddmq.cli.commands.migrate",
    "ddmq.cli.commands.wait",
    "ddmq.cli.commands.config",
    "ddmq.cli.commands.diagnose",
    "ddmq.cli.json_api",
    "ddmq.cli.progress",
    "ddmq.cli.main",
    "ddmq.cli.worker_progress",
    "ddmq.cli.standard_error",
    "ddmq.cli.worker",
    "ddmq.cli.submit",
]
LAYERS = CORE + ABOVE
#: What the public API, and `ddmq`, ask of a module above it, when a user asks for that. And
#: `names` imports `range_names`, which builds on it, once there is the name of a range.
ASKED_FOR = {
    "ddmq.storage.names": {"ddmq.storage.range_names"},
    "ddmq.broker": {"ddmq.hpc.journal", "ddmq.hpc"},
    "ddmq.cli.main": {"ddmq.cli.worker", "ddmq.cli.submit"},
}


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
    found = imported_by(module) - ASKED_FOR.get(module, set())
    assert found & set(LAYERS) <= below


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_nothing_of_what_is_built_on_it(module):
    names = imported_by(module) - ASKED_FOR.get(module, set())
    assert not any(name.startswith("ddmq.hpc") for name in names)
    assert not {"argparse", "subprocess"} & names


def test_only_settings_reads_yaml():
    assert importers_of("yaml") == {"ddmq.settings"}


def test_only_lockfile_uses_filelock():
    assert importers_of("filelock") == {"ddmq.storage.lock_file"}


def test_only_the_clock_reads_the_time():
    assert importers_of("time") == {"ddmq.clock"}
    assert importers_of("datetime") == {"ddmq.clock"}


@pytest.mark.parametrize("module", LAYERS)
def test_every_exit_of_a_block_has_the_same_type(module):
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    exits = [
        f"def {node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
        for node in ast.walk(tree)
        if getattr(node, "name", None) == "__exit__"
    ]
    assert set(exits) <= {"def __exit__(self, *raised: object) -> None"}


def test_only_the_package_itself_says_what_is_public():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    kinds = {type(node) for node in tree.body}
    assert kinds <= {ast.Expr, ast.ImportFrom, ast.If, ast.Assign, ast.FunctionDef}
    assert set(ddmq.__all__) <= set(dir(ddmq))
