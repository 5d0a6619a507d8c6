# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest says what its firmware tables name, and hears of its power button."""

UUID = "00112233-4455-6677-8899-aabbccddeeff"
#: Linux counts the button's interrupts once a driver listens; no program of this guest's does more
PRESSED = "set -- $(cat /sys/firmware/acpi/interrupts/ff_pwr_btn); [ $1 -gt 0 ]"


def test_guest_reads_smbios_and_hears_the_power_button(boot_linux):
    guest = boot_linux(uuid=UUID, modules=["button"])

    names = ("sys_vendor", "product_name", "product_uuid")
    tables = guest.check("cd /sys/class/dmi/id && cat " + " ".join(names)).splitlines()
    assert dict(zip(names, tables, strict=True)) == {
        "sys_vendor": "QEMU", "product_name": "Standard PC (i440FX + PIIX, 1996)", "product_uuid": UUID,
    }  # fmt: skip

    assert guest.run(PRESSED).status == 1
    guest.machine.qmp.execute("system_powerdown")
    guest.check(f"for try in $(seq 600); do {PRESSED} && exit; usleep 50000; done; exit 1")
    assert guest.poweroff() == 0
