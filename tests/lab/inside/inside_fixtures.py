# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin's Linux guests: commands, files, console, reboot; and a report that shows a kernel's last words."""

from qdevpy.testing.initramfs import File, initramfs
from qdevpy.testing.needs import BUSYBOX

pytest_plugins = ["pytester"]

#: of an initrd that knows nothing of us
OTHER_INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir /proc /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo -n 'login: '
read name
echo "welcome, $name"
while :; do sh -i; done
"""
CARD = {"virtio-net-pci": {"netdev": "lan", "addr": 4}}


def test_guest_is_told_what_to_do_at_its_shell(boot_linux):
    guest = boot_linux(devices=[CARD], netdevs={"lan": {"type": "null"}}, modules=["loop"], files={"etc/greeting": b"hello\n"})
    assert guest.run("uname -s") == (0, "Linux\n")
    assert guest.run("cat /sys/bus/pci/devices/0000:00:04.0/vendor; exit 3") == (3, "0x1af4\n")
    assert guest.check("cat /etc/greeting; ls -d /sys/module/loop") == "hello\n/sys/module/loop\n"

    data = bytes(range(256)) * 1000
    guest.write_file("/tmp/a file", data)
    assert guest.read_file("/tmp/a file") == data

    guest.check("echo to the console >/dev/ttyS0")
    guest.expect("^to the console$")

    guest.reboot()
    assert guest.run("ls '/tmp/a file'").status == 1
    assert guest.poweroff() == 0


def test_report_of_a_guest_that_panics_has_the_kernels_last_words(pytester, request):
    pytester.makepyfile(
        """
        def test_it(boot_linux):
            boot_linux().check("echo c >/proc/sysrq-trigger")
        """
    )
    pytester.makeini(request.config.inipath.read_text().replace("inside_*", "test_*"))
    result = pytester.runpytest_inprocess("--qdevpy-kernel", request.config.getoption("qdevpy_kernel"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *the * of guest ended*", "*- console of guest -*", "*Kernel panic - not syncing: sysrq triggered crash"]
    )


def test_initrd_without_shell_is_talked_to_on_the_console(boot_linux, tmp_path):
    archive = initramfs({"init": File(OTHER_INIT.encode(), 0o755), "bin/busybox": File(BUSYBOX.read_bytes(), 0o755)})
    (tmp_path / "initrd.gz").write_bytes(archive)

    guest = boot_linux(initrd=tmp_path / "initrd.gz")
    guest.expect("login: ")
    guest.send("root\n")
    guest.expect("^welcome, root$")
    assert guest.run("echo one; exit 5") == (5, "one\n")
    assert guest.poweroff() == 0
