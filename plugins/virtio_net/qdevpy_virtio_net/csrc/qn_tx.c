/* SPDX-License-Identifier: Apache-2.0
 *
 * Transmit: from the guest's chains to the host, in order.
 *
 * As many chains are popped as are there, up to a batch; what the host has no room
 * for stays in the batch, and the queue waits for EPOLLOUT, with further kicks
 * ignored until then. A frame is dropped only where nobody could ever take it.
 */
#include "qn.h"

/* Why the ring is not looked at any more. */
enum pause { RING_EMPTY, HOST_FULL, OTHERS_TURN };

/* Pop a batch. False: there is nothing, and the driver has been asked to kick. */
static bool pop_batch(struct qn_queue *q)
{
    struct qd_vring *vr = &q->vq->ring;

    for (;;) {
        while (qn_has_room(&q->batch) && qn_pop_readable(q) == 1)
            ;
        if (q->batch.n) /* also where the ring broke behind them */
            return true;
        if (!qd_vring_enable_kicks(vr))
            return false;
        qd_vring_disable_kicks(vr);
    }
}

/* Serve the ring, a batch at a time: one used index and one decision on the interrupt each. */
static enum pause serve(struct qn_queue *q)
{
    unsigned burst = 0;

    qd_vring_disable_kicks(&q->vq->ring);
    while (q->batch.n || pop_batch(q)) {
        burst += q->batch.n - q->batch.next;
        if (qn_send_batch(q) == QN_WAIT)
            return HOST_FULL;
        if (burst >= QN_TX_BURST)
            return OTHERS_TURN;
        qd_vq_flush(q->vq);
    }
    return RING_EMPTY;
}

/* Handlers that stay for the next wake-up are left in the loop: no system call. */
static void run(struct qn_queue *q)
{
    enum pause why;

    do {
        why = serve(q);
        if (why == OTHERS_TURN)
            qn_arm(q, &q->again, &q->again_armed);
    } while (why == OTHERS_TURN && !q->again_armed);
    if (why != OTHERS_TURN)
        qn_disarm(q, &q->again, &q->again_armed);
    if (why == HOST_FULL)
        qn_arm(q, &q->io, &q->armed);
    else
        qn_disarm(q, &q->io, &q->armed);
    qd_vq_flush(q->vq);
    qd_vq_check(q->vq);
}

void qn_tx_run(struct qn_queue *q)
{
    if (!q->armed && !q->again_armed)
        run(q);
}

void qn_tx_ready(struct qd_fd *io, uint32_t events)
{
    (void)events; /* an error shows at the next call */
    struct qn_queue *q = io->opaque;
    pthread_mutex_lock(&q->vq->lock);
    if (q->armed)
        run(q);
    pthread_mutex_unlock(&q->vq->lock);
}

void qn_tx_again(struct qd_fd *again, uint32_t events)
{
    (void)events;
    struct qn_queue *q = again->opaque;
    pthread_mutex_lock(&q->vq->lock);
    if (q->again_armed)
        run(q);
    pthread_mutex_unlock(&q->vq->lock);
}

/* The queue stops: what waits goes back to the ring, but for a frame that is out in part: its rest is kept for the
 * next start, the stream has to go on with it. */
void qn_tx_abandon(struct qn_queue *q)
{
    if (q->partial) {
        qn_keep_tail(q);
        qn_give_back(q, 1);
        qn_push_next(q, 0);
        qd_vq_flush(q->vq);
    }
    qn_give_back(q, 0);
}
