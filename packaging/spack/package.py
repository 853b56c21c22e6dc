"""A package for Spack: copy it to `packages/py_ddmq/` of a repository of yours, and edit `git`."""

from spack.package import depends_on, license, version  # noqa: A004
from spack_repo.builtin.build_systems.python import PythonPackage


class PyDdmq(PythonPackage):
    """A message queue made of files, for clusters; no server."""

    git = "CHANGE-ME"

    license("MIT")

    # For a release: version("1.0.0", sha256=…), and `pypi` or `url`.
    version("1.0.0", tag="v1.0.0")

    depends_on("python@3.9:", type=("build", "run"))
    depends_on("py-setuptools@64:", type="build")
    depends_on("py-filelock@3.12:", type=("build", "run"))
    depends_on("py-pyyaml@6.0:", type=("build", "run"))
