/* SPDX-License-Identifier: Apache-2.0
 *
 * Receive: from the host into the guest's buffers.
 *
 * The host's fd is polled only while the guest has buffers, so what waits, waits
 * in the kernel's bounded queues. A frame is read straight into the first chain,
 * with our own buffer behind it for what does not fit; only a frame that needs
 * several chains (or that had to wait) is copied.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "qn.h"

#define NUM_BUFFERS_OFFSET 10 /* in struct virtio_net_hdr, 5.1.6 */

enum got {
    GOT_FRAME,   /* delivered or dropped; there may be more */
    GOT_NOTHING, /* nothing to read now */
    GOT_NO_ROOM, /* the guest has to offer more buffers */
    GOT_STOP,    /* the ring is broken or the peer is gone */
};

static void unpop(struct qn_queue *q, unsigned n)
{
    while (n--)
        qd_vring_unpop(&q->vq->ring);
}

/* Pop a chain that can take at least a header. */
static int pop_writable(struct qn_queue *q)
{
    int r = qd_vring_pop(&q->vq->ring, &q->elem);
    if (r == 1 && q->elem.in_len < q->hdr_len)
        return qd_vring_break(&q->vq->ring, "receive buffer shorter than a header");
    return r;
}

static bool wanted(struct qn_queue *q, const uint8_t *frame, size_t len)
{
    uint64_t *counter = NULL;
    if (len > QN_FRAME_MAX)
        counter = &q->counters.too_long;
    else if (!qn_link_up(q->dev))
        counter = &q->counters.link_down;
    else if (!qn_accepts(q->dev, frame, len))
        counter = len < QN_FRAME_MIN ? &q->counters.too_short : &q->counters.filtered;
    if (counter)
        qn_count(*counter, 1);
    return !counter;
}

static void received(struct qn_queue *q, size_t len)
{
    qn_count(q->counters.frames, 1);
    qn_count(q->counters.bytes, len);
}

/* Copy a header and a frame into as many chains as it takes; all of them become visible together. */
static enum got deliver(struct qn_queue *q, const uint8_t *hdr, const uint8_t *frame, size_t len)
{
    struct qd_vring *vr = &q->vq->ring;
    struct iovec num_buffers[2];
    unsigned n = 0, nb = 0;
    size_t pos = 0;

    while (pos < len) {
        if (n && !q->mergeable)
            goto too_long;
        int r = n < vr->num ? pop_writable(q) : 0;
        if (r < 0)
            return GOT_STOP;
        if (r == 0) {
            if (n == vr->num)
                goto too_long; /* the whole ring does not hold it */
            unpop(q, n);
            return GOT_NO_ROOM;
        }
        struct iovec *iov = q->elem.iov + q->elem.out_num;
        size_t offset = 0;
        if (n == 0) {
            offset = qd_iov_write(iov, q->elem.in_num, 0, hdr, q->hdr_len);
            nb = qd_iov_slice(iov, q->elem.in_num, NUM_BUFFERS_OFFSET, q->hdr_len - NUM_BUFFERS_OFFSET, num_buffers);
        }
        size_t part = qd_iov_write(iov, q->elem.in_num, offset, frame + pos, len - pos);
        pos += part;
        q->parts[n].head = q->elem.head;
        q->parts[n++].len = offset + part;
    }
    uint16_t count = n;
    qd_iov_write(num_buffers, nb, 0, &count, sizeof(count));
    for (unsigned i = 0; i < n; i++)
        qd_vring_push(vr, q->parts[i].head, q->parts[i].len);
    received(q, len);
    return GOT_FRAME;

too_long:
    unpop(q, n);
    qn_count(q->counters.too_long, 1);
    return GOT_FRAME;
}

/* Where the host has no header, the guest's is zeros: no checksum to complete, no segments. */
static const uint8_t no_header[QN_HDR_MAX];

static enum got read_failed(struct qn_queue *q)
{
    switch (errno) {
    case EAGAIN:
        return GOT_NOTHING;
    case EINTR:
        return GOT_FRAME;
    case ECONNREFUSED: /* told once, then forgotten by the socket */
    case ECONNRESET:
    case ENOBUFS:
    case ENOMEM:
        qn_count(q->counters.host_error, 1);
        return GOT_NOTHING;
    default:
        qn_peer_gone(q);
        return GOT_STOP;
    }
}

/* One read of a tap or datagram socket. Q->iov takes the chain's buffers, and q->buf what is beyond them, at the
 * offset that it would have in a chain as long as the frame. */
