/* SPDX-License-Identifier: Apache-2.0
 *
 * The device's side of a packed virtqueue (virtio 1.2, section 2.8); what every function does is said in qd_vring.h.
 *
 * One ring serves both directions. The driver writes chains where we will look next; we write used descriptors where
 * the driver will look next, over chains that were popped before:
 *
 *      used_idx            last_avail
 *         v                    v
 *   ... U U a a a a a a a a a a A A A . . .    U: used descriptors, not published yet   a: popped, `taken` of them
 *       ^ first_used                           A: offered
 *
 * Nothing of a popped chain is read again: it may be overwritten.
 */
#ifndef QD_VRING_PACKED_H
#define QD_VRING_PACKED_H

#include "qd_flight.h"
#include "qd_vring_base.h"

/* 2.8.1 Driver and Device Ring Wrap Counters: flags of a descriptor; equal: used, different: available */
#define QD_PACKED_F_AVAIL (1 << 7)
#define QD_PACKED_F_USED (1 << 15)
#define QD_PACKED_F_BOTH (QD_PACKED_F_AVAIL | QD_PACKED_F_USED)
#define QD_PACKED_WRAP (1 << 15) /* the wrap counter in a position */

/* 2.8.10 Driver and Device Event Suppression: flags, in the upper half of the word; the lower half is a position */
#define QD_EVENT_ENABLE 0u
#define QD_EVENT_DISABLE 1u
#define QD_EVENT_DESC 2u

/* 2.8.13 The Virtqueue Descriptor Format */
struct qd_packed_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t id;
    uint16_t flags;
};

/* 2.8.7: the same in an indirect table, whose address need not be aligned */
struct qd_packed_desc_any {
    uint64_t addr;
    uint32_t len;
    uint16_t id;
    uint16_t flags;
} __attribute__((packed, aligned(1)));

static inline uint16_t qd_packed_position(uint16_t index, bool wrap)
{
    return index | (uint16_t)(wrap ? QD_PACKED_WRAP : 0);
}

/* What the two flags of a descriptor are that the driver makes available at that wrap counter. */
static inline uint16_t qd_packed_avail_flags(bool wrap)
{
    return wrap ? QD_PACKED_F_AVAIL : QD_PACKED_F_USED;
}

static inline bool qd_packed_is_avail(uint16_t flags, bool wrap)
{
    return (flags & QD_PACKED_F_BOTH) == qd_packed_avail_flags(wrap);
}

static inline int qd_packed_setup(struct qd_vring *vr, uint16_t num, uint64_t desc, uint64_t driver, uint64_t device)
{
    /* 2.8.10.1: need not be a power of two */
    if (num == 0 || num > QD_VRING_MAX)
        return qd_vring_break(vr, "queue size is not from 1 to 1024");
    if (desc & 15 || driver & 3 || device & 3)
        return qd_vring_break(vr, "a ring's address is not aligned");
    if (vr->last_avail >= num || vr->used_idx >= num)
        return qd_vring_break(vr, "a position lies beyond the ring");
    vr->packed_desc = qd_mem_ptr(vr->mem, desc, 16ull * num);
    vr->driver_event = qd_mem_ptr(vr->mem, driver, 4);
    vr->device_event = qd_mem_ptr(vr->mem, device, 4);
    if (!vr->packed_desc || !vr->driver_event || !vr->device_event)
        return qd_vring_break(vr, "a ring lies outside guest memory");
    vr->shadow_avail = qd_packed_position(vr->last_avail, vr->avail_wrap);
    vr->published = qd_packed_position(vr->used_idx, vr->used_wrap);
    vr->unshown = vr->undecided = 0;
    return 0;
}

/* 1: a chain is offered; 0: none. There is no counting them without reading them all. */
static inline int qd_packed_pending(struct qd_vring *vr)
{
    if (qd_packed_is_avail(qd_load16(&vr->packed_desc[vr->last_avail].flags), vr->avail_wrap))
        return 1;
    vr->shadow_avail = qd_packed_position(vr->last_avail, vr->avail_wrap);
    return 0;
}

/* A list of descriptors (2.8.6), from D on, whose flags are FLAGS; no more than ROOM. How many there are, or -1. *STATE
 * is what their two flags have to be. */
