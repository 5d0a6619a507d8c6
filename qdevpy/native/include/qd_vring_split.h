/* SPDX-License-Identifier: Apache-2.0
 *
 * The device's side of a split virtqueue (virtio 1.2, section 2.7); what every function does is said in qd_vring.h.
 */
#ifndef QD_VRING_SPLIT_H
#define QD_VRING_SPLIT_H

#include "qd_vring_base.h"

/* 2.7.6, 2.7.8 */
#define QD_AVAIL_F_NO_INTERRUPT 1
#define QD_USED_F_NO_NOTIFY 1

/* 2.7.5 The Virtqueue Descriptor Table */
struct qd_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

/* The same in an indirect table, whose address need not be aligned. */
struct qd_desc_any {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
} __attribute__((packed, aligned(1)));

struct qd_used_elem {
    uint32_t id;
    uint32_t len;
};

static inline uint16_t *qd_vring_used_event(const struct qd_vring *vr) { return &vr->avail[2 + vr->num]; }
static inline uint16_t *qd_vring_avail_event(const struct qd_vring *vr) { return &vr->used[2 + 4 * vr->num]; }

static inline int qd_split_setup(struct qd_vring *vr, uint16_t num, uint64_t desc, uint64_t avail, uint64_t used)
{
    if (num == 0 || num > QD_VRING_MAX || (num & (num - 1)))
        return qd_vring_break(vr, "queue size is not a power of two from 1 to 1024");
    /* 2.7: alignment of 16, 2 and 4 */
    if (desc & 15 || avail & 1 || used & 3)
        return qd_vring_break(vr, "a ring's address is not aligned");
    vr->desc = qd_mem_ptr(vr->mem, desc, 16ull * num);
    vr->avail = qd_mem_ptr(vr->mem, avail, 6ull + 2ull * num);
    vr->used = qd_mem_ptr(vr->mem, used, 6ull + 8ull * num);
    if (!vr->desc || !vr->avail || !vr->used)
        return qd_vring_break(vr, "a ring lies outside guest memory");
    vr->shadow_avail = vr->last_avail;
    vr->published = vr->signalled_used = vr->used_idx;
    return 0;
}

static inline int qd_split_pending(struct qd_vring *vr)
{
    if (vr->shadow_avail == vr->last_avail) {
        vr->shadow_avail = qd_load16(&vr->avail[1]);
        /* pairs with the driver's barrier between filling avail->ring[] and
         * raising avail->idx (2.7.13.3.1): entries below idx are visible now */
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    }
    uint16_t n = (uint16_t)(vr->shadow_avail - vr->last_avail);
    if (n > vr->num)
        return qd_vring_break(vr, "avail index moved by more than the queue size");
    return n;
}

/* Walk one table of NUM descriptors from I on: the ring's, or an indirect one where the element has room for LEFT more.
 * 0: that was all; 1: it goes on in the indirect table that ADDR and LEN get; -1: ring broken. */
static inline __attribute__((always_inline)) int qd_split_walk(struct qd_vring *vr, struct qd_elem *e, struct qd_walk *w,
                                                               const void *table, uint32_t num, uint32_t left, uint32_t i,
                                                               bool inside, uint64_t *addr, uint32_t *len)
{
    while (left-- > 0) {
        if (i >= num)
            return qd_vring_break(vr, "descriptor index beyond its table");
        /* volatile: each field is read once, into a local, and the driver's later changes are not seen */
        const volatile struct qd_desc_any *d = (const struct qd_desc_any *)table + i;
        *addr = d->addr;
        *len = d->len;
        uint16_t flags = d->flags;
        if (flags & QD_DESC_F_INDIRECT) {
            /* 2.7.5.3.1: only where negotiated, never nested, never with NEXT */
            if (!vr->indirect || inside || flags & QD_DESC_F_NEXT)
                return qd_vring_break(vr, "indirect descriptor where none is allowed");
            return 1;
        }
        i = d->next;
        if (qd_walk_add(vr, e, w, *addr, *len, flags))
            return -1;
        if (!(flags & QD_DESC_F_NEXT))
            return 0;
    }
    return qd_vring_break(vr, qd_walk_count(w, e) < QD_VRING_MAX ? "descriptor chain loops" : "descriptor chain longer than 1024 buffers");
}

