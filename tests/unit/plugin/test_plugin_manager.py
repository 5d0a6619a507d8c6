# SPDX-License-Identifier: Apache-2.0
"""Loading plugins: what is offered is found, what is broken is named and harms nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from qdevpy.backend.base import Backend
from qdevpy.errors import UnknownNameError
from qdevpy.plugin import hookimpl
from qdevpy.plugin.discovery import EntryPoint
from qdevpy.plugin.manager import load_plugins
from qdevpy.plugin.registry import Registry
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Device
from qdevpy.virtio.device import VirtIODevice
from qdevpy.vm.board import Board


class Lamp(Device):
    type_name: ClassVar[str] = "lamp"


class Buzzer(Device):
    type_name: ClassVar[str] = "buzzer"


class Bench(Board):
    type_name: ClassVar[str] = "bench"
    aliases = ("bench-1.0",)

    def add_memory(self, machine: Any) -> None: ...

    def build(self, machine: Any) -> None: ...

    def prepare_boot(self, machine: Any) -> None:
        return None


Install = Callable[..., EntryPoint]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a module with the hook implementations given, and the entry point that names it."""

    def make(name: str, distribution: str = "lab-parts", **hooks: Any) -> EntryPoint:
        module = ModuleType(f"plugin_{name}")
        for hook, function in hooks.items():
            setattr(module, hook, hookimpl(function))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return EntryPoint(name, module.__name__, distribution)

    return make


def returning(value: Any) -> Callable[[], Any]:
    def hook() -> Any:
        return value

    return hook


def messages(registry: Registry) -> list[str]:
    return [str(broken) for broken in registry.broken]


def test_device_type_offered_is_found_with_its_provider(install: Install) -> None:
    registry = load_plugins([install("parts", qdevpy_devices=returning([Lamp]))])

    kind = registry.device_type("lamp")

    assert isinstance(kind.create(), Lamp)
    assert kind.provider == "lab-parts"
    assert registry.broken == ()


def test_board_is_found_by_name_and_alias(install: Install) -> None:
    registry = load_plugins([install("parts", qdevpy_boards=returning([Bench]))])

    assert registry.board("bench") is Bench
    assert registry.board("bench-1.0") is Bench
    assert set(registry.boards) == {"bench", "bench-1.0"}


def test_definition_is_found_by_stem(install: Install) -> None:
    registry = load_plugins([install("parts", qdevpy_definitions=returning([Path("/x/demo.yaml")]))])

    assert registry.definition("demo") == "/x/demo.yaml"


def test_bench_modules_are_named_in_order_and_not_imported(install: Install) -> None:
    registry = load_plugins([install("parts", qdevpy_benches=returning(["no_such_bench", "another"]))])

    assert registry.benches == ("no_such_bench", "another")


def test_object_as_plugin_named_by_attribute_is_loaded(install: Install) -> None:
    entry = install("parts")

    class Parts:
        @hookimpl
        def qdevpy_devices(self) -> list[type[Device]]:
            return [Lamp]

    sys.modules[entry.value].parts = Parts()  # type: ignore[attr-defined]
    registry = load_plugins([entry._replace(value=f"{entry.value}:parts")])

    assert "lamp" in registry.device_types


def test_lookup_imports_only_as_far_as_needed(install: Install) -> None:
    later = EntryPoint("later", "no_such_module", "later")
    registry = load_plugins([install("parts", qdevpy_devices=returning([Lamp])), later])

    registry.device_type("lamp")

    assert list(registry._pending) == [later]


def test_unknown_device_type_names_the_nearest_and_broken_plugins(install: Install) -> None:
    registry = load_plugins(
        [install("parts", qdevpy_devices=returning([Lamp])), EntryPoint("gone", "no_such_module", "lost-and-found")]
    )

    with pytest.raises(UnknownNameError) as error:
        registry.device_type("lamb")

    assert "did you mean 'lamp'?" in str(error.value)
    assert "plugin 'gone' of lost-and-found: cannot be imported" in str(error.value)
    assert "No module named 'no_such_module'" in str(error.value)


def broken_hooks() -> list[Any]:
    def failing() -> list[Any]:
        raise OSError("no bench")

    def leaving() -> list[Any]:
        raise SystemExit(3)

    def with_argument(machine: Any) -> list[Any]:
        return []

    return [
        pytest.param({"qdevpy_device": returning([])}, "unknown hook 'qdevpy_device'", id="mistyped hook"),
        pytest.param({"qdevpy_devices": with_argument}, "machine", id="wrong arguments"),
        pytest.param({"qdevpy_devices": returning(None)}, "returned None", id="nothing returned"),
        pytest.param({"qdevpy_devices": returning(3)}, "not iterable", id="no list"),
        pytest.param({"qdevpy_devices": returning([Lamp()])}, "expected classes derived from", id="instance"),
        pytest.param({"qdevpy_devices": returning([int])}, "expected classes derived from", id="wrong class"),
        pytest.param({"qdevpy_devices": returning([Device])}, "no type_name", id="nameless"),
        pytest.param({"qdevpy_devices": returning([Lamp, Lamp])}, "'lamp' twice", id="own duplicate"),
        pytest.param({"qdevpy_devices": failing}, "qdevpy_devices() failed: OSError: no bench", id="exception"),
        pytest.param({"qdevpy_devices": leaving}, "SystemExit", id="exit"),
        pytest.param({"qdevpy_boards": returning([Lamp])}, "expected classes derived from", id="no board"),
        pytest.param({"qdevpy_netdevs": returning([Lamp])}, "expected classes derived from", id="no netdev"),
        pytest.param({"qdevpy_definitions": returning([3])}, "expected paths", id="no path"),
        pytest.param({"qdevpy_benches": returning([3])}, "expected names of modules", id="no module"),
        pytest.param({"qdevpy_doctors": returning([3])}, "expected names of modules", id="no doctor"),
    ]


