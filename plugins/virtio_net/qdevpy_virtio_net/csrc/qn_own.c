/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames of the device's own (announcements), between those of the driver; a host
 * that has no room now does not get them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "qn.h"
#include "qn_api.h"

static bool send_whole(struct qn_queue *q, const uint8_t *frame, size_t len)
{
    static uint8_t no_offload[QN_HDR_MAX];
    struct iovec iov[] = {{no_offload, q->hdr_len ? q->hdr_len : 10}, {(void *)frame, len}};
    unsigned skip = q->vnet_header ? 0 : 1;
    struct msghdr msg = {.msg_iov = iov + skip, .msg_iovlen = 2 - skip};

    if (q->kind == QN_TAP)
        return writev(q->fd, msg.msg_iov, msg.msg_iovlen) >= 0;
    for (int attempt = 0; attempt < 2; attempt++) {
        if (!qn_connect_peer(q))
            return false;
        if (sendmsg(q->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return true;
        if (errno != ECONNREFUSED && errno != ECONNRESET && errno != ENOTCONN)
            return false;
        q->connected = false; /* the peer's socket is gone; another one may be at its place */
    }
    return false;
}

static bool send_own(struct qn_queue *q, const uint8_t *frame, size_t len)
{
    if (q->kind == QN_NONE || q->gone || q->batch.n || !qn_link_up(q->dev))
        return false;
    if (q->kind == QN_STREAM) {
        if (qn_send_tail(q) == QN_WAIT || q->gone)
            return false;
        /* by way of the tail: what does not go out now goes before the next frame */
        uint32_t length = htonl(len);
        memcpy(q->tail, &length, sizeof(length));
        memcpy(q->tail + sizeof(length), frame, len);
        q->tail_len = sizeof(length) + len;
        qn_send_tail(q);
        return !q->gone;
    }
    if (!send_whole(q, frame, len))
        return false;
    q->counters.frames++;
    q->counters.bytes += len;
    return true;
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
