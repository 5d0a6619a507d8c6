# SPDX-License-Identifier: Apache-2.0
"""-cpu: models and features, as CPUID shows them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from qdevpy.accel.kvm import cpuid
from qdevpy.accel.kvm.cpu_model import BITS, MODELS, check_host, choose, parse_cpu
from qdevpy.accel.kvm.cpuid import Leaf
from qdevpy.errors import AccelError

ALL = 0xFFFF_FFFF


def leaf(function: int, subleaf: int = 0) -> Leaf:
    return Leaf(function, subleaf, 0, ALL, ALL, ALL, ALL)


HOST = [leaf(f) for f in (0, 1, 4, 6, 7, 0xB)] + [leaf(0xD), leaf(0xD, 1), leaf(0x40000000)]
HOST += [leaf(f) for f in range(0x80000000, 0x80000009)]


def shown(text: str, host: list[Leaf] = HOST) -> dict[tuple[int, int], Leaf]:
    return {(leaf.function, leaf.subleaf): leaf for leaf in choose(parse_cpu(text), host)}


def has(found: dict[tuple[int, int], Leaf], feature: str) -> bool:
    (function, subleaf, register), bit = BITS[feature]
    return (function, subleaf) in found and bool(getattr(found[function, subleaf], register) & bit)


@pytest.mark.parametrize("text", ["host", "max", "host,check,migratable=on,pmu=off,kvm=on"])
def test_host_shows_everything(text: str) -> None:
    assert list(shown(text).values()) == HOST


@pytest.mark.parametrize("word", ["-avx2", "avx2=off", "avx2=no"])
def test_feature_that_is_taken_away_is_gone_and_nothing_else(word: str) -> None:
    found = shown(f"host,{word}")

    assert [name for name in BITS if not has(found, name)] == ["avx2"]
    assert len(found) == len(HOST)


def test_names_have_underscores_and_aliases() -> None:
    found = shown("host,-sse4_1,-sse3")

    assert [name for name in BITS if not has(found, name)] == ["pni", "sse4.1"]


def test_without_xsave_nothing_that_needs_it_is_left() -> None:
    found = shown("host,-xsave")

    assert not any(has(found, name) for name in ("xsave", "avx", "avx2", "xsaveopt"))
    assert (0xD, 0) not in found


@pytest.mark.parametrize("name", MODELS)
def test_small_model_shows_its_features_and_name(name: str) -> None:
    found = shown(name)

    assert {feature for feature in BITS if has(found, feature)} == {*MODELS[name].features.split()}
    assert found[1, 0].eax == MODELS[name].signature
    brand = b"".join(value.to_bytes(4, "little") for f in (0x80000002, 0x80000003, 0x80000004) for value in found[f, 0][3:])
    assert brand.rstrip(b"\0").decode() == MODELS[name].brand
    assert not {(6, 0), (7, 0), (0xD, 0)} & set(found)


def test_feature_is_added_to_a_small_model() -> None:
    found = shown("qemu64,+aes,avx512f=on,avx512f=off")

    assert has(found, "aes")
    assert not has(found, "avx512f")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Haswell", "unable to find CPU model 'Haswell'; expected one of host, max, qemu64, kvm64"),
        ("hots", "unable to find CPU model 'hots'; did you mean 'host'?"),
        ("host,+avx3", "there is no feature 'avx3'; did you mean 'avx"),
        ("host,avx=perhaps", "avx=perhaps: expected on or off"),
        ("host,pmu=on", "pmu=on: not supported; remove it"),
    ],
)
def test_cpu_that_cannot_be_is_refused(text: str, expected: str) -> None:
    with pytest.raises(AccelError) as error:
        parse_cpu(text)

    assert expected in str(error.value)


def test_feature_that_the_host_does_not_have_cannot_be_added() -> None:
    host = [Leaf(1, 0, 0, 0, 0, 0, 0)]

    for text in ("host,+aes", "qemu64,avx2=on"):
        with pytest.raises(AccelError, match="KVM on this host cannot show it to a guest; remove it"):
            check_host(parse_cpu(text), host)


def test_threads_and_cores_are_in_the_topology() -> None:
    found = list(cpuid.topology(0xB, 6, 4, threads=2))

    assert [(each.eax, each.ebx) for each in found] == [(1, 2), (2, 4), (0, 0)]


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed")
def test_names_of_features_are_qemus() -> None:
    listing = subprocess.run(["qemu-system-x86_64", "-cpu", "help"], capture_output=True, text=True, timeout=60, check=True)
    theirs = {*listing.stdout.partition("CPUID flags:")[2].split()}

    assert {*BITS} - theirs == set()


@pytest.mark.kvm
@pytest.mark.needs_host("kvm")
@pytest.mark.parametrize(
    "words", [["-cpu", "qemu64"], ["-cpu", "kvm64"], ["-cpu", "host,-avx2"], ["-smp", "4,sockets=2,threads=2"]]
)
def test_guest_boots_on_it(words: list[str]) -> None:
    import sys

    from qdevpy.plugin.manager import load_plugins

    guest = load_plugins().definition("demo").replace("definitions/demo.yaml", "guest/demo.elf")
    command = [sys.executable, "-m", "qdevpy.cli.qemu", "-nodefaults", "-m", "64", "-kernel", guest, "-append", "exit", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)

    assert done.returncode == 0, done.stderr


@pytest.mark.kvm
@pytest.mark.needs_host("kvm")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-cpu", "Haswell"], "-cpu Haswell: cpu: unable to find CPU model 'Haswell'"),
        (["-smp", "6,sockets=2,cores=3"], "topology: threads in a core, and cores in a socket where there are several"),
    ],
)
def test_cpu_that_cannot_be_is_one_line(words: list[str], expected: str) -> None:
    import sys

    command = [sys.executable, "-m", "qdevpy.cli.qemu", "-nodefaults", "-S", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
