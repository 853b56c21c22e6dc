"""What is installed is what is tested."""

from __future__ import annotations

import ast
import configparser
import os
import re
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from daemons import install

import ddmq

TOP = Path(__file__).parents[2]

installed = pytest.mark.skipif(
    "TOX_ENV_NAME" not in os.environ, reason="only tox installs"
)


@installed
def test_the_wheel_is_what_is_tested():
    assert "site-packages" in Path(ddmq.__file__).parts


@installed
def test_both_commands_are_installed():
    names = {script.name for script in metadata.distribution("ddmq").entry_points}
    assert names == {"ddmq", "ddmq-submit", "ddmq-worker"}


@installed
def test_completion_and_pages_for_man_are_shipped():
    here = Path(ddmq.__file__).parent / "cli" / "completion"
    assert {path.suffix for path in here.glob("ddmq.*")} == {".bash", ".fish", ".zsh"}
    pages = {path.name for path in Path(sys.prefix).glob("share/man/man1/ddmq*.1")}
    assert pages == {"ddmq.1", "ddmq-submit.1", "ddmq-worker.1"}


@installed
def test_types_are_shipped():
    assert (Path(ddmq.__file__).parent / "py.typed").is_file()


@pytest.mark.skipif(
    os.environ.get("TOX_ENV_NAME") != "oldest",
    reason="only `tox -e oldest` installs the oldest libraries",
)
def test_the_oldest_libraries_are_those_that_are_allowed():
    needed = [r for r in metadata.requires("ddmq") or () if "extra ==" not in r]
    least = dict(re.fullmatch(r"(\w+)>=([\d.]+)", line).groups() for line in needed)
    assert set(least) == {"filelock", "pyyaml"}
    for name, version in least.items():
        installed_now = metadata.version(name)
        assert installed_now.removesuffix(".0") == version.removesuffix(".0")


# What others package from


def needed():
    """Return what setup.cfg asks for: libraries and Python, each with its oldest version."""
    told = configparser.ConfigParser()
    told.read(TOP / "setup.cfg")
    lines = told["options"]["install_requires"].split()
    python = "python" + told["options"]["python_requires"]
    return dict(
        re.fullmatch(r"(\w+)>=([\d.]+)", each).groups() for each in [*lines, python]
    )


def test_the_recipe_for_conda_asks_for_what_setup_cfg_asks_for():
    recipe = yaml.safe_load((TOP / "packaging/conda/recipe.yaml").read_text())
    assert recipe["context"]["version"] == ddmq.__version__
    run = dict(
        re.fullmatch(r"(\w+) >=([\d.]+)", x).groups()
        for x in recipe["requirements"]["run"]
    )
    assert run == needed()
    told = configparser.ConfigParser()
    told.read(TOP / "setup.cfg")
    scripts = told["options.entry_points"]["console_scripts"].split("\n")
    assert recipe["build"]["python"]["entry_points"] == list(filter(None, scripts))


def test_the_package_for_spack_asks_for_what_setup_cfg_asks_for():
    tree = ast.parse((TOP / "packaging/spack/package.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    said = [ast.literal_eval(each.args[0]) for each in calls]
    assert ddmq.__version__ in said
    found = dict(x.removeprefix("py-").rstrip(":").split("@") for x in said if "@" in x)
    assert found.pop("setuptools") == "64"
    assert "setuptools>=64" in (TOP / "pyproject.toml").read_text()
    assert found == needed()


MODULE = TOP / "packaging" / "lmod" / "ddmq" / f"{ddmq.__version__}.lua"


def test_the_module_file_says_where_the_commands_are():
    """It is calls only, which Python reads as well as Lua, but for comments and long texts."""
    text = (
        re.sub(r"(?m)^--.*\n", "", MODULE.read_text())
        .replace("[[", '"""')
        .replace("]]", '"""')
    )
    said = []
    told = {name: lambda *given: said.append(given) for name in ("help", "whatis")}
    told["prepend_path"] = lambda *given: said.append(given)
    told["pathJoin"] = lambda *parts: "/".join(parts)
    told["myModuleVersion"] = lambda: MODULE.stem
    exec(text, told)
    assert ("PATH", f"/opt/ddmq/{ddmq.__version__}/bin") in said


@pytest.mark.root("install Lmod")
def test_lmod_itself_loads_the_module_file():
    lmod = Path("/usr/share/lmod/lmod/libexec/lmod")
    if not lmod.exists():
        install(["lmod"])
    environ = {**os.environ, "MODULEPATH": str(MODULE.parents[1])}
    words = [str(lmod), "bash", "load", f"ddmq/{ddmq.__version__}"]
    done = subprocess.run(
        words, env=environ, capture_output=True, text=True, check=True
    )
    assert f"\nPATH=/opt/ddmq/{ddmq.__version__}/bin:" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("", "", []),
        (
            "## [2.0.0] - 2026-01-31",
            "## [2.0.0] - not released",
            ["CHANGELOG.md: 2.0.0 has no date"],
        ),
        (
            'version: "2.0.0"',
            'version: "1.0.0"',
            ["packaging/conda/recipe.yaml: not of version 2.0.0"],
        ),
    ],
)
def test_what_is_not_written_before_a_release_is_told(tmp_path, old, new, missing):
    texts = {
        "CHANGELOG.md": "## [2.0.0] - 2026-01-31\n",
        "packaging/conda/recipe.yaml": 'version: "2.0.0"',
        "packaging/spack/package.py": 'version("2.0.0")',
        "packaging/lmod/ddmq/2.0.0.lua": "",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(old, new))
    told = runpy.run_path(str(TOP / "packaging" / "release.py"))
    assert told["unwritten"](tmp_path, "2.0.0") == missing
    assert told["unwritten"](tmp_path, "3.0.0") != []
    assert told["version_of"](TOP) == ddmq.__version__
