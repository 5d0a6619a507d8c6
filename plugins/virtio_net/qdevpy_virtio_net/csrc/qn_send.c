/* SPDX-License-Identifier: Apache-2.0
 *
 * How a batch of frames leaves: datagrams by one sendmmsg(), a stream's frames by
 * one sendmsg(), a tap's one by one. Whatever the host takes of a batch, it takes
 * from the front, so frames stay in order.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "qn.h"

static void drop_next(struct qn_queue *q, uint64_t *counter)
{
    ++*counter;
    q->partial = q->refused = false;
    qn_push_next(q, 0);
}

static void sent_next(struct qn_queue *q)
{
    q->counters.frames++;
    q->counters.bytes += q->batch.chain[q->batch.next].len;
    q->partial = q->refused = false;
    qn_push_next(q, 0);
}

/* Datagrams go to a socket that may come and go. Connected, the kernel tells by EPOLLOUT when the peer has read
 * something; with an address in each call it would report "writable" all the time. */
bool qn_connect_peer(struct qn_queue *q)
{
    if (q->dest_len && !q->connected)
        q->connected = connect(q->fd, (struct sockaddr *)&q->dest, q->dest_len) == 0;
    return q->connected || !q->dest_len;
}

/* The host did not take the next frame, and said why in errno. */
static enum qn_sent refused(struct qn_queue *q)
{
    if (errno == EAGAIN)
        return QN_WAIT;
    if (errno == EINTR)
        return QN_SENT;
    bool lost = errno == ECONNREFUSED || errno == ECONNRESET || errno == ENOTCONN;
    if (!lost || q->refused) {
        drop_next(q, &q->counters.host_error);
        return QN_SENT;
    }
    q->refused = true;
    q->connected = false; /* the peer's socket is gone; another one may be at its place */
    return QN_SENT;
}

static enum qn_sent send_tap(struct qn_queue *q, unsigned n)
{
    while (n--) {
        struct qn_chain *c = &q->batch.chain[q->batch.next];
        if (writev(q->fd, q->batch.iov + c->first + 1, c->n - 1) < 0)
            return refused(q);
        sent_next(q);
    }
    return QN_SENT;
}

static enum qn_sent send_datagrams(struct qn_queue *q, unsigned n)
{
    uint8_t frames[QN_BATCH];

    if (!qn_connect_peer(q)) {
        while (n--)
            drop_next(q, &q->counters.link_down);
        return QN_SENT;
    }
    unsigned messages = qn_fill_messages(q, n, frames);
    int sent = sendmmsg(q->fd, q->msgs, messages, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && frames[0] > 1 && errno != EAGAIN && errno != EINTR) {
        /* too long for a packet on its way, or another reason that single frames may not have */
        q->segment_max = q->batch.chain[q->batch.next].len - 1;
        return QN_SENT;
    }
    if (sent < 0)
        return refused(q);
    for (int i = 0; i < sent; i++)
        while (frames[i]--)
            sent_next(q);
    return QN_SENT;
}

/* A stream took SENT bytes of the batch. */
static void advance(struct qn_queue *q, size_t sent)
{
    struct qn_batch *b = &q->batch;

    while (sent) {
        struct qn_chain *c = &b->chain[b->next];
        struct iovec *iov = b->iov + c->first;
        q->partial = true;
        if (sent < iov->iov_len) {
            iov->iov_base = (char *)iov->iov_base + sent;
            iov->iov_len -= sent;
            return;
        }
        sent -= iov->iov_len;
        c->first++;
        if (--c->n == 0)
            sent_next(q);
    }
}

static ssize_t send_iov(struct qn_queue *q, struct iovec *iov, unsigned n)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
    ssize_t sent = sendmsg(q->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        qn_peer_gone(q);
    return sent;
}

/* What was sent in part must be finished, or the peer loses count. */
enum qn_sent qn_send_tail(struct qn_queue *q)
{
    while (q->tail_pos < q->tail_len && !q->gone) {
        struct iovec rest = {q->tail + q->tail_pos, q->tail_len - q->tail_pos};
        ssize_t sent = send_iov(q, &rest, 1);
        if (sent >= 0)
            q->tail_pos += sent;
        else if (errno == EAGAIN)
            return QN_WAIT;
    }
    q->tail_len = q->tail_pos = 0;
    return QN_SENT;
}

static enum qn_sent send_stream(struct qn_queue *q, unsigned n)
{
    struct qn_batch *b = &q->batch;

    if (qn_send_tail(q) == QN_WAIT)
        return QN_WAIT;
    if (q->gone)
        return QN_SENT;
    struct qn_chain *first = &b->chain[b->next], *last = first + n - 1;
    unsigned iovs = last->first + last->n - first->first;
    ssize_t sent = send_iov(q, b->iov + first->first, iovs < QN_IOV_MAX ? iovs : QN_IOV_MAX);
    if (sent < 0)
        return errno == EAGAIN ? QN_WAIT : QN_SENT;
    advance(q, sent);
    return QN_SENT;
}

void qn_keep_tail(struct qn_queue *q)
{
    struct qn_chain *c = &q->batch.chain[q->batch.next];
    q->tail_len = qd_iov_read(q->batch.iov + c->first, c->n, 0, q->tail, QN_TAIL_MAX);
    q->tail_pos = 0;
    q->partial = false;
}

/* Frames from the batch's next on that may be sent in one call. */
static unsigned sendable(const struct qn_queue *q)
{
    const struct qn_batch *b = &q->batch;
    unsigned n = 1;

    if (!qn_link_up(q->dev))
        return 1; /* the rest of a frame that the link's end caught in the middle */
    while (b->next + n < b->n && !b->chain[b->next + n].drop)
        n++;
    return n;
}

enum qn_sent qn_send_batch(struct qn_queue *q)
{
    struct qn_batch *b = &q->batch;
    enum qn_sent result = QN_SENT;

    while (b->next < b->n && result == QN_SENT) {
        uint64_t *drop = b->chain[b->next].drop;
        if (q->kind == QN_NONE || q->gone || (!qn_link_up(q->dev) && !q->partial))
            drop = &q->counters.link_down;
        if (drop)
            drop_next(q, drop);
        else if (q->kind == QN_TAP)
            result = send_tap(q, sendable(q));
        else if (q->kind == QN_DGRAM)
            result = send_datagrams(q, sendable(q));
        else
            result = send_stream(q, sendable(q));
    }
    return result;
}
