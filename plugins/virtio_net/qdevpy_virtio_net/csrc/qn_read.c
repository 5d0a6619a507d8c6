/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames from a tap or a datagram socket, read straight into the guest's chains.
 *
 * Behind every chain, or behind as many as one frame may need, stands a part of our
 * own buffer: the spill, at the offset that it would have in a chain as long as the
 * frame. What a frame leaves there, or whoever comes after a frame that the guest
 * does not want, is completed in our buffer and held, for qn_deliver.c to copy: so
 * chains are used in order, and none is lost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "qn.h"

/* Frames in a row that one chain was enough for, after which no frame gets more than one. */
#define SHORT_RUN 64
#define ASK_MIN 2

/* Where the host has no header: no checksum to complete, no segments, one buffer. */
static const uint8_t plain_header[QN_HDR_MAX] = {[QN_NUM_BUFFERS] = 1};

static enum qn_got read_failed(struct qn_queue *q)
{
    switch (errno) {
    case EAGAIN:
        return QN_GOT_NOTHING;
    case EINTR:
        return QN_GOT_FRAMES;
    case ECONNREFUSED: /* told once, then forgotten by the socket */
    case ECONNRESET:
    case ENOBUFS:
    case ENOMEM:
        q->counters.host_error++;
        return QN_GOT_NOTHING;
    default:
        qn_peer_gone(q);
        return QN_STOP;
    }
}

/* Bytes of the header that the host does not send. */
static size_t start_of(const struct qn_queue *q)
{
    return q->vnet_header ? 0 : q->hdr_len;
}

static uint8_t *spill_of(struct qn_queue *q, unsigned i)
{
    return q->buf + (size_t)i * QN_SPILL;
}

/* Where a frame is read to. */
struct target {
    struct qn_chain *chain; /* this and the following ones */
    unsigned chains;
    size_t room;            /* bytes that they take, header included */
    uint8_t *spill;
    struct iovec *iov;      /* from the frame's first byte on, the spill last */
    unsigned n;
};

/* FIRST and the COUNT - 1 chains behind it, which are the batch's, and SPILL behind them. */
static struct target aim(struct qn_queue *q, unsigned first, unsigned count, uint8_t *spill)
{
    struct qn_chain *c = &q->batch.chain[first], *last = c + count - 1;
    struct target t = {.chain = c, .chains = count, .spill = spill};

    for (unsigned i = 0; i < count; i++) {
        t.room += c[i].len;
        q->batch.iov[c[i].first + c[i].n] = (struct iovec){NULL, 0}; /* what an earlier aim left */
    }
    struct iovec *end = q->batch.iov + last->first + last->n;
    *end = (struct iovec){spill + t.room, t.room < QN_SPILL ? QN_SPILL - t.room : 0};
    t.iov = t.room > start_of(q) ? q->batch.iov + c->first + c->cut : end;
    t.n = end - t.iov + 1;
    return t;
}

/* The header of a frame that takes USED chains. */
static void complete_header(struct qn_queue *q, const struct qn_chain *c, uint16_t used)
{
    struct iovec *iov = q->batch.iov + c->first;

    if (!q->vnet_header && c->cut == 1 && q->hdr_len == QN_HDR_MAX)
        memcpy(iov->iov_base, plain_header, QN_HDR_MAX); /* a length that the compiler knows: as nearly all are */
    else if (!q->vnet_header)
        qd_iov_write(iov, c->cut, 0, plain_header, q->hdr_len);
    if ((q->vnet_header || used > 1) && q->hdr_len > QN_NUM_BUFFERS)
        qd_iov_write(iov, c->n, QN_NUM_BUFFERS, &used, sizeof(used));
}

/* All of a frame of TOTAL bytes, header included, is in its chains. */
static void place(struct qn_queue *q, const struct target *t, size_t total)
{
    uint16_t used = 0;

    for (size_t rest = total; rest; used++)
        rest -= rest < t->chain[used].len ? rest : t->chain[used].len;
    complete_header(q, t->chain, used);
    qn_received(q, total - q->hdr_len);
    for (const struct qn_chain *c = t->chain; total; c++) {
        size_t part = total < c->len ? total : c->len;
        total -= part;
        qn_push_next(q, part);
    }
}

/* Complete frame I in our buffer. */
static void hold(struct qn_queue *q, const struct target *t, unsigned i, size_t total)
{
    size_t start = start_of(q), in_chains = total < t->room ? total : t->room;

    memset(t->spill, 0, start);
    if (in_chains > start)
        qd_iov_read(t->iov, t->n, 0, t->spill + start, in_chains - start);
    q->held[i] = total;
}

/* Long frames get as many chains as they may need, short ones share a call. */
static void note_length(struct qn_queue *q, bool fits_one)
{
    if (!fits_one && q->mergeable) {
        q->span = QN_SPILL;
        q->short_run = 0;
    } else if (q->span && ++q->short_run == SHORT_RUN) {
        q->span = 0;
    }
}

