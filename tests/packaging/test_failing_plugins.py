# SPDX-License-Identifier: Apache-2.0
"""Third-party devices that fail in a machine that boots: by an exception, by not coming back, by a crash of their C code."""

import signal
import subprocess
import time

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]

PATIENCE = 60.0

#: two devices; what is done to the first one fails, and the second one goes on
GUEST = """
from qdevpy.testing.guest import GuestProgram

program = GuestProgram()
first, second = program.place_bar(4), program.place_bar(5)
program.store(first + 0x10, 3)
program.expect(first + 0x04, 0xFFFFFFFF)
program.store(second + 0x00, 42)
program.expect(second + 0x04, 42)
program.save("guest.elf")
"""


@pytest.fixture(scope="module")
def hasty(author, tmp_path_factory):
    """A package with a device in Python, two of them in its machine."""
    folder = make(author, tmp_path_factory.mktemp("hasty"), "hasty", "pci")
    machine = folder / "machine.yaml"
    machine.write_text(machine.read_text().replace("  - isa-debug", "  - hasty: {id: dev1, addr: 5}\n  - isa-debug"))
    (folder / "guest.py").write_text(GUEST)
    author.run("python", "guest.py", cwd=folder)
    return folder


def make(author, parent, name, *kind):
    author.run("qdevpy", "new-plugin", name, "--kind", *kind, cwd=parent)
    folder = parent / f"qdevpy-{name}"
    author.run("pip", "install", "-q", "--no-build-isolation", "--editable", ".", cwd=folder)
    return folder


def change(path, old, new):
    """Put NEW into the device's code in OLD's place; byte code of the same second must not hide it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    for left in path.parent.glob("__pycache__/*"):
        left.unlink()
    return lambda: change(path, new, old)


@pytest.fixture
def fails(hasty):
    """Has a callback of the device do what it is told."""
    undo = []
    start = "        try:\n            data"
    yield lambda what: undo.append(change(hasty / "qdevpy_hasty" / "device.py", start, f"        {what}\n{start}"))
    for back in undo:
        back()


def boot(author, folder):
    return subprocess.run(
        [author.bin / "qdevpy", "boot", "machine.yaml"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_exception_breaks_its_device_alone_and_the_guest_goes_on(author, hasty, fails):
    fails('raise KeyError("nothing there")')

    done = boot(author, hasty)

    assert done.returncode == 0, f"the guest's checks failed\n{done.stderr}"
    assert "dev0 (hasty): in write of 0x3 to count (mmio offset 0x10, 4 bytes)" in done.stderr
    assert "KeyError: 'nothing there'" in done.stderr
    assert "dev1" not in done.stderr


def test_callback_that_does_not_come_back_is_named_by_the_watchdog(author, hasty, fails):
    fails("while True: pass")
    errors = hasty / "stderr"

    with errors.open("w") as out:
        machine = subprocess.Popen(
            [author.bin / "qdevpy", "boot", "machine.yaml"], cwd=hasty, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while "in fetch" not in errors.read_text() and machine.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            machine.kill()
            machine.wait()

    told = errors.read_text()
    assert "dev0 (hasty), of qdevpy_hasty.device: in write of 0x3 to count (mmio offset 0x10, 4 bytes) for more than 5 s" in told
    assert told.count("for more than") == 1
    assert "while True: pass" in told, "the stack shows where it is"


def test_c_handler_that_crashes_is_named_with_package_device_and_queue(author, tmp_path):
    folder = make(author, tmp_path, "brittle", "virtio", "--native")
    change(
        folder / "csrc" / "handler.c", "    uint8_t piece[PIECE];\n", "    uint8_t piece[PIECE];\n    *(volatile int *)16 = 1;\n"
    )
    author.run("pip", "install", "-q", "--no-build-isolation", "--editable", ".", cwd=folder)
    author.run("python", "guest.py", cwd=folder)

    done = boot(author, folder)

    assert done.returncode == -signal.SIGSEGV
    assert (
        "dev0 (virtio-brittle-device), of qdevpy_brittle.device: signal 11 at address 0x10 in its C handler, "
        "while serving a kick of queue 0; the machine has ended\n"
    ) in done.stderr