static inline __attribute__((always_inline)) int qd_packed_walk_list(struct qd_vring *vr, struct qd_elem *e, struct qd_walk *w,
                                                                     const volatile struct qd_packed_desc **d, uint16_t flags,
                                                                     uint16_t *state, int room)
{
    const volatile struct qd_packed_desc *ring = vr->packed_desc, *end = ring + vr->num;
    /* also where the driver makes descriptors available that are in use */
    for (int count = 1; count <= room; count++) {
        /* 2.8.6: all flags are right in all descriptors of a list, not just in the first one */
        if ((flags & QD_PACKED_F_BOTH) != *state)
            return qd_vring_break(vr, "descriptor chain goes on where nothing is available");
        if (flags & QD_DESC_F_INDIRECT)
            return qd_vring_break(vr, "indirect descriptor where none is allowed");
        if (qd_walk_add(vr, e, w, (*d)->addr, (*d)->len, flags))
            return -1;
        if (!(flags & QD_DESC_F_NEXT))
            return count;
        if (++*d == end) {
            *d = ring;
            *state ^= QD_PACKED_F_BOTH;
        }
        flags = (*d)->flags;
    }
    return qd_vring_break(vr, "more descriptors offered than the queue has entries");
}

/* A chain that is one table (2.8.7), walked in order; only WRITE means something there. 1, or -1. */
static inline __attribute__((always_inline)) int qd_packed_walk_table(struct qd_vring *vr, struct qd_elem *e, struct qd_walk *w,
                                                                      const volatile struct qd_packed_desc *d, uint16_t flags,
                                                                      int room)
{
    /* 2.8.19: only where negotiated, never in a list of others */
    if (!vr->indirect || flags & QD_DESC_F_NEXT)
        return qd_vring_break(vr, "indirect descriptor where none is allowed");
    if (!room)
        return qd_vring_break(vr, "more descriptors offered than the queue has entries");
    uint32_t len = d->len;
    const volatile struct qd_packed_desc_any *entry = qd_walk_table(vr, d->addr, len);
    if (!entry)
        return -1;
    for (uint32_t left = len / 16; left > 0; left--, entry++) /* no more than the element has room for */
        if (qd_walk_add(vr, e, w, entry->addr, entry->len, entry->flags))
            return -1;
    return 1;
}

/* COUNT descriptors from last_avail on are popped. */
static inline void qd_packed_take(struct qd_vring *vr, uint16_t count)
{
    vr->taken += count;
    vr->last_avail += count;
    if (vr->last_avail >= vr->num) {
        vr->last_avail -= vr->num;
        vr->avail_wrap = !vr->avail_wrap;
    }
}

static inline int qd_packed_pop(struct qd_vring *vr, struct qd_elem *e)
{
    const volatile struct qd_packed_desc *d = vr->packed_desc + vr->last_avail;
    uint16_t state = qd_packed_avail_flags(vr->avail_wrap), flags = qd_load16(&d->flags);
    if ((flags & QD_PACKED_F_BOTH) != state) {
        vr->shadow_avail = qd_packed_position(vr->last_avail, vr->avail_wrap);
        return 0;
    }
    /* pairs with the driver's barrier before it writes the first descriptor's
     * flags (2.8.21.1): the whole chain is visible now */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    struct qd_walk w = qd_walk_begin(vr, e);
    int room = vr->num - vr->taken;
    int count = flags & QD_DESC_F_INDIRECT ? qd_packed_walk_table(vr, e, &w, d, flags, room)
                                           : qd_packed_walk_list(vr, e, &w, &d, flags, &state, room);
    if (count < 0)
        return -1;
    uint16_t id = d->id; /* 2.8.6: the last one's */
    if (id >= vr->num)
        return qd_vring_break(vr, "buffer id beyond the queue size");
    if (qd_flight_has(vr->flight, id))
        return qd_vring_break(vr, "buffer id of a chain that is in use");
    qd_flight_add(vr->flight, id, count);
    qd_walk_end(vr, e, &w, id);
    qd_packed_take(vr, count);
    return 1;
}

/* The newest chain, of COUNT descriptors, is not popped. */
static inline void qd_packed_unpop(struct qd_vring *vr, uint16_t count)
{
    vr->taken -= count;
    if (vr->last_avail < count) {
        vr->last_avail += vr->num;
        vr->avail_wrap = !vr->avail_wrap;
    }
    vr->last_avail -= count;
}

