# SPDX-License-Identifier: Apache-2.0
"""How the programs that guests start with begin: file systems, modules, the console."""

#: ends with the console open; ``$b`` is busybox
BEGIN = """\
#!/bin/busybox sh
b=/bin/busybox
$b mkdir /proc /sys /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module; done
for try in 1 2 3 4 5 6 7 8 9; do [ -c /dev/hvc0 ] && break; $b sleep 1; done
exec </dev/hvc0 >/dev/hvc0 2>&1
"""
