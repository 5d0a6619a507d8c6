/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio-net's native queues (virtio 1.2, section 5.1).
 *
 *   guest tx ring --> qn_tx.c --> tap | datagram socket | stream socket | nothing
 *   guest rx ring <-- qn_rx.c <-- qn_filter.c <-- the same
 *
 * Every field of a queue is under its virtqueue's lock (vq->lock), whichever
 * thread serves it. Handlers enter the loop from any thread, and leave it on
 * the loop's own thread with the lock held, or from Python without the lock:
 * qd_loop_del() waits for a running handler, and that one may wait for the lock.
 */
#ifndef QN_H
#define QN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "qd_queue.h"

/* The longest frame: 64 KiB of segmentation offload with its headers, and QEMU's limit for socket framing. */
#define QN_FRAME_MAX (65536 + 4096)
#define QN_FRAME_MIN 14 /* an Ethernet header */
#define QN_HDR_MAX 12   /* struct virtio_net_hdr with num_buffers */
#define QN_TAIL_MAX (4 + QN_HDR_MAX + QN_FRAME_MAX) /* length, header (where one goes along), frame */
#define QN_STREAM_BUF (2 * (QN_FRAME_MAX + 4))
#define QN_TX_BURST 256 /* frames before the loop's other handlers have their turn */
#define QN_TX_FLUSH 64  /* frames before the guest may see its buffers back */
#define QN_RX_BURST 64
#define QN_IOV_MAX 1024 /* what the kernel takes in one call (UIO_MAXIOV) */

/* 5.1.3 Feature bits that decide the header's length, and 6 */
#define QN_F_MRG_RXBUF 15
#define QN_F_VERSION_1 32

#define QN_EVENT_GONE 1ull /* some queue's peer hung up: ask qn_is_gone() */

/* What a queue's fd is. */
enum qn_kind {
    QN_NONE = 0,   /* nothing plugged in: frames are dropped */
    QN_TAP = 1,    /* one frame per read or write */
    QN_DGRAM = 2,  /* a UNIX datagram socket, one frame per datagram */
    QN_STREAM = 3, /* frames behind 32 bits of length, big endian */
};

#define QN_MAC_ENTRIES 64 /* QEMU's MAC_TABLE_ENTRIES */

/* 5.1.6.5: what the control queue asked for. The table holds unicast addresses first. */
struct qn_filter {
    uint8_t mac[6];
    bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
    uint16_t n_unicast, n_multicast;
    uint8_t table[QN_MAC_ENTRIES][6];
    uint8_t vlans[512]; /* a bit per VLAN id */
};

/* Shared by all queues of a device. */
struct qn_dev {
    pthread_mutex_t lock; /* of the filter; innermost */
    struct qn_filter filter;
    bool link_up;         /* relaxed atomic */
};

/* Relaxed atomics: written under vq->lock, read by anybody. */
struct qn_counters {
    uint64_t frames, bytes;
    uint64_t link_down;  /* dropped: no link, or nobody at the other end */
    uint64_t filtered;   /* dropped by the receive filter */
    uint64_t too_long;   /* dropped: longer than the buffers, or than any frame may be */
    uint64_t too_short;  /* dropped: shorter than an Ethernet header (received ones unless promiscuous) */
    uint64_t host_error; /* dropped: the host refused them */
};

struct qn_queue {
    struct qn_dev *dev;
    struct qd_vq *vq;
    bool started;       /* between the operations start and stop: guest memory may be touched */
    uint64_t features;  /* negotiated at the last start */
    bool gone;          /* the peer hung up; fd stays until Python unplugs it */
    bool mergeable;     /* VIRTIO_NET_F_MRG_RXBUF */
    uint8_t hdr_len;    /* the guest's header: 10 or 12 */
    enum qn_kind kind;
    bool vnet_header;   /* frames carry a virtio_net_hdr of hdr_len on the host's side too */
    int fd;             /* our own duplicate; -1: none */
    struct sockaddr_un dest;
    socklen_t dest_len; /* 0: the socket is connected for good */
    bool connected;     /* datagrams: connect(dest) has been done */

    struct qd_fd io;    /* rx: readable; tx: writable after EAGAIN */
    bool armed;         /* io is in the loop */
    struct qd_fd again; /* tx: come back after a burst; an eventfd that is always writable */
    bool again_armed;

    /* tx: the chain that waits for the host */
    bool pending;
    size_t sent;        /* stream: bytes of length and frame that are out */
    uint8_t *tail;      /* stream: rest of a frame whose chain is gone; QN_TAIL_MAX bytes */
    size_t tail_len, tail_pos;

    /* rx: bytes from the host that wait for the guest */
    size_t held;        /* bytes in buf: header and one frame (not stream) */
    size_t have, pos;   /* stream: bytes in buf, and where the next frame starts */

    struct qn_counters counters;
    uint8_t *buf;       /* QN_STREAM_BUF bytes */
    struct qd_elem elem;
    struct iovec iov[QN_IOV_MAX + 2];
    struct { uint16_t head; uint32_t len; } parts[QD_VRING_MAX];
};

#define qn_count(field, n) __atomic_fetch_add(&(field), (n), __ATOMIC_RELAXED)

static inline bool qn_link_up(const struct qn_dev *dev)
{
    return __atomic_load_n(&dev->link_up, __ATOMIC_RELAXED);
}

/* qn_queue.c */
void qn_arm(struct qn_queue *q, struct qd_fd *handler, bool *armed);    /* any thread */
void qn_disarm(struct qn_queue *q, struct qd_fd *handler, bool *armed); /* loop's thread */
void qn_peer_gone(struct qn_queue *q);

/* qn_filter.c: does the guest want the frame that starts with these 18 (or fewer, at least 14) bytes? */
bool qn_accepts(struct qn_dev *dev, const uint8_t *frame, size_t len);

/* qn_tx.c, qn_rx.c: all with vq->lock held */
void qn_tx_run(struct qn_queue *q);
void qn_tx_ready(struct qd_fd *io, uint32_t events);
void qn_tx_again(struct qd_fd *again, uint32_t events);
void qn_tx_abandon(struct qn_queue *q);
void qn_rx_resume(struct qn_queue *q);
void qn_rx_ready(struct qd_fd *io, uint32_t events);

#endif