static inline int qd_split_pop(struct qd_vring *vr, struct qd_elem *e)
{
    int n = qd_split_pending(vr);
    if (n <= 0)
        return n;
    if (vr->inflight >= vr->num)
        return qd_vring_break(vr, "more chains offered than the queue has entries");
    uint16_t head = qd_load16(&vr->avail[2 + (vr->last_avail & (vr->num - 1))]);
    if (head >= vr->num)
        return qd_vring_break(vr, "avail entry beyond the descriptor table");
    struct qd_walk w = qd_walk_begin(vr, e);
    uint64_t addr = 0;
    uint32_t len = 0;
    n = qd_split_walk(vr, e, &w, vr->desc, vr->num, vr->num, head, false, &addr, &len);
    if (n > 0) {
        const void *table = qd_walk_table(vr, addr, len);
        if (!table)
            return -1;
        uint32_t room = QD_VRING_MAX - qd_walk_count(&w, e), num = len / 16;
        n = qd_split_walk(vr, e, &w, table, num, num < room ? num : room, 0, true, &addr, &len);
    }
    if (n)
        return -1;
    qd_walk_end(vr, e, &w, head);
    vr->last_avail++;
    return 1;
}

static inline void qd_split_use(struct qd_vring *vr, uint16_t head, uint32_t len)
{
    volatile struct qd_used_elem *used = (volatile struct qd_used_elem *)&vr->used[2] + (vr->used_idx & (vr->num - 1));
    used->id = head;
    used->len = len;
    vr->used_idx++;
}

static inline void qd_split_publish(struct qd_vring *vr)
{
    /* pairs with the driver's read barrier after it saw used->idx move
     * (2.7.14): entries must be there before the index says so */
    __atomic_store_n(&vr->used[1], vr->used_idx, __ATOMIC_RELEASE);
    vr->published = vr->used_idx;
}

static inline bool qd_split_should_interrupt(struct qd_vring *vr)
{
    if (vr->published == vr->signalled_used)
        return false;
    /* pairs with the driver's full barrier between writing used_event (or
     * flags) and looking at used->idx once more (2.7.7.1) */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint16_t old = vr->signalled_used;
    bool valid = vr->signalled_valid;
    vr->signalled_used = vr->published;
    vr->signalled_valid = true;
    /* 6.3: an empty queue interrupts whatever the driver asked for; as QEMU, with nothing in flight */
    if (vr->notify_on_empty && vr->inflight == 0 && qd_split_pending(vr) <= 0)
        return !vr->error;
    if (!vr->event_idx)
        return !(qd_load16(&vr->avail[0]) & QD_AVAIL_F_NO_INTERRUPT);
    return !valid || qd_vring_need_event(qd_load16(qd_vring_used_event(vr)), vr->published, old);
}

static inline void qd_split_disable_kicks(struct qd_vring *vr)
{
    if (!vr->event_idx)
        qd_store16(&vr->used[0], QD_USED_F_NO_NOTIFY);
    /* with EVENT_IDX a stale avail_event is enough: it is not written */
}

/* The same where nothing was popped since kicks were asked for: avail_event is not passed yet. */
static inline void qd_split_stop_kicks(struct qd_vring *vr)
{
    if (vr->event_idx)
        qd_store16(qd_vring_avail_event(vr), vr->last_avail - 1);
    else
        qd_store16(&vr->used[0], QD_USED_F_NO_NOTIFY);
}

static inline bool qd_split_look(const struct qd_vring *vr)
{
    return qd_load16(&vr->avail[1]) != vr->last_avail;
}

/* Have the driver kick when it raises avail->idx beyond SEEN. True: it has. */
static inline bool qd_split_kick_beyond(struct qd_vring *vr, uint16_t seen)
{
    if (vr->event_idx)
        qd_store16(qd_vring_avail_event(vr), seen);
    else
        qd_store16(&vr->used[0], 0);
    /* pairs with the driver's full barrier between raising avail->idx and
     * reading avail_event or flags (2.7.13.4.1) */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return qd_load16(&vr->avail[1]) != seen;
}

static inline bool qd_split_enable_kicks(struct qd_vring *vr)
{
    vr->shadow_avail = vr->last_avail;
    return qd_split_kick_beyond(vr, vr->last_avail) && qd_split_pending(vr) > 0;
}

#endif
