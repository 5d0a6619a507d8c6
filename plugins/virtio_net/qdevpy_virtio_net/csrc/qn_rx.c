/* SPDX-License-Identifier: Apache-2.0
 *
 * Receive: when the host is read.
 *
 * Its fd is polled only while the guest has buffers, so what waits, waits in the
 * kernel's bounded queues.
 */
#include <sys/epoll.h>

#include "qn.h"

/* Move frames until one side has no more, or others should have their turn. FRAMES is raised by those that came.
 * True: keep polling the host. */
static bool pump(struct qn_queue *q, unsigned *frames)
{
    for (unsigned round = 0; round < QN_RX_ROUNDS && *frames < QN_RX_BURST; round++) {
        enum qn_got r = qn_deliver_waiting(q);
        if (r == QN_GOT_FRAMES)
            r = qn_read(q, frames);
        if (r == QN_GOT_NOTHING)
            return true;
        if (r == QN_STOP)
            return false;
        if (r == QN_NO_ROOM && !qd_vring_enable_kicks_beyond(&q->vq->ring))
            return false;
    }
    return true; /* level-triggered: we come back */
}

void qn_rx_resume(struct qn_queue *q)
{
    struct qd_vring *vr = &q->vq->ring;

    if (q->armed || q->fd < 0 || q->gone)
        return;
    for (;;) {
        enum qn_got r = qn_deliver_waiting(q);
        if (r == QN_STOP)
            break;
        if (r == QN_GOT_FRAMES && qd_vring_pending(vr) > 0) {
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
        unsigned frames = 0;
        bool more = pump(q, &frames);
        if (frames)
            qn_expect(q, frames + 1); /* about as many come next time, and the one that does not shows that all did */
        qn_give_back(q, 0);
        if (!more)
            qn_disarm(q, io, &q->armed);
        qd_vq_flush(q->vq);
        qd_vq_check(q->vq);
    }
    pthread_mutex_unlock(&q->vq->lock);
}
