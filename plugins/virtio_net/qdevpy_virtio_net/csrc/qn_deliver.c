/* SPDX-License-Identifier: Apache-2.0
 *
 * Received frames that are copied into the guest's buffers: those of a stream, and
 * those that could not be read straight into a chain of their own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "qn.h"

/* Where the host has no header, the guest's is zeros: no checksum to complete, no segments. */
static const uint8_t no_header[QN_HDR_MAX];

bool qn_wanted(struct qn_queue *q, const struct iovec *iov, unsigned n, size_t offset, size_t len)
{
    uint8_t first[18]; /* addresses, type, VLAN tag */

    if (len > QN_FRAME_MAX) {
        q->counters.too_long++;
    } else if (!qn_link_up(q->dev)) {
        q->counters.link_down++;
    } else {
        if (!q->dev->filter.promisc)
            qd_iov_read(iov, n, offset, first, sizeof(first));
        if (qn_accepts(&q->dev->filter, first, len))
            return true;
        if (len < QN_FRAME_MIN)
            q->counters.too_short++;
        else
            q->counters.filtered++;
    }
    return false;
}

void qn_received(struct qn_queue *q, size_t len)
{
    q->counters.frames++;
    q->counters.bytes += len;
}

static void unpop(struct qn_queue *q, unsigned n)
{
    while (n--)
        qd_vring_unpop(&q->vq->ring);
}

static enum qn_got drop_too_long(struct qn_queue *q, unsigned n)
{
    unpop(q, n);
    q->counters.too_long++;
    return QN_GOT_FRAMES;
}

/* Copy a header and a frame into as many chains as it takes; all of them become visible together. */
static enum qn_got deliver(struct qn_queue *q, const uint8_t *hdr, const uint8_t *frame, size_t len)
{
    struct qd_vring *vr = &q->vq->ring;
    struct iovec num_buffers[2];
    unsigned n = 0, nb = 0;
    size_t pos = 0;

    while (pos < len) {
        if (n && !q->mergeable)
            return drop_too_long(q, n);
        int r = n < vr->num ? qn_pop_for_frame(q) : 0;
        if (r < 0)
            return QN_STOP;
        if (r == 0) {
            if (n == vr->num) /* the whole ring does not hold it */
                return drop_too_long(q, n);
            unpop(q, n);
            return QN_NO_ROOM;
        }
        struct iovec *iov = q->elem.iov + q->elem.out_num;
        size_t offset = 0;
        if (n == 0) {
            offset = qd_iov_write(iov, q->elem.in_num, 0, hdr, q->hdr_len);
            nb = qd_iov_slice(iov, q->elem.in_num, QN_NUM_BUFFERS, q->hdr_len - QN_NUM_BUFFERS, num_buffers);
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
    qn_received(q, len);
    return QN_GOT_FRAMES;
}

/* Complete frames in a stream's buffer. QN_GOT_NOTHING: none is left. */
static enum qn_got deliver_stream(struct qn_queue *q)
{
    while (q->have - q->pos >= 4) {
        uint32_t len;
        memcpy(&len, q->buf + q->pos, 4);
        len = ntohl(len);
        if (len > QN_FRAME_MAX) {
            qn_peer_gone(q); /* not our protocol, or out of step: nothing that follows can be trusted */
            return QN_STOP;
        }
        if (q->have - q->pos < 4 + len)
            break;
        struct iovec frame = {q->buf + q->pos + 4, len};
        pthread_mutex_lock(&q->dev->lock);
        bool wanted = qn_wanted(q, &frame, 1, 0, len);
        pthread_mutex_unlock(&q->dev->lock);
        if (wanted) {
            enum qn_got r = deliver(q, no_header, frame.iov_base, len);
            if (r != QN_GOT_FRAMES)
                return r;
        }
        q->pos += 4 + len;
    }
    return QN_GOT_NOTHING;
}

enum qn_got qn_read_stream(struct qn_queue *q)
{
    memmove(q->buf, q->buf + q->pos, q->have - q->pos);
    q->have -= q->pos;
    q->pos = 0;
    size_t room = QN_STREAM_BUF - q->have;
    ssize_t got = recv(q->fd, q->buf + q->have, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return QN_GOT_NOTHING;
    if (got <= 0) {
        qn_peer_gone(q);
        return QN_STOP;
    }
    q->have += got;
    enum qn_got r = deliver_stream(q);
    return r == QN_GOT_NOTHING && (size_t)got == room ? QN_GOT_FRAMES : r; /* less than there was room for: it is empty */
}

enum qn_got qn_deliver_waiting(struct qn_queue *q)
{
    if (q->kind == QN_STREAM) {
        enum qn_got r = deliver_stream(q);
        return r == QN_GOT_NOTHING ? QN_GOT_FRAMES : r;
    }
    for (; q->held_next < q->held_n; q->held_next++) {
        const uint8_t *held = q->buf + (size_t)q->held_next * QN_SPILL;
        size_t len = q->held[q->held_next];
        enum qn_got r = len ? deliver(q, held, held + q->hdr_len, len - q->hdr_len) : QN_GOT_FRAMES;
        if (r != QN_GOT_FRAMES)
            return r;
    }
    q->held_next = q->held_n = 0;
    return QN_GOT_FRAMES;
}
