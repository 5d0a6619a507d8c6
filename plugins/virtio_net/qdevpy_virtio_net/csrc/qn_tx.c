/* SPDX-License-Identifier: Apache-2.0
 *
 * Transmit: from the guest's chains to the host, in order.
 *
 * One chain at a time is popped; where the host has no room it stays `pending`
 * and the queue waits for EPOLLOUT, with further kicks ignored until then. A
 * frame is dropped only where nobody could ever take it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "qn.h"
#include "qn_api.h"

enum sent { SENT_DONE, SENT_WAIT };

static ssize_t send_iov(struct qn_queue *q, struct iovec *iov, unsigned n)
{
    if (q->kind == QN_TAP)
        return writev(q->fd, iov, n);
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
    return sendmsg(q->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Datagrams go to a socket that may come and go. Connected, the kernel tells by EPOLLOUT when the peer has read
 * something; with an address in each call it would report "writable" all the time. */
static bool connect_peer(struct qn_queue *q)
{
    if (q->dest_len && !q->connected)
        q->connected = connect(q->fd, (struct sockaddr *)&q->dest, q->dest_len) == 0;
    return q->connected || !q->dest_len;
}

static enum sent drop(uint64_t *counter)
{
    qn_count(*counter, 1);
    return SENT_DONE;
}

/* One frame in one call. */
static enum sent send_frame(struct qn_queue *q, struct iovec *iov, unsigned n, size_t len)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        if (q->kind == QN_DGRAM && !connect_peer(q))
            return drop(&q->counters.link_down);
        ssize_t r;
        do
            r = send_iov(q, iov, n);
        while (r < 0 && errno == EINTR);
        if (r >= 0) {
            qn_count(q->counters.frames, 1);
            qn_count(q->counters.bytes, len);
            return SENT_DONE;
        }
        if (errno == EAGAIN)
            return SENT_WAIT;
        if (errno != ECONNREFUSED && errno != ECONNRESET && errno != ENOTCONN)
            break;
        q->connected = false; /* the peer's socket is gone; another one may be at its place */
    }
    return drop(&q->counters.host_error);
}

/* The rest of a frame behind its length; what was sent in part must be finished, or the peer loses count. */
static enum sent send_stream(struct qn_queue *q, struct iovec *iov, unsigned n, size_t total, size_t *sent)
{
    while (*sent < total) {
        struct iovec rest[QN_IOV_MAX];
        unsigned parts = qd_iov_slice(iov, n, *sent, total - *sent, rest);
        ssize_t r = send_iov(q, rest, parts);
        if (r >= 0) {
            *sent += r;
        } else if (errno == EAGAIN) {
            return SENT_WAIT;
        } else if (errno != EINTR) {
            qn_peer_gone(q);
            return drop(&q->counters.link_down);
        }
    }
    return SENT_DONE;
}

static enum sent send_tail(struct qn_queue *q)
{
    struct iovec iov = {q->tail, q->tail_len};
    if (q->tail_len && send_stream(q, &iov, 1, q->tail_len, &q->tail_pos) == SENT_WAIT)
        return SENT_WAIT;
    q->tail_len = q->tail_pos = 0;
    return SENT_DONE;
}

/* The chain's frame as iovecs from q->iov[1] on; the first one is left for a length. */
static unsigned frame_iov(struct qn_queue *q, size_t skip, size_t len)
{
    unsigned n = qd_iov_slice(q->elem.iov, q->elem.out_num, skip, len, q->iov + 1);
    if (n < QN_IOV_MAX)
        return n;
    qd_iov_read(q->elem.iov, q->elem.out_num, skip, q->buf, len);
    q->iov[1] = (struct iovec){q->buf, len};
    return 1;
}

static enum sent send_pending(struct qn_queue *q)
{
    size_t skip = q->vnet_header ? 0 : q->hdr_len;
    size_t len = q->elem.out_len - skip, frame = q->elem.out_len - q->hdr_len;

    bool nobody = q->kind == QN_NONE || q->gone;
    if (nobody || (!qn_link_up(q->dev) && q->sent == 0))
        return drop(&q->counters.link_down);
    if (frame < QN_FRAME_MIN)
        return drop(&q->counters.too_short);
    if (frame > QN_FRAME_MAX)
        return drop(&q->counters.too_long);
    if (q->kind == QN_STREAM && send_tail(q) == SENT_WAIT)
        return SENT_WAIT;
    if (q->gone)
        return drop(&q->counters.link_down);
    unsigned n = frame_iov(q, skip, len);
    if (q->kind != QN_STREAM)
        return send_frame(q, q->iov + 1, n, frame);
    uint32_t length = htonl(len);
    q->iov[0] = (struct iovec){&length, sizeof(length)};
    if (send_stream(q, q->iov, n + 1, len + sizeof(length), &q->sent) == SENT_WAIT)
        return SENT_WAIT;
    if (!q->gone) {
        qn_count(q->counters.frames, 1);
        qn_count(q->counters.bytes, frame);
    }
    return SENT_DONE;
}

