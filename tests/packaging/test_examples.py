# SPDX-License-Identifier: Apache-2.0
"""The examples are distributions of their own: each installs next to qdevpy and passes its own checks."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("name", "device"), [("edu", "edu"), ("virtio_rng", "virtio-rng-pci")])
def test_example_installs_into_a_fresh_environment_and_passes_its_checks(author, source, name, device):
    printed = author.check_plugin(source / "examples" / name)

    assert " passed" in printed
    assert " failed" not in printed
    assert f"from: qdevpy-{name.replace('_', '-')}" in author.run("qdevpy", "device", device, cwd=source)


def test_virtio_rng_has_sixty_lines_at_most(source):
    (module,) = (source / "examples/virtio_rng").glob("qdevpy_virtio_rng/*.py")
    assert len(module.read_text().splitlines()) <= 60
