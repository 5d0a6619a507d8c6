/* SPDX-License-Identifier: Apache-2.0
 *
 * The device's side of a virtqueue, split (virtio 1.2, section 2.7) or packed (2.8).
 *
 * Everything on the way of a request is `static inline`, so a plugin's own C
 * module compiles it into its handler and no call crosses a module boundary.
 *
 * Trust: all that lies in guest memory may change at any moment. A value is
 * read once (qd_load*) into a local, checked, and only then used. A violation
 * sets `error` and breaks the ring: nothing is popped or pushed until it is
 * set up anew. The caller reports it (qd_vq_fail in qd_queue.h).
 *
 * Concurrency: one thread at a time (the queue's lock, qd_queue.h).
 */
#ifndef QD_VRING_H
#define QD_VRING_H

#include "qd_flight.h"
#include "qd_iov.h"
#include "qd_vring_packed.h"
#include "qd_vring_split.h"

/* Does somebody look on? Not as a rule: what follows is out of the way. */
static inline __attribute__((always_inline)) bool qd_vring_is_tapped(const struct qd_vring *vr)
{
    return __builtin_expect(vr->form & QD_FORM_TAPPED, 0);
}

/* Whether a ring with these features needs a struct qd_flight. */
static inline bool qd_vring_needs_flight(uint64_t features)
{
    /* 6.1: a legacy driver knows neither */
    return features >> QD_F_VERSION_1 & 1 && (features >> QD_F_RING_PACKED & 1 || features >> QD_F_IN_ORDER & 1);
}

/* After a change of what it is made of. */
static inline void qd_vring_classify(struct qd_vring *vr)
{
    vr->form = (vr->in_order ? QD_FORM_IN_ORDER : 0) | (vr->packed ? QD_FORM_PACKED : 0) | (vr->tapped ? QD_FORM_TAPPED : 0);
}

/* Bring a ring up at three guest-physical addresses: descriptor table, available ring and used ring, or packed
 * descriptor ring, driver's and device's event suppression structure. FEATURES is the negotiated set. 0, or -1 with
 * `error` set where the size or an address is not acceptable.
 * Positions and chains in flight continue from what is stored in them, qd_vring_forget() being the beginning. */
static inline int qd_vring_setup(struct qd_vring *vr, const struct qd_mem *mem, uint16_t num,
                                 uint64_t desc, uint64_t avail, uint64_t used, uint64_t features)
{
    vr->mem = mem;
    vr->near = &mem->ram[0];
    vr->error = NULL;
    vr->num = 0;
    bool modern = features >> QD_F_VERSION_1 & 1;
    vr->packed = modern && features >> QD_F_RING_PACKED & 1;
    vr->in_order = modern && features >> QD_F_IN_ORDER & 1;
    vr->event_idx = features >> QD_F_RING_EVENT_IDX & 1;
    vr->indirect = features >> QD_F_RING_INDIRECT_DESC & 1;
    vr->notify_on_empty = (features >> QD_F_NOTIFY_ON_EMPTY & 1) && !modern;
    vr->signalled_valid = false;
    vr->wants_kicks = true; /* as the driver takes it of a ring of zeros */
    vr->polled = false;
    if (qd_vring_needs_flight(features) && !vr->flight)
        return qd_vring_break(vr, "no memory for the chains in flight");
    if (vr->packed ? qd_packed_setup(vr, num, desc, avail, used) : qd_split_setup(vr, num, desc, avail, used))
        return -1;
    vr->num = num;
    qd_vring_classify(vr);
    return 0;
}

/* The state of a ring that was never set up, but for the statistics and who looks on; its flight, if it has one, goes back to the caller. */
static inline struct qd_flight *qd_vring_forget(struct qd_vring *vr, const struct qd_mem *mem)
{
    struct qd_flight *flight = vr->flight;
    /* 2.8.1: wrap counters begin with 1 */
    *vr = (struct qd_vring){.mem = mem, .popped = vr->popped, .tapped = vr->tapped, .avail_wrap = true, .used_wrap = true};
    return flight;
}

