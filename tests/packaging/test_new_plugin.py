# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy new-plugin`` writes installs, passes its own checks untouched, and boots."""

import os

import pytest

KINDS = {
    "pci": ("adder", "adder", []),
    "virtio": ("loud-speaker", "virtio-loud-speaker-pci", []),
    "native": ("quick", "virtio-quick-pci", ["--native"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("sort", KINDS)
def test_new_plugin_passes_its_own_checks_untouched_and_boots(author, tmp_path, sort):
    name, device, options = KINDS[sort]
    kind = "pci" if sort == "pci" else "virtio"
    told = author.run("qdevpy", "new-plugin", name, "--kind", kind, *options, cwd=tmp_path)
    folder = tmp_path / f"qdevpy-{name}"

    printed = author.check_plugin(folder)

    assert f"cd qdevpy-{name}" in told
    assert " passed" in printed
    assert " failed" not in printed
    assert f"from: qdevpy-{name}" in author.run("qdevpy", "device", device, cwd=tmp_path)
    author.run("python", "guest.py", cwd=folder)
    author.run("qdevpy", "check", "machine.yaml", cwd=folder)
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert "skipped" not in printed
        author.run("qdevpy", "boot", "machine.yaml", cwd=folder)
    taken = author.fail("qdevpy", "new-plugin", name, "--kind", kind, "--directory", "other", cwd=tmp_path)
    assert f"there is a device type '{device}' already, of qdevpy-{name}; choose another name" in taken
