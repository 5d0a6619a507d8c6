# SPDX-License-Identifier: Apache-2.0
"""A wheel of qdevpy, and a fresh environment with it and what a plugin's author uses."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("pytest", "mypy", "ruff", "cffi", "setuptools>=70")


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A copy of what git tracks, so that leftovers of the work tree cannot help."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["cp", "--parents", "-t", str(source), *listed.decode().strip("\0").split("\0")], cwd=ROOT, check=True)
    return source


@pytest.fixture(scope="session")
def wheel(source, tmp_path_factory):
    """A wheel, built from that copy."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source)], check=True)
    return next(out.glob("*.whl"))


class Environment:
    """An environment of its own.

    :param folder: where
    """

    def __init__(self, folder):
        venv.create(folder, with_pip=True)
        self.bin = folder / "bin"

    def _run(self, program, words, cwd):
        command = [self.bin / program, *map(str, words)]
        return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def run(self, program, *words, cwd):
        """Run one of its programs; what it printed.

        :raises AssertionError: it fails; with everything that it printed
        """
        done = self._run(program, words, cwd)
        assert done.returncode == 0, f"{program} {' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
        return done.stdout

    def fail(self, program, *words, cwd):
        """Run one of its programs, which is to fail; its errors."""
        done = self._run(program, words, cwd)
        assert done.returncode == 1, f"{program} {' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr

    def check_plugin(self, folder):
        """Install the package in FOLDER and run its own checks, as its author does."""
        # what builds it is installed; qdevpy, which one with C needs for that, is in no registry that pip would ask
        self.run("pip", "install", "-q", "--no-build-isolation", "--editable", ".", cwd=folder)
        self.run("ruff", "check", cwd=folder)
        self.run("ruff", "format", "--check", cwd=folder)
        self.run("mypy", cwd=folder)
        return self.run("python", "-m", "pytest", "-q", "-rs", cwd=folder)


@pytest.fixture(scope="session")
def author(wheel, tmp_path_factory):
    """The environment of somebody who writes plugins."""
    environment = Environment(tmp_path_factory.mktemp("author") / "env")
    environment.run("pip", "install", "-q", wheel, *TOOLS, cwd=wheel.parent)
    return environment