/* Chains that the driver offered and nobody popped, at least; -1 on a violation. A packed ring knows of one only. */
static inline int qd_vring_pending(struct qd_vring *vr)
{
    int n = vr->packed ? qd_packed_pending(vr) : qd_split_pending(vr);
    return n < 0 ? n : n + vr->ready; /* what taps have for the device comes first */
}

/* In-order split rings: the chain is remembered, and may not be offered twice. */
static inline int qd_vring_remember(struct qd_vring *vr, uint16_t head)
{
    if (qd_flight_has(vr->flight, head))
        return qd_vring_break(vr, "chain offered that is in use");
    qd_flight_add(vr->flight, head, 1);
    return 1;
}

/* From the ring itself, whoever looks on. */
static inline int qd_vring_pop_untapped(struct qd_vring *vr, struct qd_elem *e)
{
    if (vr->packed)
        return qd_packed_pop(vr, e);
    int n = qd_split_pop(vr, e);
    return n == 1 && vr->in_order ? qd_vring_remember(vr, e->head) : n;
}

/* Take the next chain. 1: ELEM is filled; 0: none offered; -1: ring broken. */
static inline int qd_vring_pop(struct qd_vring *vr, struct qd_elem *e)
{
    if (!vr->num)
        return -1;
    if (vr->form > QD_FORM_IN_ORDER)
        return qd_vring_is_tapped(vr) ? vr->tapped->pop(vr, e) : qd_packed_pop(vr, e);
    int n = qd_split_pop(vr, e);
    return n == 1 && vr->form ? qd_vring_remember(vr, e->head) : n;
}

static inline void qd_vring_unpop_untapped(struct qd_vring *vr)
{
    vr->inflight--;
    vr->popped--;
    uint16_t count = vr->form & ~QD_FORM_TAPPED ? qd_flight_take_back(vr->flight) : 1;
    if (vr->packed)
        qd_packed_unpop(vr, count);
    else
        vr->last_avail--;
}

/* Give the last popped chain back as if it had not been popped; several times, the newest first. None of them was pushed. */
static inline void qd_vring_unpop(struct qd_vring *vr)
{
    if (qd_vring_is_tapped(vr))
        vr->tapped->unpop(vr);
    else
        qd_vring_unpop_untapped(vr);
}

static inline void qd_vring_use(struct qd_vring *vr, uint16_t head, uint16_t count, uint32_t len)
{
    if (vr->packed)
        qd_packed_use(vr, head, count, len);
    else
        qd_split_use(vr, head, len);
}

/* A chain of a ring with a flight is done: it becomes used, or waits for those that were offered before it (2.7.9, 2.8.8). */
static inline void qd_vring_push_known(struct qd_vring *vr, uint16_t head, uint32_t len)
{
    struct qd_flight *f = vr->flight;
    struct qd_chain *chain = &f->chains[head];
    vr->inflight--;
    if (!vr->in_order) {
        qd_packed_use(vr, head, chain->count, len);
        chain->count = 0;
        return;
    }
    chain->done = true;
    chain->len = len;
    while (f->oldest != f->newest) {
        uint16_t id = f->order[f->oldest % QD_VRING_MAX];
        chain = &f->chains[id];
        if (!chain->done)
            break;
        qd_vring_use(vr, id, chain->count, chain->len);
        *chain = (struct qd_chain){0};
        f->oldest++;
    }
}

static inline void qd_split_push(struct qd_vring *vr, uint16_t head, uint32_t len)
{
    vr->inflight--;
    qd_split_use(vr, head, len);
}

/* To the ring itself, whoever looks on. */
static inline void qd_vring_push_untapped(struct qd_vring *vr, uint16_t head, uint32_t len)
{
    if (!(vr->form & ~QD_FORM_TAPPED))
        qd_split_push(vr, head, len);
    else if (head < QD_VRING_MAX && qd_flight_has(vr->flight, head))
        qd_vring_push_known(vr, head, len);
}