/* Write the used descriptor of a chain of COUNT descriptors. */
static inline void qd_packed_use(struct qd_vring *vr, uint16_t id, uint16_t count, uint32_t len)
{
    volatile struct qd_packed_desc *d = &vr->packed_desc[vr->used_idx];
    /* 2.8.3: WRITE says whether anything was written */
    uint16_t flags = (vr->used_wrap ? QD_PACKED_F_BOTH : 0) | (len ? QD_DESC_F_WRITE : 0);
    d->id = id;
    d->len = len;
    if (vr->unshown) {
        d->flags = flags; /* the driver does not look here before it has seen the batch's first one */
    } else {
        vr->first_used = vr->used_idx;
        vr->first_flags = flags;
    }
    vr->unshown += count;
    vr->taken -= count;
    /* 2.8.6: one used descriptor a list; the next one is written that many further on */
    vr->used_idx += count;
    if (vr->used_idx >= vr->num) {
        vr->used_idx -= vr->num;
        vr->used_wrap = !vr->used_wrap;
    }
}

static inline void qd_packed_publish(struct qd_vring *vr)
{
    if (!vr->unshown)
        return;
    /* pairs with the driver's read barrier after it saw these flags (2.8.22):
     * this descriptor and those of the batch behind it are whole */
    __atomic_store_n(&vr->packed_desc[vr->first_used].flags, vr->first_flags, __ATOMIC_RELEASE);
    vr->published = qd_packed_position(vr->used_idx, vr->used_wrap);
    vr->undecided += vr->unshown;
    vr->unshown = 0;
}

/* How far a position is behind position 0 of a wrap counter of 1: positions come again every second time round. */
static inline uint32_t qd_packed_way(const struct qd_vring *vr, uint16_t position)
{
    return (position & ~QD_PACKED_WRAP & 0xffff) + (position & QD_PACKED_WRAP ? 0 : vr->num);
}

/* 2.8.10: is the descriptor at EVENT one of the N that end before TO? */
static inline bool qd_packed_need_event(const struct qd_vring *vr, uint16_t event, uint16_t to, uint32_t n)
{
    uint32_t at = qd_packed_way(vr, event), end = qd_packed_way(vr, to), round = 2u * vr->num;
    if (n >= round)
        return true;
    /* no such descriptor, and nothing that one could pass */
    if ((event & ~QD_PACKED_WRAP & 0xffff) >= vr->num)
        return false;
    return (end + round - 1 - at) % round < n;
}

static inline bool qd_packed_should_interrupt(struct qd_vring *vr)
{
    uint32_t n = vr->undecided;
    if (!n)
        return false;
    /* pairs with the driver's full barrier between writing its event suppression
     * structure and looking at the next used descriptor's flags (2.8.22) */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool valid = vr->signalled_valid;
    vr->undecided = 0;
    vr->signalled_valid = true;
    uint32_t event = __atomic_load_n(vr->driver_event, __ATOMIC_RELAXED);
    uint32_t mode = event >> 16 & 3;
    if (mode == QD_EVENT_DISABLE)
        return false;
    if (mode != QD_EVENT_DESC || !vr->event_idx)
        return true;
    return !valid || qd_packed_need_event(vr, event & 0xffff, vr->published, n);
}

static inline void qd_packed_disable_kicks(struct qd_vring *vr)
{
    if (!vr->event_idx)
        __atomic_store_n(vr->device_event, QD_EVENT_DISABLE << 16, __ATOMIC_RELAXED);
    /* with EVENT_IDX a position that was passed is enough: the word, which the driver reads, is not written */
}

/* The same where nothing was popped since kicks were asked for. */
static inline void qd_packed_stop_kicks(struct qd_vring *vr)
{
    __atomic_store_n(vr->device_event, QD_EVENT_DISABLE << 16, __ATOMIC_RELAXED);
}

static inline bool qd_packed_look(const struct qd_vring *vr)
{
    return qd_packed_is_avail(qd_load16(&vr->packed_desc[vr->last_avail].flags), vr->avail_wrap);
}

/* Have the driver kick when it makes the descriptor at SEEN available. True: it has. */
static inline bool qd_packed_kick_beyond(struct qd_vring *vr, uint16_t seen)
{
    uint32_t mode = vr->event_idx ? QD_EVENT_DESC : QD_EVENT_ENABLE;
    __atomic_store_n(vr->device_event, mode << 16 | seen, __ATOMIC_RELAXED);
    /* pairs with the driver's full barrier between making descriptors available
     * and reading the device event suppression structure (2.8.21.2) */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    const struct qd_packed_desc *d = &vr->packed_desc[seen & ~QD_PACKED_WRAP & 0xffff];
    return qd_packed_is_avail(qd_load16(&d->flags), seen & QD_PACKED_WRAP);
}

static inline bool qd_packed_enable_kicks(struct qd_vring *vr)
{
    return qd_packed_kick_beyond(vr, qd_packed_position(vr->last_avail, vr->avail_wrap));
}

#endif
