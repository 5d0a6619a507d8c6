# SPDX-License-Identifier: Apache-2.0
"""Back ends: what a device is plugged into on the host's side."""

#: section of a definition -> type -> ``module:class``; text, so that a boot imports only what it uses
BUILT_IN: dict[str, dict[str, str]] = {
    "drives": {"drive": "qdevpy.backend.drive:Drive"},
    "netdevs": {
        "dgram": "qdevpy.backend.netdev_dgram:DgramNetDev",
        "hubport": "qdevpy.backend.netdev_hub:HubPortNetDev",
        "null": "qdevpy.backend.netdev_null:NullNetDev",
        "stream": "qdevpy.backend.netdev_stream:StreamNetDev",
        "tap": "qdevpy.backend.netdev_tap:TapNetDev",
        "user": "qdevpy.backend.netdev_user:UserNetDev",
        "vhost-user": "qdevpy.backend.netdev_vhost_user:VhostUserNetDev",
    },
    "chardevs": {
        "file": "qdevpy.backend.chardev_file:FileChardev",
        "null": "qdevpy.backend.chardev_null:NullChardev",
        "pipe": "qdevpy.backend.chardev_pipe:PipeChardev",
        "pty": "qdevpy.backend.chardev_pty:PtyChardev",
        "ringbuf": "qdevpy.backend.chardev_ringbuf:RingbufChardev",
        "socket": "qdevpy.backend.chardev_socket:SocketChardev",
        "stdio": "qdevpy.backend.chardev_stdio:StdioChardev",
        "udp": "qdevpy.backend.chardev_udp:UdpChardev",
    },
    "objects": {
        "iothread": "qdevpy.backend.iothread:IOThreadOptions",
        "memory-backend-ram": "qdevpy.backend.memory_ram:MemoryBackendRam",
        "rng-builtin": "qdevpy.backend.rng:BuiltinRng",
    },
}
