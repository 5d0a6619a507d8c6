# SPDX-License-Identifier: Apache-2.0
"""The C core under threads that run at the same time; see races.c."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from qdevpy.native.build_core import SOURCES

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[2] / "qdevpy/native"
FLAGS = ("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{NATIVE}/include", f"-I{NATIVE}/csrc")
#: gcc's ThreadSanitizer does not know fences; guest memory, which they order, is not instrumented
TSAN = ("-fsanitize=thread", "-Wno-tsan")

pytestmark = pytest.mark.slow


def build(folder: Path, *flags: str) -> Path:
    """races.c with the core's sources."""
    vcpu, program = folder / "vcpu.o", folder / "races"
    sources = [NATIVE / f"csrc/{name}.c" for name in SOURCES if name != "vcpu"]
    for command in (
        ["gcc", *FLAGS, *flags, "-Dioctl=fake_ioctl", "-c", NATIVE / "csrc/vcpu.c", "-o", vcpu],
        ["gcc", *FLAGS, *flags, "-o", program, HERE / "races.c", *sources, vcpu],
    ):
        subprocess.run([str(word) for word in command], check=True)
    return program


def run(program: Path, what: str) -> str:
    """The program's output; a race or a failure in it fails the test."""
    done = subprocess.run(
        [str(program), what],
        env=os.environ | {"TSAN_OPTIONS": "halt_on_error=1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    if "unexpected memory mapping" in done.stdout:
        pytest.skip("ThreadSanitizer does not run with this kernel's address space layout")
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with ThreadSanitizer."""
    found = subprocess.run(["gcc", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True).stdout
    if "/" not in found:
        pytest.skip("gcc has no libtsan here; install libgcc-12-dev or its like")
    return build(tmp_path_factory.mktemp("races"), *TSAN)


@pytest.mark.parametrize("what", ["space", "ring", "polled-ring", "packed-ring", "packed-polled-ring", "stop"])
def test_threads_of_the_core_do_not_race(sanitized: Path, what: str) -> None:
    run(sanitized, what)


def test_no_kick_interrupt_or_stop_is_lost_at_full_speed(tmp_path: Path) -> None:
    program = build(tmp_path, "-O2")
    run(program, "kicks")
    for rings in ("polled-kicks", "packed-kicks", "packed-polled-kicks"):
        run(program, rings)
    run(program, "stop")


def test_main_loop_gets_the_lock_between_busy_vcpus(tmp_path: Path) -> None:
    found = re.search(r"waited (\d+) us on average, .* accesses (\d+) (\d+) (\d+) (\d+)", run(build(tmp_path), "lock"))
    assert found
    average, *counts = map(int, found.groups())
    assert average < 10_000  # one access of each of four vCPUs takes 800
    assert max(counts) < 4 * min(counts)


def test_thread_sanitizer_is_awake(tmp_path: Path, sanitized: Path) -> None:
    source = tmp_path / "race.c"
    source.write_text(
        "#include <pthread.h>\nint n; static void *add(void *arg) { for (int i = 0; i < 100000; i++) n++; return arg; }\n"
        "int main(void) { pthread_t t; pthread_create(&t, 0, add, 0); add(0); pthread_join(t, 0); }\n"
    )
    subprocess.run(["gcc", "-O0", "-pthread", *TSAN, str(source), "-o", str(tmp_path / "race")], check=True)
    done = subprocess.run([str(tmp_path / "race")], capture_output=True, text=True, check=False)
    assert "data race" in done.stderr
