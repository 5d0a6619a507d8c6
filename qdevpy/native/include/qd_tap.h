/* SPDX-License-Identifier: Apache-2.0
 *
 * A tap: somebody who sees what goes through a virtqueue, and may change it. Tracing looks; faults change.
 *
 *            kicked     popped                       marked
 *   guest  ---------> [ tap 1 -> tap 2 -> ... ] ---------> device
 *          <--------- [ tap 1 <- tap 2 <- ... ] <---------
 *            decided    pushed
 *
 * The tap that was added first is the nearest to the guest: of a chain it hears first, and of its completion last.
 *
 * Every callback runs with vq->lock held, on the thread that serves the queue; of queues that Python serves it is the one
 * that holds the VM lock. So a callback takes no VM lock, and calls nothing here but qd_tap_complete(). It may be
 * Python (lock order: VM lock -> vq->lock -> isr_lock -> GIL). Any may be NULL.
 *
 * Without a tap none of this costs anything: that a ring is tapped is a bit of its `form`, which is tested anyhow.
 */
#ifndef QD_TAP_H
#define QD_TAP_H

#include "qd_queue.h"

/* How a kick came. */
enum qd_kick { QD_KICK_IOEVENTFD, QD_KICK_SYNC, QD_KICK_POLLED };

/* The owner's, and where it is as long as it is added. */
struct qd_tap {
    struct qd_tap *next, *before; /* the core's */
    void *opaque;
    /* The driver's kick is about to be served. */
    void (*kicked)(struct qd_tap *tap, struct qd_vq *vq, enum qd_kick way);
    /* A chain was popped. False: the tap keeps it. The device does not see it, and gets the next one instead, until the
     * tap says qd_vq_hand_over() or, in the device's stead, qd_vq_complete(). Called once a chain. */
    bool (*popped)(struct qd_tap *tap, struct qd_vq *vq, const struct qd_elem *e);
    /* The device completes a chain with *LEN bytes written, which may be changed. False: swallowed; the driver does
     * not hear of it before the tap says qd_vq_complete(), if ever. */
    bool (*pushed)(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, uint32_t *len);
    /* Completions were shown to the driver, and *INTERRUPT is whether it wants to be interrupted; may be changed. */
    void (*decided)(struct qd_tap *tap, struct qd_vq *vq, bool *interrupt);
    /* The device has come to STAGE with a chain; devices that do not say so are silent. */
    void (*marked)(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, enum qd_mark stage);
    /* The queue was reset: what the tap kept or swallowed is gone. Here alone the queue is idle. */
    void (*forgotten)(struct qd_tap *tap, struct qd_vq *vq);
};

/* Also while the queue is in use, but not in a callback. Of a queue that Python serves, with the VM lock held.
 * 0 or -ENOMEM. */
int qd_vq_add_tap(struct qd_vq *vq, struct qd_tap *tap);
/* On return no callback runs, and none will. What the tap keeps stays kept: whoever removes it has completed it or handed
 * it over, or means it never to be seen again. */
void qd_vq_remove_tap(struct qd_vq *vq, struct qd_tap *tap);

/* The driver gets a chain that was kept or swallowed, with LEN bytes written by the tap, and is interrupted if it wants
 * that; if the queue stands still (a paused machine), as soon as it goes on. A chain that it has back already it gets once
 * more: a second used entry, which breaks the specification on purpose. Any thread, without vq->lock; under the VM lock
 * where Python serves the queue. False: the device has the chain, or there is no such queue any more (reset, broken ring). */
bool qd_vq_complete(struct qd_vq *vq, uint16_t head, uint32_t len);
/* The same in a callback. From `popped`, which then returns false, the driver hears of it at once; from another one
 * when the device next shows what it completed. */
bool qd_tap_complete(struct qd_vq *vq, uint16_t head, uint32_t len);
/* E gets the buffers of a chain: in `pushed` of the one that is pushed, else of one that this tap keeps or swallowed, also
 * without the lock. False: it was popped before there was a tap. */
bool qd_tap_chain(struct qd_vq *vq, uint16_t head, struct qd_elem *e);
/* The device gets a chain that was kept; the taps behind the one that kept it see it first. As qd_vq_complete(). True: it
 * is served now, or when the queue goes on; of a queue that Python serves, when it is kicked. */
bool qd_vq_hand_over(struct qd_vq *vq, uint16_t head);

#endif
