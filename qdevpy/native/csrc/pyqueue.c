/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues as Python sees them: set-up, ring operations for handlers in Python, and the null handler.
 *
 * The VM lock keeps handlers in Python apart; vq->lock is taken for taps, which may complete a chain at any time.
 */
#include "core.h"

#include <stdlib.h>

int qd_vq_setup(struct qd_vq *vq, uint16_t num, uint64_t desc, uint64_t avail, uint64_t used)
{
    if (qd_vring_needs_flight(vq->vdev->features) && !vq->ring.flight)
        vq->ring.flight = calloc(1, sizeof(*vq->ring.flight));
    return qd_vring_setup(&vq->ring, vq->vdev->mem, num, desc, avail, used, vq->vdev->features);
}

void qd_vq_forget(struct qd_vq *vq)
{
    free(qd_vring_forget(&vq->ring, vq->vdev->mem));
    qd_taps_forget(vq);
}

void qd_vdev_set_error(struct qd_vdev *vdev, const char *why)
{
    __atomic_store_n(&vdev->error, why, __ATOMIC_RELEASE);
}

bool qd_vq_set_kicks(struct qd_vq *vq, bool enabled)
{
    bool found = false;
    pthread_mutex_lock(&vq->lock);
    if (enabled)
        found = qd_vring_enable_kicks(&vq->ring);
    else
        qd_vring_disable_kicks(&vq->ring);
    pthread_mutex_unlock(&vq->lock);
    return found;
}

int qd_vq_pop(struct qd_vq *vq, struct qd_elem *elem, bool kicks)
{
    pthread_mutex_lock(&vq->lock);
    int n = qd_vring_pop(&vq->ring, elem);
    /* A handler in Python need not know about EVENT_IDX: avail_event follows every pop, so whatever the driver adds
     * from here on is kicked, and what it added a moment ago is seen by the second look. */
    if (n >= 0 && kicks && qd_vring_enable_kicks(&vq->ring) && n == 0)
        n = qd_vring_pop(&vq->ring, elem);
    qd_vq_check(vq);
    pthread_mutex_unlock(&vq->lock);
    return n;
}

uint32_t qd_elem_words(const struct qd_elem *elem, uint64_t *words)
{
    uint32_t n = (uint32_t)elem->out_num + elem->in_num;
    *words++ = elem->head;
    *words++ = elem->out_num;
    *words++ = elem->out_len;
    *words++ = elem->in_len;
    for (uint32_t i = 0; i < n; i++) {
        *words++ = (uintptr_t)elem->iov[i].iov_base;
        *words++ = elem->iov[i].iov_len;
    }
    return QD_ELEM_WORDS + 2 * n;
}

void qd_vq_push(struct qd_vq *vq, uint16_t head, uint32_t len)
{
    pthread_mutex_lock(&vq->lock);
    qd_vring_push(&vq->ring, head, len);
    pthread_mutex_unlock(&vq->lock);
}

bool qd_vq_publish(struct qd_vq *vq)
{
    pthread_mutex_lock(&vq->lock);
    bool interrupt;
    if (qd_vring_is_tapped(&vq->ring)) {
        interrupt = qd_taps_publish(vq);
    } else {
        qd_vring_publish(&vq->ring);
        interrupt = qd_vring_should_interrupt(&vq->ring);
    }
    pthread_mutex_unlock(&vq->lock);
    return interrupt;
}

static void null_kick(struct qd_vq *vq)
{
    struct qd_elem elem;
    do {
        qd_vring_disable_kicks(&vq->ring);
        while (qd_vring_pop(&vq->ring, &elem) > 0)
            qd_vring_push(&vq->ring, elem.head, 0);
        qd_vq_flush(vq);
    } while (qd_vring_enable_kicks(&vq->ring));
    qd_vq_check(vq);
}

static const struct qd_queue_ops null_ops = {.kick = null_kick};
const struct qd_queue_ops *const qd_null_ops = &null_ops;
