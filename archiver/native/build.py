"""Compiles the native core: when pip builds the package, or ``python archiver/native/build.py``.

The compiler is Zig's, which comes as a package (ziglang, a build requirement), so that a machine
needs none of its own; else the system's.  Without either the package is built without the core.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = HERE / "src"
FOLDER = HERE / "built"  # one library for each instruction set: NAME.so

# name -> instruction set as Zig and as other compilers write it, the best one first
TARGETS = {
    "x86_64": {
        "avx512": ("-mcpu=x86_64_v4+avx512vnni", "-march=x86-64-v4 -mavx512vnni"),
        "avx2": ("-mcpu=x86_64_v3", "-march=x86-64-v3"),
        "portable": ("-mcpu=x86_64", "-march=x86-64"),
    },
    "aarch64": {
        "dotprod": ("-mcpu=generic+dotprod", "-march=armv8.2-a+dotprod"),
        "portable": ("-mcpu=generic", "-march=armv8-a"),
    },
}
FLAGS = (
    *("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"),
    # a product and a sum are rounded one by one wherever the source does not ask for less
    *("-ffp-contract=off", "-fno-math-errno", "-fno-sanitize=all", "-fno-strict-aliasing"),
)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
TIMEOUT_S = 300


def machine() -> str:
    """Return the processor architecture of this machine, as `TARGETS` names it."""
    name = platform.machine().lower()
    return MACHINES.get(name, name)


def compiler() -> tuple[list[str], bool] | None:
    """Return the command of a C compiler and whether it is Zig's; None if there is none."""
    if os.environ.get("CC"):
        return os.environ["CC"].split(), False
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"], True
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name], False
    return None


def build(folder: Path = FOLDER) -> list[Path]:
    """Compile the core for every instruction set of this machine; returns the libraries made.

    CalledProcessError, with what the compiler said, if the source does not compile.
    """
    found, targets = compiler(), TARGETS.get(machine(), {})
    if found is None or not targets or sys.platform != "linux":
        return []
    command, is_zig = found
    folder.mkdir(exist_ok=True)
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    running = []
    for name, (zig, other) in targets.items():
        wip = folder / f"{name}.wip"
        target = ["-target", f"{machine()}-linux-gnu.2.17"] if is_zig else []
        flags = [*FLAGS, *target, *(zig if is_zig else other).split()]
        line = [*command, *flags, *sources, "-o", str(wip), "-lm"]
        running.append((wip, subprocess.Popen(line, stderr=subprocess.PIPE, text=True)))
    return [_finished(wip, process) for wip, process in running]


def _finished(wip: Path, process: subprocess.Popen[str]) -> Path:
    """Return the library that a compiler made; one that runs already keeps the old file."""
    _, said = process.communicate(timeout=TIMEOUT_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, stderr=said)
    return wip.replace(wip.with_suffix(".so"))


def main() -> None:
    """Build in place, for those who change the source."""
    for path in build():
        sys.stdout.write(f"{path}\n")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # only there while the package is built
    pass
else:

    class NativeHook(BuildHookInterface[Any]):
        """Has the core compiled when pip builds the package."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile, and put what was made into the wheel."""
            made: list[Path] = []
            try:
                made = build()
            except subprocess.CalledProcessError as error:
                self.app.display_warning(f"the native core does not compile:\n{error.stderr}")
            if not made:
                self.app.display_warning("built without the native core: coding will be slower")
                return
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform_tag()}"
            build_data["artifacts"] += [f"/archiver/native/built/{path.name}" for path in made]

    def _platform_tag() -> str:
        return f"manylinux_2_17_{machine()}"


if __name__ == "__main__":
    main()
