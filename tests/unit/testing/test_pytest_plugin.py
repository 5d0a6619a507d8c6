# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin where no machine runs: bare machines, needs of the host, and what an unused plugin costs."""

import pytest

#: what pytest imports of qdevpy in a run that does not use it
UNUSED = {"qdevpy", "qdevpy.testing", "qdevpy.testing.pytest_plugin"}


def test_bare_machine_fixtures_plug_devices_of_plugins(pytester):
    pytester.makepyfile(
        """
        def test_config_space_is_read(plug_pci, bare_machine):
            driver = plug_pci("virtio-net-pci", id="nic0", mac="52:54:00:12:34:56")
            assert driver.machine is bare_machine
            assert driver.config_read(0, 2) == 0x1AF4

        def test_driver_is_up(plug_virtio):
            driver = plug_virtio("virtio-net-pci", 1 << 5, mac="52:54:00:12:34:56")
            assert driver.has_feature(5)
            assert [driver.read_config(n, 1) for n in range(6)] == [0x52, 0x54, 0, 0x12, 0x34, 0x56]
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_need_that_is_not_there_skips_with_its_name_and_what_to_do(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.needs_host("program:no-such-program", "kvm")
        def test_program(tmp_path):
            raise AssertionError("not to be run")

        @pytest.mark.needs_host("file:/no/such/file")
        class TestFile:
            def test_file(self):
                raise AssertionError("not to be run")

        @pytest.mark.needs_host("program:sh", "file:/dev/null")
        def test_there():
            pass
        """
    )
    result = pytester.runpytest("-rs", "--strict-markers")
    result.assert_outcomes(skipped=2, passed=1)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED*needs program:no-such-program: no-such-program is not on PATH; install it",
            "SKIPPED*needs file:/no/such/file: /no/such/file is not there",
        ]
    )


@pytest.mark.parametrize("options", [(), ("-n2",)])
def test_what_is_missing_is_told_once_for_all_tests_that_it_is_the_same_for(pytester, options):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.needs_host("file:/no/such/file")
        @pytest.mark.parametrize("number", range(3))
        def test_file(number):
            pass

        def test_other():
            pytest.skip("for another reason")
        """
    )
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(skipped=4)
    told = [line for line in result.outlines if "skipped: " in line]
    assert told == ["3 skipped: needs file:/no/such/file: /no/such/file is not there"]


@pytest.mark.parametrize("required", ["file:/no/such/file", "all"])
@pytest.mark.parametrize("how", ["option", "configuration"])
def test_need_that_is_required_fails_the_test(pytester, required, how):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.needs_host("file:/no/such/file")
        def test_file():
            pass
        """
    )
    if how == "configuration":
        pytester.makeini(f"[pytest]\nqdevpy_require = kvm {required}\n")
    result = pytester.runpytest(*([f"--qdevpy-require={required}"] if how == "option" else []))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["needs file:/no/such/file, which qdevpy_require says must be there: /no/such/file is not there"])


def test_need_that_nobody_knows_is_an_error_with_the_nearest_name(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.needs_host("vhostnet")
        def test_it():
            pass
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["'vhostnet' is nothing that a test can need; did you mean 'vhost-net'[?]"])
    assert "Traceback" not in result.stdout.str()


def test_plugin_that_is_not_used_imports_nothing_of_qdevpy(pytester):
    pytester.makepyfile(
        f"""
        import sys

        def test_nothing():
            assert {{name for name in sys.modules if name.split(".")[0].startswith("qdevpy")}} == {UNUSED}
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
