/* SPDX-License-Identifier: Apache-2.0
 *
 * Tapped queues: see qd_tap.h. All of it is off the way of a queue without taps.
 *
 * Where a chain is, by its head:
 *
 *            popped               handed over
 *   NOWHERE ------> KEPT (by tap) -----------> READY --pop--> DEVICE
 *      ^  |          |  ^                        ^              |
 *      |  +--popped--|--+------------------------+--unpopped----+--pushed--> SWALLOWED
 *      |             |                                                           |
 *      +-------------+------------------ completed ------------------------------+
 *
 * A tapped chain's buffers are remembered, so that a device can give one back (qd_vring_unpop) when a newer one was kept:
 * it goes to READY and not to the ring, which has moved on.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum place { NOWHERE, KEPT, READY, DEVICE, SWALLOWED, DONE /* completed while the queue stood still */ };

struct chain {
    enum place place;
    uint16_t out_num, in_num;
    uint64_t out_len, in_len;
    uint32_t room;       /* of iov */
    uint32_t done_len;   /* DONE: bytes written */
    struct iovec *iov;
    struct qd_tap *next; /* the tap that is asked next */
};

struct qd_taps {
    struct qd_tapped tapped;        /* the ring's */
    struct qd_tap *first, *last;
    uint16_t n_done;
    uint16_t ready_at;              /* ready[ready_at % MAX] is popped next; the ring's `ready` says how many there are */
    uint16_t ready[QD_VRING_MAX];
    uint32_t n_given;               /* goes round */
    uint16_t given[QD_VRING_MAX];   /* heads that the device got, the last ones */
    struct chain chains[QD_VRING_MAX];
};

static struct qd_vq *queue_of(struct qd_vring *vr)
{
    return (struct qd_vq *)((char *)vr - offsetof(struct qd_vq, ring));
}

/* With vq->lock held: the ring is tapped as long as there is a tap, or something of theirs to do. */
static void update(struct qd_vq *vq)
{
    struct qd_taps *taps = vq->taps;
    bool needed = taps->first || vq->ring.ready || taps->n_done || taps->tapped.n_pushed;
    vq->ring.tapped = needed ? &taps->tapped : NULL;
    qd_vring_classify(&vq->ring);
}

/* --- chains --- */

/* Remember a chain from the ring; -1: the ring is broken. */
static int remember(struct qd_vq *vq, const struct qd_elem *e)
{
    struct chain *c = &vq->taps->chains[e->head];
    uint32_t n = (uint32_t)e->out_num + e->in_num;
    /* 2.7.13: what the device or a tap has is not the driver's to offer */
    if (c->place != NOWHERE)
        return qd_vring_break(&vq->ring, "chain offered that is in use");
    if (c->room < n) {
        struct iovec *iov = realloc(c->iov, n * sizeof(*iov));
        if (!iov)
            return qd_vring_break(&vq->ring, "no memory for a chain that is looked at");
        c->iov = iov;
        c->room = n;
    }
    memcpy(c->iov, e->iov, n * sizeof(*e->iov));
    c->out_num = e->out_num;
    c->in_num = e->in_num;
    c->out_len = e->out_len;
    c->in_len = e->in_len;
    c->next = vq->taps->first;
    return 1;
}

static void restore(const struct chain *c, uint16_t head, struct qd_elem *e)
{
    e->head = head;
    e->out_num = c->out_num;
    e->in_num = c->in_num;
    e->out_len = c->out_len;
    e->in_len = c->in_len;
    memcpy(e->iov, c->iov, ((size_t)c->out_num + c->in_num) * sizeof(*e->iov));
}

bool qd_tap_chain(struct qd_vq *vq, uint16_t head, struct qd_elem *e)
{
    if (!vq->taps || head >= QD_VRING_MAX || !vq->taps->chains[head].iov)
        return false;
    restore(&vq->taps->chains[head], head, e);
    return true;
}

/* To the end of those that the device gets next, or to their beginning. */
static void make_ready(struct qd_vq *vq, uint16_t head, bool first)
{
    struct qd_taps *taps = vq->taps;
    uint16_t at = first ? --taps->ready_at : (uint16_t)(taps->ready_at + vq->ring.ready);
    taps->ready[at % QD_VRING_MAX] = head;
    taps->chains[head].place = READY;
    vq->ring.ready++;
    vq->ring.popped--;
}

static int pop_ready(struct qd_vq *vq, struct qd_elem *e)
{
    struct qd_taps *taps = vq->taps;
    if (vq->ring.inflight >= vq->ring.num)
        return qd_vring_break(&vq->ring, "more chains offered than the queue has entries");
    uint16_t head = taps->ready[taps->ready_at++ % QD_VRING_MAX];
    restore(&taps->chains[head], head, e);
    vq->ring.ready--;
    vq->ring.popped++;
    vq->ring.inflight++;
    return 1;
}

/* --- completions --- */

