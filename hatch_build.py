"""Compiles the path of every call with mypyc when a wheel is built with `HATCH_BUILD_HOOKS_ENABLE=true`.

Which modules: `compiled` in pyproject.toml. Why: docs/decisions/0013-a-compiled-data-path.md.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# mypy would read the project's own settings, which cover the tests too
_MYPY = """[mypy]
follow_untyped_imports = True
ignore_missing_imports = True
"""


class CompileHook(BuildHookInterface[Any]):
    """Adds a compiled module beside each source it is made from. Python prefers the compiled one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile a copy: a module built in place would be preferred to every later edit of its source."""
        del version
        # removed by finalize, when the wheel has been written
        self._folder = Path(tempfile.mkdtemp(prefix="weir-compile-"))
        shutil.copytree(Path(self.root, "src", "weir"), self._folder / "weir")
        (self._folder / "mypy.ini").write_text(_MYPY)
        modules = [f"weir/{module}" for module in self.config["compiled"]]
        done = subprocess.run(
            [sys.executable, "-m", "mypyc", "--config-file", "mypy.ini", *modules],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            # hatchling calls finalize only where initialize has returned
            shutil.rmtree(self._folder)
            raise RuntimeError(f"mypyc could not compile weir (is a C compiler there?):\n{done.stdout[-4000:]}")
        # they load what they share from a module that mypyc puts beside the package
        made = [*self._folder.glob("*.so"), *(self._folder / "weir").rglob("*.so")]
        build_data["force_include"].update({str(path): str(path.relative_to(self._folder)) for path in made})
        build_data["infer_tag"] = True
        build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        del version, build_data, artifact_path
        shutil.rmtree(self._folder)