@pytest.mark.parametrize(("hooks", "message"), broken_hooks())
def test_broken_plugin_is_named_and_others_work(install: Install, hooks: dict[str, Any], message: str) -> None:
    registry = load_plugins(
        [
            install("first", qdevpy_devices=returning([Buzzer])),
            install("bad", "bad-parts", **hooks),
            install("last", qdevpy_definitions=returning([Path("x.yaml")])),
        ]
    )

    assert set(registry.device_types) == {"buzzer"}
    assert set(registry.definitions) == {"x"}
    (broken,) = registry.broken
    assert (broken.distribution, broken.plugin) == ("bad-parts", "bad")
    assert message in broken.message


def test_plugin_with_a_name_already_taken_is_broken_as_a_whole(install: Install) -> None:
    registry = load_plugins(
        [
            install("first", qdevpy_devices=returning([Lamp])),
            install("second", "copycat", qdevpy_devices=returning([Buzzer, Lamp])),
        ]
    )

    assert set(registry.device_types) == {"lamp"}
    assert messages(registry) == [
        "plugin 'second' of copycat: offers device type 'lamp', and so does plugin 'first' of lab-parts; "
        "remove one of the two, or rename what it offers"
    ]


def test_module_that_exits_on_import_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_plugin.py").write_text("raise SystemExit('bye')")
    monkeypatch.syspath_prepend(str(tmp_path))

    registry = load_plugins([EntryPoint("leaver", "leaving_plugin", "leavers")])

    assert messages(registry) == ["plugin 'leaver' of leavers: cannot be imported (leaving_plugin): SystemExit: bye"]


def test_two_names_for_one_module_are_an_error_of_the_second(install: Install) -> None:
    first = install("parts", qdevpy_devices=returning([Lamp]))

    registry = load_plugins([first, first._replace(name="again", distribution="other")])

    assert [b.plugin for b in registry.broken] == ["again"]
    assert "lamp" in registry.device_types


def test_backend_type_unknown_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="there is no netdev type 'tab'; did you mean 'tap'"):
        load_plugins([]).backend_type("netdevs", "tab")


def test_backend_type_far_from_all_lists_them() -> None:
    with pytest.raises(UnknownNameError, match="expected one of file, null, pipe, pty, ringbuf, socket, stdio, udp"):
        load_plugins([]).backend_type("chardevs", "qqqqqqqq")


def test_iothread_is_an_object_type() -> None:
    assert load_plugins([]).backends("objects")["iothread"].type_name == "iothread"


class Carrier(Backend):
    type_name: ClassVar[str] = "pigeon"
    section: ClassVar[str] = "netdevs"


class Tap(Carrier):
    type_name: ClassVar[str] = "tap"


def test_netdev_type_of_a_plugin_is_found_beside_the_built_in_ones(install: Install) -> None:
    registry = load_plugins([install("parts", qdevpy_netdevs=returning([Carrier]))])

    assert registry.backend_type("netdevs", "pigeon") is Carrier
    assert {"pigeon", "tap", "null"} <= set(registry.backend_names("netdevs"))


def test_netdev_type_that_is_built_in_cannot_be_replaced(install: Install) -> None:
    registry = load_plugins([install("parts", qdevpy_netdevs=returning([Tap]))])

    assert "offers netdev type 'tap', which is built in; choose another name" in messages(registry)[0]


def test_virtio_device_class_that_cannot_be_offered_is_its_plugins_fault(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(VirtIODevice):
        base_name: ClassVar[str] = "virtio-odd"
        device_id: ClassVar[int] = 42

    def fail(*args: Any) -> None:
        raise KeyError("odd")

    monkeypatch.setattr("qdevpy.virtio.pci_types.device_types_for", fail)
    registry = load_plugins([install("parts", qdevpy_devices=returning([Odd]))])

    assert "device class Odd: KeyError: 'odd'" in messages(registry)[0]


def test_virtio_device_class_is_offered_on_its_transports(install: Install) -> None:
    class Echo(VirtIODevice):
        base_name: ClassVar[str] = "virtio-echo"
        description: ClassVar[str] = "an echo"
        device_id: ClassVar[int] = 42

    registry = load_plugins([install("parts", qdevpy_devices=returning([Echo]))])

    assert set(registry.device_types) == {"virtio-echo-pci", "virtio-echo-pci-non-transitional"}
    assert "ioeventfd" in registry.device_type("virtio-echo-pci").properties
    assert Echo.type_name == "virtio-echo-device"


def test_virtio_class_without_device_id_is_refused(install: Install) -> None:
    class Nameless(VirtIODevice):
        base_name: ClassVar[str] = "virtio-nameless"

    registry = load_plugins([install("parts", qdevpy_devices=returning([Nameless]))])

    assert "set the class variables base_name and device_id" in messages(registry)[0]


@pytest.mark.parametrize("default", [-1, "many", 1 << 32])
def test_integer_default_out_of_range_is_refused_at_declaration(default: Any) -> None:
    with pytest.raises(ValueError, match=r"property 'limit': default .* a whole number from 0 to 4294967295"):
        prop.uint32(default, help="of bytes", name="limit")
