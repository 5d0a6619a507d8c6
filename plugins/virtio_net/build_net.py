# SPDX-License-Identifier: Apache-2.0
"""Builds ``qdevpy_virtio_net._native`` with cffi; run from the project's root (setup.py does).

``QDEVPY_SANITIZE=1`` as in ``qdevpy/native/build_core.py``.
"""

import os
from glob import glob

from cffi import FFI

HERE = "plugins/virtio_net/qdevpy_virtio_net"
CORE = "qdevpy/native/include"
FLAGS = ["-std=gnu11", "-O2", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread"]
PARTS = ("qn_queue", "qn_batch", "qn_tx", "qn_send", "qn_udp", "qn_own", "qn_rx", "qn_read", "qn_deliver", "qn_filter")
#: what cffi generates is not ours to keep warning-free
GENERATED = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

sanitize = SANITIZE if os.environ.get("QDEVPY_SANITIZE") == "1" else []

ffibuilder = FFI()
ffibuilder.cdef("""
    #define QN_EVENT_GONE 1
    #define QN_MAC_ENTRIES 64
    enum qn_kind { QN_NONE, QN_TAP, QN_DGRAM, QN_STREAM };
    struct qn_filter {
        uint8_t mac[6];
        bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
        uint16_t n_unicast, n_multicast;
        uint8_t table[64][6];
        uint8_t vlans[512];
    };
    struct qn_counters {
        uint64_t frames, bytes, link_down, filtered, too_long, too_short, host_error;
    };
    struct qn_dev;
    struct qn_queue;

    struct qn_dev *qn_dev_new(void);
    void qn_dev_free(struct qn_dev *dev);
    void qn_dev_set_link(struct qn_dev *dev, bool up);
    int qn_dev_set_filter(struct qn_dev *dev, const struct qn_filter *filter);

    struct qn_queue *qn_queue_new(struct qn_dev *dev, bool rx);
    void qn_queue_free(struct qn_queue *q);
    void qn_queue_bind(struct qn_queue *q, uintptr_t vq);
    int qn_plug(struct qn_queue *q, int kind, int fd, bool vnet_header, const char *dest, size_t dest_len);
    void qn_unplug(struct qn_queue *q);
    bool qn_is_gone(struct qn_queue *q);
    bool qn_send(struct qn_queue *q, const uint8_t *frame, size_t len);
    void qn_get_counters(struct qn_queue *q, struct qn_counters *to);
    uintptr_t qn_rx_ops(void);
    uintptr_t qn_tx_ops(void);
""")
ffibuilder.set_source(
    "qdevpy_virtio_net._native",
    '#include "qn_api.h"\n',
    sources=[f"{HERE}/csrc/{name}.c" for name in PARTS],
    include_dirs=[CORE, f"{HERE}/csrc"],
    extra_compile_args=[*FLAGS, *GENERATED, *sanitize],
    extra_link_args=["-pthread", *sanitize],
    depends=[f"{HERE}/csrc/qn.h", f"{HERE}/csrc/qn_api.h", *sorted(glob(f"{CORE}/qd_*.h"))],
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=".", verbose=True)