/* Frame I came, GOT bytes of it. IN_PLACE: all before it stayed where they were read to. Did this one? */
static bool take(struct qn_queue *q, const struct target *t, unsigned i, size_t got, bool in_place)
{
    size_t total = start_of(q) + got, len = total > q->hdr_len ? total - q->hdr_len : 0;

    q->held[i] = 0;
    note_length(q, total <= t->chain->len);
    if (!qn_wanted(q, t->iov, t->n, q->hdr_len - start_of(q), len))
        return false;
    if (in_place && total <= t->room) {
        place(q, t, total);
        return true;
    }
    hold(q, t, i, total);
    return false;
}

/* Chains from the batch's next on: one, or as many as the next frame may need. 0: there is none; -1: ring broken. */
static int pop_span(struct qn_queue *q)
{
    struct qn_batch *b = &q->batch;
    size_t room = 0;
    unsigned count = 0;

    if (!qn_has_room(b))
        qn_give_back(q, 0); /* it starts from the front again */
    do {
        struct qn_chain *first = &b->chain[b->next], *c = first + count;
        if (b->next + count == b->n) {
            int r = qn_has_room(b) ? qn_pop_writable(q) : 0;
            if (r <= 0)
                return r ? r : (int)count;
        }
        if (count && c->first + c->n + 1 - (first->first + first->cut) > QN_IOV_MAX)
            break;
        room += c->len;
        count++;
    } while (room < q->span);
    return count;
}

static enum qn_got read_one(struct qn_queue *q, unsigned *frames)
{
    int count = pop_span(q);
    if (count <= 0)
        return count ? QN_STOP : QN_NO_ROOM;
    struct target t = aim(q, q->batch.next, count, spill_of(q, 0));
    ssize_t got = readv(q->fd, t.iov, t.n);
    if (got < 0)
        return read_failed(q);
    ++*frames;
    pthread_mutex_lock(&q->dev->lock);
    take(q, &t, 0, got, true);
    pthread_mutex_unlock(&q->dev->lock);
    q->held_n = q->held[0] ? 1 : 0;
    if (q->held_n)
        qn_give_back(q, 0);
    return QN_GOT_FRAMES;
}

/* Up to q->ask chains, from the batch's next on. -1: ring broken. */
static int pop_ask(struct qn_queue *q)
{
    struct qn_batch *b = &q->batch;
    int r = 1;

    if (!qn_has_room(b))
        qn_give_back(q, 0);
    while (r == 1 && b->n - b->next < q->ask && qn_has_room(b))
        r = qn_pop_writable(q);
    unsigned n = b->n - b->next;
    return r < 0 ? r : (int)(n < q->ask ? n : q->ask);
}

void qn_expect(struct qn_queue *q, unsigned frames)
{
    q->ask = frames < ASK_MIN ? ASK_MIN : frames > QN_BATCH ? QN_BATCH : frames;
}

static void take_all(struct qn_queue *q, const struct target *t, unsigned n)
{
    bool in_place = true;

    pthread_mutex_lock(&q->dev->lock);
    for (unsigned i = 0; i < n; i++)
        in_place = take(q, &t[i], i, q->msgs[i].msg_len, in_place);
    pthread_mutex_unlock(&q->dev->lock);
    if (!in_place) { /* what is in the chains' stead is in our buffer */
        q->held_n = n;
        qn_give_back(q, 0);
    }
    qd_vq_flush(q->vq);
}

static enum qn_got read_batch(struct qn_queue *q, unsigned *frames)
{
    struct target t[QN_BATCH];
    int n = pop_ask(q);

    if (n <= 0)
        return n ? QN_STOP : QN_NO_ROOM;
    for (int i = 0; i < n; i++) {
        t[i] = aim(q, q->batch.next + i, 1, spill_of(q, i));
        q->msgs[i].msg_hdr.msg_iov = t[i].iov;
        q->msgs[i].msg_hdr.msg_iovlen = t[i].n;
    }
    int got = recvmmsg(q->fd, q->msgs, n, MSG_DONTWAIT, NULL);
    if (got < 0)
        return read_failed(q);
    *frames += got;
    take_all(q, t, got);
    if ((unsigned)got == q->ask)
        qn_expect(q, 2 * q->ask);
    return got == n || q->held_n ? QN_GOT_FRAMES : QN_GOT_NOTHING;
}

enum qn_got qn_read(struct qn_queue *q, unsigned *frames)
{
    if (q->kind == QN_DGRAM && !q->span)
        return read_batch(q, frames);
    if (q->kind != QN_STREAM)
        return read_one(q, frames);
    ++*frames;
    return qd_vring_pending(&q->vq->ring) ? qn_read_stream(q) : QN_NO_ROOM;
}
