/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio-net's native queues (virtio 1.2, section 5.1).
 *
 *   guest tx ring --> qn_tx.c --batch--> qn_send.c --> tap | datagram socket | stream socket | nothing
 *   guest rx ring <-- qn_read.c, qn_deliver.c <-- qn_filter.c <-- the same; qn_rx.c says when
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
#define QN_NUM_BUFFERS 10 /* offset of num_buffers in struct virtio_net_hdr, 5.1.6 */
#define QN_TAIL_MAX (4 + QN_HDR_MAX + QN_FRAME_MAX) /* length, header (where one goes along), frame */
#define QN_STREAM_BUF (2 * (QN_FRAME_MAX + 4))
#define QN_SPILL 69696      /* header, frame and one byte more, to see what is too long; a multiple of a cache line */
#define QN_TX_BURST 256 /* frames before the loop's other handlers have their turn */
#define QN_RX_BURST 256
#define QN_RX_ROUNDS 64 /* the same for reads */
#define QN_BATCH 64     /* chains popped ahead, frames in one system call */
/* A batch's buffers: enough for 64 KiB in pages in every chain, and always for one more chain of any length. */
#define QN_BATCH_IOV (20 * QN_BATCH + QD_VRING_MAX + 3)
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

/* Under vq->lock. */
struct qn_counters {
    uint64_t frames, bytes;
    uint64_t link_down;  /* dropped: no link, or nobody at the other end */
    uint64_t filtered;   /* dropped by the receive filter */
    uint64_t too_long;   /* dropped: longer than the buffers, or than any frame may be */
    uint64_t too_short;  /* dropped: shorter than an Ethernet header (received ones unless promiscuous) */
    uint64_t host_error; /* dropped: the host refused them */
};

/* A chain that was popped, as iovecs of its batch. */
struct qn_chain {
    uint16_t head;
    uint16_t first, n; /* iov[first..first+n) of the batch; tx: the length that goes before a frame in a stream, then the frame */
    uint16_t cut;      /* rx: those of n that hold the header, where the host has none */
    size_t len;        /* bytes: tx: the frame; rx: what can be read straight into the chain, header included */
    uint64_t *drop;    /* tx: the counter, where the frame will never be sent */
    uint32_t wire_len; /* tx: big endian */
};

/* Chains that were popped together: [next, n) are neither pushed nor given back. A qd_elem has room for 1024 iovecs,
 * so a batch packs what chains really have. */
struct qn_batch {
    unsigned next, n, iovs;
    struct qn_chain chain[QN_BATCH];
    struct iovec iov[QN_BATCH_IOV];
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

    /* tx: frames that were popped, and wait for the host where it was full; rx: empty but while frames are read */
    struct qn_batch batch;

    /* tx */
    bool partial;       /* stream: some of the batch's next frame is out */
    bool refused;       /* datagrams: the next frame was refused once, and the socket connected anew */
    size_t segment_max; /* UDP: the longest frame that may share a message with others; 0: none may */
    struct qn_control *controls; /* UDP: QN_BATCH; NULL: not needed yet */
    uint8_t *tail;      /* stream: rest of a frame whose chain is gone; QN_TAIL_MAX bytes */
    size_t tail_len, tail_pos;

    /* rx: bytes from the host that wait for the guest */
    unsigned held_next, held_n; /* frames [next, n) wait in buf, QN_SPILL bytes apart (not stream) */
    size_t held[QN_BATCH];      /* their lengths, header included; 0: none */
    size_t have, pos;           /* stream: bytes in buf, and where the next frame starts */
    unsigned ask;       /* datagrams that one call asks for: a little more than came last time */
    size_t span;        /* bytes of chains to offer to one frame; 0: a chain */
    unsigned short_run; /* frames in a row for which a chain was enough */

    struct qn_counters counters;
    uint8_t *buf;       /* rx: QN_BATCH * QN_SPILL bytes, touched where used */
    struct mmsghdr *msgs; /* QN_BATCH */
    struct qd_elem elem;
    struct { uint16_t head; uint32_t len; } parts[QD_VRING_MAX];
};

static inline bool qn_link_up(const struct qn_dev *dev)
{
    return __atomic_load_n(&dev->link_up, __ATOMIC_RELAXED);
}

/* qn_queue.c */
void qn_arm(struct qn_queue *q, struct qd_fd *handler, bool *armed);    /* any thread */
void qn_disarm(struct qn_queue *q, struct qd_fd *handler, bool *armed); /* loop's thread */
void qn_peer_gone(struct qn_queue *q);

/* qn_filter.c: does the guest want the frame that starts with these 18 (or fewer, at least 14) bytes? LEN: the
 * frame's. With dev->lock held. */
bool qn_accepts(const struct qn_filter *filter, const uint8_t *first, size_t len);

/* Everything below with vq->lock held. */

/* qn_batch.c */
bool qn_has_room(const struct qn_batch *batch); /* for another chain */
int qn_pop_readable(struct qn_queue *q);        /* as qd_vring_pop(), into the batch */
int qn_pop_writable(struct qn_queue *q);
int qn_pop_for_frame(struct qn_queue *q);       /* the same into q->elem: one that can take a header */
void qn_push_next(struct qn_queue *q, uint32_t len);
void qn_give_back(struct qn_queue *q, unsigned keep); /* all but the next KEEP, newest first */

/* qn_send.c */
enum qn_sent { QN_SENT, QN_WAIT };
enum qn_sent qn_send_batch(struct qn_queue *q); /* QN_WAIT: the host is full, the rest stays in the batch */
enum qn_sent qn_send_tail(struct qn_queue *q);
void qn_keep_tail(struct qn_queue *q); /* what is left of the batch's next frame */
bool qn_connect_peer(struct qn_queue *q);

/* qn_udp.c */
size_t qn_segment_max(int fd); /* for a new queue's; 0: the host's kernel cuts no messages of this socket into datagrams */
unsigned qn_fill_messages(struct qn_queue *q, unsigned n, uint8_t *frames); /* q->msgs of N frames; FRAMES in each */

/* qn_tx.c */
void qn_tx_run(struct qn_queue *q);
void qn_tx_ready(struct qd_fd *io, uint32_t events);
void qn_tx_again(struct qd_fd *again, uint32_t events);
void qn_tx_abandon(struct qn_queue *q);

enum qn_got {
    QN_GOT_FRAMES,  /* delivered or dropped; there may be more */
    QN_GOT_NOTHING, /* nothing to read now */
    QN_NO_ROOM,     /* the guest has to offer more buffers */
    QN_STOP,        /* the ring is broken or the peer is gone */
};

/* qn_read.c: read from the host once, into the guest's buffers; FRAMES grows by what came. */
enum qn_got qn_read(struct qn_queue *q, unsigned *frames);
void qn_expect(struct qn_queue *q, unsigned frames); /* at the next wake-up */

/* qn_deliver.c */
bool qn_wanted(struct qn_queue *q, const struct iovec *iov, unsigned n, size_t offset, size_t len); /* dev->lock held */
void qn_received(struct qn_queue *q, size_t len);
enum qn_got qn_read_stream(struct qn_queue *q);
enum qn_got qn_deliver_waiting(struct qn_queue *q); /* QN_GOT_FRAMES: nothing waits any more */

/* qn_rx.c */
void qn_rx_resume(struct qn_queue *q); /* any thread */
void qn_rx_ready(struct qd_fd *io, uint32_t events);

#endif