static bool is_known(const struct qd_vring *vr, uint16_t head)
{
    return !(vr->form & ~QD_FORM_TAPPED) || qd_flight_has(vr->flight, head);
}

/* The ring gets a chain that does not count as in flight; one that the driver has back, too. */
static void use(struct qd_vring *vr, uint16_t head, uint32_t len)
{
    if (is_known(vr, head)) {
        vr->inflight++;
        qd_vring_push_untapped(vr, head, len);
    } else {
        if (vr->packed && !vr->taken) /* a used descriptor needs a place where one was popped */
            qd_packed_take(vr, 1);
        qd_vring_use(vr, head, 1, len);
    }
}

/* The device completes a chain. */
static void push(struct qd_vq *vq, uint16_t head, uint32_t len)
{
    struct qd_vring *vr = &vq->ring;
    if (head >= vr->num || !is_known(vr, head)) /* as without taps: not popped since a reset */
        return;
    struct chain *c = &vq->taps->chains[head];
    if (c->place != DEVICE && c->place != NOWHERE) /* NOWHERE: popped before there was a tap */
        return;
    c->place = SWALLOWED; /* as in offer() */
    vr->inflight--;
    for (struct qd_tap *tap = vq->taps->last; tap; tap = tap->before)
        if (tap->pushed && !tap->pushed(tap, vq, head, &len))
            return;
    c->place = NOWHERE;
    use(vr, head, len);
}

bool qd_taps_publish(struct qd_vq *vq)
{
    struct qd_tapped *tapped = &vq->taps->tapped;
    for (unsigned i = 0; i < tapped->n_pushed; i++)
        push(vq, tapped->pushed[i].head, tapped->pushed[i].len);
    tapped->n_pushed = 0;
    update(vq);
    qd_vring_publish(&vq->ring);
    bool interrupt = qd_vring_should_interrupt(&vq->ring);
    for (struct qd_tap *tap = vq->taps->last; tap; tap = tap->before)
        if (tap->decided)
            tap->decided(tap, vq, &interrupt);
    return interrupt;
}

void qd_taps_flush(struct qd_vq *vq)
{
    if (qd_taps_publish(vq))
        qd_vq_signal(vq);
}

/* What was completed while the queue stood still. */
static void use_done(struct qd_vq *vq)
{
    struct qd_taps *taps = vq->taps;
    for (unsigned head = 0; head < QD_VRING_MAX && taps->n_done; head++) {
        struct chain *c = &taps->chains[head];
        if (c->place != DONE)
            continue;
        c->place = NOWHERE;
        taps->n_done--;
        use(&vq->ring, (uint16_t)head, c->done_len);
    }
    qd_taps_flush(vq);
}

/* With vq->lock held. */
static bool may_complete(const struct qd_vq *vq, uint16_t head)
{
    if (!vq->taps || head >= vq->ring.num || __atomic_load_n(&vq->vdev->error, __ATOMIC_ACQUIRE))
        return false;
    enum place place = vq->taps->chains[head].place;
    return place == KEPT || place == SWALLOWED || place == NOWHERE;
}

bool qd_tap_complete(struct qd_vq *vq, uint16_t head, uint32_t len)
{
    if (!may_complete(vq, head))
        return false;
    vq->taps->chains[head].place = NOWHERE;
    use(&vq->ring, head, len);
    return true;
}

bool qd_vq_complete(struct qd_vq *vq, uint16_t head, uint32_t len)
{
    pthread_mutex_lock(&vq->lock);
    bool ok = may_complete(vq, head);
    if (ok && vq->state == QD_VQ_IDLE) {
        struct chain *c = &vq->taps->chains[head];
        c->place = DONE;
        c->done_len = len;
        vq->taps->n_done++;
        update(vq);
    } else if (ok) {
        qd_tap_complete(vq, head, len);
        qd_taps_flush(vq);
    }
    pthread_mutex_unlock(&vq->lock);
    return ok;
}

bool qd_vq_hand_over(struct qd_vq *vq, uint16_t head)
{
    pthread_mutex_lock(&vq->lock);
    bool ok = may_complete(vq, head) && vq->taps->chains[head].place == KEPT;
    if (ok) {
        make_ready(vq, head, false);
        update(vq);
        if (vq->ops && vq->state != QD_VQ_IDLE)
            qd_vq_serve(vq);
    }
    pthread_mutex_unlock(&vq->lock);
    return ok;
}

/* --- the ring's operations --- */

/* Ask the taps that were not asked. True: the device gets the chain. */
static bool offer(struct qd_vq *vq, const struct qd_elem *e)
{
    struct chain *c = &vq->taps->chains[e->head];
    c->place = KEPT; /* so that a tap can complete it; and what a tap has is not in flight: nobody waits for it */
    vq->ring.inflight--;
    while (c->next) {
        struct qd_tap *tap = c->next;
        c->next = tap->next;
        if (tap->popped && !tap->popped(tap, vq, e))
            return false;
        if (c->place != KEPT) /* completed after all */
            return false;
    }
    return true;
}