/* No more than there are in flight, but of a device that gives one back twice. */
static inline void qd_vring_note_push(struct qd_tapped *tapped, uint16_t head, uint32_t len)
{
    if (tapped->n_pushed == QD_VRING_MAX)
        return;
    tapped->pushed[tapped->n_pushed].head = head;
    tapped->pushed[tapped->n_pushed++].len = len;
}

/* Give a popped chain back with LEN bytes written; the guest sees it at the next qd_vring_publish(). */
static inline void qd_vring_push(struct qd_vring *vr, uint16_t head, uint32_t len)
{
    if (!vr->num)
        return;
    if (!vr->form)
        qd_split_push(vr, head, len);
    else if (qd_vring_is_tapped(vr))
        qd_vring_note_push(vr->tapped, head, len);
    else if (head < QD_VRING_MAX && qd_flight_has(vr->flight, head)) /* else not popped since a reset */
        qd_vring_push_known(vr, head, len);
}

/* For devices that have an own way to the host: where they are with a popped chain. */
static inline void qd_vring_mark(struct qd_vring *vr, uint16_t head, enum qd_mark stage)
{
    if (qd_vring_is_tapped(vr))
        vr->tapped->mark(vr, head, stage);
}

/* Show all pushed chains to the guest, once for a batch. */
static inline void qd_vring_publish(struct qd_vring *vr)
{
    if (!vr->num)
        return;
    if (vr->packed)
        qd_packed_publish(vr);
    else if (vr->published != vr->used_idx)
        qd_split_publish(vr);
}

/* After publish: must the guest be interrupted? Asking counts as deciding; without a new used entry since the
 * last decision the answer is no. */
static inline bool qd_vring_should_interrupt(struct qd_vring *vr)
{
    if (!vr->num)
        return false;
    return vr->packed ? qd_packed_should_interrupt(vr) : qd_split_should_interrupt(vr);
}

/* Tell the driver that kicks are not needed now; best effort. */
static inline void qd_vring_disable_kicks(struct qd_vring *vr)
{
    if (!vr->num)
        return;
    vr->wants_kicks = false;
    if (vr->packed)
        qd_packed_disable_kicks(vr);
    else
        qd_split_disable_kicks(vr);
}

/* Has the driver offered a chain? A look that changes nothing. */
static inline bool qd_vring_look(const struct qd_vring *vr)
{
    return vr->packed ? qd_packed_look(vr) : qd_split_look(vr);
}

/* Ask for kicks again. True: chains are there already, so serve them first. */
static inline bool qd_vring_enable_kicks(struct qd_vring *vr)
{
    if (!vr->num)
        return false;
    vr->wants_kicks = true;
    if (vr->polled)
        return qd_vring_look(vr);
    return vr->packed ? qd_packed_enable_kicks(vr) : qd_split_enable_kicks(vr);
}

/* As qd_vring_enable_kicks(), for who found the ring empty and gave back what he had popped, too little for him: ask
 * for a kick at the next chain beyond those. True: it is there already. */
static inline bool qd_vring_enable_kicks_beyond(struct qd_vring *vr)
{
    if (!vr->num)
        return false;
    vr->wants_kicks = false; /* not at last_avail: who polls has nothing to look for there */
    return vr->packed ? qd_packed_kick_beyond(vr, vr->shadow_avail) : qd_split_kick_beyond(vr, vr->shadow_avail);
}

/* Has the driver offered what the handler, which asked for kicks, would be kicked for? */
static inline bool qd_vring_has_new(const struct qd_vring *vr)
{
    return vr->wants_kicks && vr->num && qd_vring_look(vr);
}

/* The ring is looked at all the time from now on, or no longer. True: qd_vring_has_new(), so serve it first. */
static inline bool qd_vring_set_polled(struct qd_vring *vr, bool polled)
{
    vr->polled = polled;
    if (!vr->num || !vr->wants_kicks)
        return false;
    if (!polled)
        return qd_vring_enable_kicks(vr);
    if (vr->packed)
        qd_packed_stop_kicks(vr);
    else
        qd_split_stop_kicks(vr);
    return false;
}

#endif