static enum got read_frame(struct qn_queue *q)
{
    int r = pop_writable(q);
    if (r <= 0)
        return r ? GOT_STOP : GOT_NO_ROOM;
    struct iovec *iov = q->elem.iov + q->elem.out_num;
    size_t start = q->vnet_header ? 0 : q->hdr_len;
    size_t max = q->hdr_len + QN_FRAME_MAX + 1 - start; /* one more: shows what is too long */
    size_t room = q->elem.in_len - start < max ? q->elem.in_len - start : max;
    unsigned n = qd_iov_slice(iov, q->elem.in_num, start, room, q->iov);
    if (n >= QN_IOV_MAX)
        n = room = 0; /* too many pieces for one call */
    q->iov[n] = (struct iovec){q->buf + start + room, max - room};
    ssize_t got = readv(q->fd, q->iov, n + (room < max));
    if (got < 0) {
        qd_vring_unpop(&q->vq->ring);
        return read_failed(q);
    }
    size_t total = start + got, len = total > q->hdr_len ? total - q->hdr_len : 0;
    uint8_t first[18];
    if (room)
        qd_iov_read(iov, q->elem.in_num, q->hdr_len, first, sizeof(first));
    if (room < q->hdr_len + sizeof(first) - start) {
        /* the frame's start lies in both */
        qd_iov_read(iov, q->elem.in_num, start, q->buf + start, room);
        memcpy(first, q->buf + q->hdr_len, sizeof(first));
    }
    if (!wanted(q, first, len)) {
        qd_vring_unpop(&q->vq->ring);
        return GOT_FRAME;
    }
    if ((size_t)got <= room) {
        static const uint16_t one = 1;
        if (start)
            qd_iov_write(iov, q->elem.in_num, 0, no_header, start);
        qd_iov_write(iov, q->elem.in_num, NUM_BUFFERS_OFFSET, &one, q->hdr_len - NUM_BUFFERS_OFFSET);
        qd_vring_push(&q->vq->ring, q->elem.head, total);
        received(q, len);
        return GOT_FRAME;
    }
    qd_iov_read(iov, q->elem.in_num, start, q->buf + start, room);
    qd_vring_unpop(&q->vq->ring);
    if (start)
        memset(q->buf, 0, start);
    enum got result = deliver(q, q->buf, q->buf + q->hdr_len, len);
    if (result == GOT_NO_ROOM)
        q->held = total;
    return result;
}

/* Complete frames in a stream's buffer. GOT_NOTHING: none is left. */
static enum got deliver_stream(struct qn_queue *q)
{
    while (q->have - q->pos >= 4) {
        uint32_t len;
        memcpy(&len, q->buf + q->pos, 4);
        len = ntohl(len);
        if (len > QN_FRAME_MAX) {
            qn_peer_gone(q); /* not our protocol, or out of step: nothing that follows can be trusted */
            return GOT_STOP;
        }
        if (q->have - q->pos < 4 + len)
            break;
        const uint8_t *frame = q->buf + q->pos + 4;
        if (wanted(q, frame, len)) {
            enum got r = deliver(q, no_header, frame, len);
            if (r != GOT_FRAME)
                return r;
        }
        q->pos += 4 + len;
    }
    return GOT_NOTHING;
}

static enum got read_stream(struct qn_queue *q)
{
    memmove(q->buf, q->buf + q->pos, q->have - q->pos);
    q->have -= q->pos;
    q->pos = 0;
    ssize_t got = recv(q->fd, q->buf + q->have, QN_STREAM_BUF - q->have, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return GOT_NOTHING;
    if (got <= 0) {
        qn_peer_gone(q);
        return GOT_STOP;
    }
    q->have += got;
    enum got r = deliver_stream(q);
    return r == GOT_NOTHING ? GOT_FRAME : r;
}

/* What waits in our own buffer goes first. GOT_FRAME: nothing waits any more. */
static enum got deliver_waiting(struct qn_queue *q)
{
    enum got r = GOT_FRAME;
    if (q->kind == QN_STREAM) {
        r = deliver_stream(q);
    } else if (q->held) {
        r = deliver(q, q->buf, q->buf + q->hdr_len, q->held - q->hdr_len);
        if (r == GOT_FRAME)
            q->held = 0;
    }
    return r == GOT_NOTHING ? GOT_FRAME : r;
}

/* Move frames until one side has no more. True: keep polling the host. */
static bool pump(struct qn_queue *q)
{
    struct qd_vring *vr = &q->vq->ring;

    for (int burst = 0; burst < QN_RX_BURST; burst++) {
        enum got r = deliver_waiting(q);
        if (r == GOT_FRAME)
            r = qd_vring_pending(vr) ? q->kind == QN_STREAM ? read_stream(q) : read_frame(q) : GOT_NO_ROOM;
        if (r == GOT_NOTHING)
            return true;
        if (r == GOT_STOP)
            return false;
        if (r == GOT_NO_ROOM && !qd_vring_enable_kicks_beyond(vr))
            return false;
    }
    return true; /* level-triggered: we come back */
}

/* The guest may have buffers again: any thread. */
void qn_rx_resume(struct qn_queue *q)
{
    struct qd_vring *vr = &q->vq->ring;

    if (q->armed || q->fd < 0 || q->gone)
        return;
    for (;;) {
        enum got r = deliver_waiting(q);
        if (r == GOT_STOP)
            break;
        if (r == GOT_FRAME && qd_vring_pending(vr) > 0) {
            qd_vring_disable_kicks(vr);
            qn_arm(q, &q->io, &q->armed);
            break;
        }
        if (!qd_vring_enable_kicks_beyond(vr))
            break;
    }
    qd_vq_flush(q->vq);
    qd_vq_check(q->vq);
}

void qn_rx_ready(struct qd_fd *io, uint32_t events)
{
    (void)events; /* hang-up and errors show in the read */
    struct qn_queue *q = io->opaque;
    pthread_mutex_lock(&q->vq->lock);
    if (q->armed) {
        if (!pump(q))
            qn_disarm(q, io, &q->armed);
        qd_vq_flush(q->vq);
        qd_vq_check(q->vq);
    }
    pthread_mutex_unlock(&q->vq->lock);
}