/* A frame of ours, not of the driver's; a host that has no room now does not get it. */
static bool send_own(struct qn_queue *q, const uint8_t *frame, size_t len)
{
    static uint8_t no_offload[QN_HDR_MAX];
    if (q->kind == QN_NONE || q->gone || q->pending || !qn_link_up(q->dev))
        return false;
    if (q->kind != QN_STREAM) {
        struct iovec iov[] = {{no_offload, q->hdr_len ? q->hdr_len : 10}, {(void *)frame, len}};
        unsigned skip = q->vnet_header ? 0 : 1;
        uint64_t before = q->counters.frames;
        return send_frame(q, iov + skip, 2 - skip, len) == SENT_DONE && q->counters.frames != before;
    }
    if (send_tail(q) == SENT_WAIT)
        return false;
    /* by way of the tail: what does not go out now goes before the next frame */
    uint32_t length = htonl(len);
    memcpy(q->tail, &length, sizeof(length));
    memcpy(q->tail + sizeof(length), frame, len);
    q->tail_len = sizeof(length) + len;
    send_tail(q);
    return !q->gone;
}

bool qn_send(struct qn_queue *q, const uint8_t *frame, size_t len)
{
    if (len < QN_FRAME_MIN || len > QN_FRAME_MAX)
        return false;
    pthread_mutex_lock(&q->vq->lock);
    bool sent = send_own(q, frame, len);
    pthread_mutex_unlock(&q->vq->lock);
    return sent;
}

/* Pop the next chain into q->elem. False: there is none, and the driver has been asked to kick. */
static bool next_chain(struct qn_queue *q)
{
    struct qd_vring *vr = &q->vq->ring;
    int r;

    while ((r = qd_vring_pop(vr, &q->elem)) == 0) {
        qd_vq_flush(q->vq);
        if (!qd_vring_enable_kicks(vr))
            return false;
        qd_vring_disable_kicks(vr);
    }
    if (r < 0)
        return false;
    if (q->elem.out_len < q->hdr_len) {
        qd_vring_break(vr, "transmit buffer shorter than its header");
        return false;
    }
    q->pending = true;
    q->sent = 0;
    return true;
}

/* Serve the ring until it is empty, the host is full, or others should have their turn. */
void qn_tx_run(struct qn_queue *q)
{
    struct qd_vq *vq = q->vq;
    unsigned burst = 0;

    if (q->armed || q->again_armed)
        return;
    qd_vring_disable_kicks(&vq->ring);
    while (q->pending || next_chain(q)) {
        if (send_pending(q) == SENT_WAIT) {
            qn_arm(q, &q->io, &q->armed);
            break;
        }
        q->pending = false;
        qd_vring_push(&vq->ring, q->elem.head, 0);
        burst++;
        if (burst == QN_TX_BURST) {
            qn_arm(q, &q->again, &q->again_armed);
            if (q->again_armed)
                break;
        }
        if (burst % QN_TX_FLUSH == 0)
            qd_vq_flush(vq);
    }
    qd_vq_flush(vq);
    qd_vq_check(vq);
}

void qn_tx_ready(struct qd_fd *io, uint32_t events)
{
    (void)events; /* an error shows at the next call */
    struct qn_queue *q = io->opaque;
    pthread_mutex_lock(&q->vq->lock);
    if (q->armed) {
        qn_disarm(q, io, &q->armed);
        qn_tx_run(q);
    }
    pthread_mutex_unlock(&q->vq->lock);
}

void qn_tx_again(struct qd_fd *again, uint32_t events)
{
    (void)events;
    struct qn_queue *q = again->opaque;
    pthread_mutex_lock(&q->vq->lock);
    if (q->again_armed) {
        qn_disarm(q, again, &q->again_armed);
        qn_tx_run(q);
    }
    pthread_mutex_unlock(&q->vq->lock);
}

/* The queue stops: the waiting chain goes back to the ring, but for a frame that is out in part: its rest is kept
 * for the next start, the stream has to go on with it. */
void qn_tx_abandon(struct qn_queue *q)
{
    struct qd_vring *vr = &q->vq->ring;

    if (!q->pending)
        return;
    q->pending = false;
    if (q->sent == 0) {
        qd_vring_unpop(vr);
        return;
    }
    size_t skip = q->vnet_header ? 0 : q->hdr_len;
    size_t len = q->elem.out_len - skip;
    uint32_t length = htonl(len);
    memcpy(q->tail, &length, sizeof(length));
    qd_iov_read(q->elem.iov, q->elem.out_num, skip, q->tail + sizeof(length), len);
    q->tail_len = len + sizeof(length);
    q->tail_pos = q->sent;
    q->sent = 0;
    qd_vring_push(vr, q->elem.head, 0);
    qd_vq_flush(q->vq);
}