static void give(struct qd_vq *vq, uint16_t head)
{
    struct qd_taps *taps = vq->taps;
    taps->chains[head].place = DEVICE;
    taps->given[taps->n_given++ % QD_VRING_MAX] = head;
    vq->ring.inflight++;
}

static int tapped_pop(struct qd_vring *vr, struct qd_elem *e)
{
    struct qd_vq *vq = queue_of(vr);
    if (vq->taps->n_done)
        use_done(vq);
    for (;;) {
        bool again = vr->ready;
        int n = again ? pop_ready(vq, e) : qd_vring_pop_untapped(vr, e);
        if (n == 1 && !again)
            n = remember(vq, e);
        if (n != 1) {
            update(vq);
            return n;
        }
        if (offer(vq, e)) {
            give(vq, e->head);
            return 1;
        }
        if (vq->taps->chains[e->head].place == NOWHERE) /* completed at once, and the device will not show it */
            qd_taps_flush(vq);
    }
}

static void tapped_unpop(struct qd_vring *vr)
{
    struct qd_vq *vq = queue_of(vr);
    struct qd_taps *taps = vq->taps;
    uint16_t head = taps->given[(taps->n_given - 1) % QD_VRING_MAX];
    if (!taps->n_given || taps->chains[head].place != DEVICE) { /* popped before there was a tap */
        qd_vring_unpop_untapped(vr);
        return;
    }
    taps->n_given--;
    vr->inflight--;
    make_ready(vq, head, true);
}

static void tapped_mark(struct qd_vring *vr, uint16_t head, enum qd_mark stage)
{
    struct qd_vq *vq = queue_of(vr);
    for (struct qd_tap *tap = vq->taps->first; tap; tap = tap->next)
        if (tap->marked)
            tap->marked(tap, vq, head, stage);
}

/* --- who looks on --- */

void qd_taps_kicked(struct qd_vq *vq, enum qd_kick way)
{
    for (struct qd_tap *tap = vq->taps->first; tap; tap = tap->next)
        if (tap->kicked)
            tap->kicked(tap, vq, way);
}

/* What the device has from before is not followed: it may come back while nobody looks. */
static void forget_given(struct qd_taps *taps)
{
    taps->n_given = 0;
    for (unsigned head = 0; head < QD_VRING_MAX; head++)
        if (taps->chains[head].place == DEVICE)
            taps->chains[head].place = NOWHERE;
}

static struct qd_taps *new_taps(void)
{
    struct qd_taps *taps = calloc(1, sizeof(*taps));
    if (!taps)
        return NULL;
    taps->tapped.pop = tapped_pop;
    taps->tapped.unpop = tapped_unpop;
    taps->tapped.mark = tapped_mark;
    return taps;
}

int qd_vq_add_tap(struct qd_vq *vq, struct qd_tap *tap)
{
    pthread_mutex_lock(&vq->lock);
    if (!vq->taps)
        vq->taps = new_taps();
    struct qd_taps *taps = vq->taps;
    if (taps) {
        if (!vq->ring.tapped)
            forget_given(taps);
        tap->next = NULL;
        tap->before = taps->last;
        *(taps->last ? &taps->last->next : &taps->first) = tap;
        taps->last = tap;
        update(vq);
    }
    pthread_mutex_unlock(&vq->lock);
    return taps ? 0 : -ENOMEM;
}

void qd_vq_remove_tap(struct qd_vq *vq, struct qd_tap *tap)
{
    pthread_mutex_lock(&vq->lock);
    struct qd_taps *taps = vq->taps;
    *(tap->before ? &tap->before->next : &taps->first) = tap->next;
    *(tap->next ? &tap->next->before : &taps->last) = tap->before;
    for (unsigned head = 0; head < QD_VRING_MAX; head++)
        if (taps->chains[head].next == tap)
            taps->chains[head].next = tap->next;
    update(vq);
    pthread_mutex_unlock(&vq->lock);
}

void qd_taps_forget(struct qd_vq *vq)
{
    struct qd_taps *taps = vq->taps;
    if (!taps)
        return;
    pthread_mutex_lock(&vq->lock);
    for (unsigned head = 0; head < QD_VRING_MAX; head++) {
        taps->chains[head].place = NOWHERE;
        taps->chains[head].next = NULL;
    }
    taps->n_given = 0;
    taps->n_done = 0;
    taps->tapped.n_pushed = 0;
    update(vq);
    for (struct qd_tap *tap = taps->first; tap; tap = tap->next)
        if (tap->forgotten)
            tap->forgotten(tap, vq);
    pthread_mutex_unlock(&vq->lock);
}

void qd_taps_free(struct qd_vq *vq)
{
    if (!vq->taps)
        return;
    for (unsigned head = 0; head < QD_VRING_MAX; head++)
        free(vq->taps->chains[head].iov);
    free(vq->taps);
}
