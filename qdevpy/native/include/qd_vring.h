/* SPDX-License-Identifier: Apache-2.0
 *
 * The device's side of a split virtqueue (virtio 1.2, section 2.7).
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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "qd_mem.h"

#define QD_VRING_MAX 1024 /* the largest queue size and the longest chain that we accept */

/* 2.7.5 The Virtqueue Descriptor Table */
#define QD_DESC_F_NEXT 1
#define QD_DESC_F_WRITE 2
#define QD_DESC_F_INDIRECT 4
/* 2.7.6, 2.7.8 */
#define QD_AVAIL_F_NO_INTERRUPT 1
#define QD_USED_F_NO_NOTIFY 1

/* 6 Reserved Feature Bits, as far as the ring is concerned */
#define QD_F_NOTIFY_ON_EMPTY 24
#define QD_F_RING_INDIRECT_DESC 28
#define QD_F_RING_EVENT_IDX 29
#define QD_F_VERSION_1 32

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

struct qd_vring {
    const struct qd_mem *mem;
    uint16_t num;           /* entries; a power of two; 0: not set up */
    bool event_idx;         /* VIRTIO_F_EVENT_IDX negotiated */
    bool indirect;          /* VIRTIO_F_INDIRECT_DESC negotiated */
    bool notify_on_empty;   /* VIRTIO_F_NOTIFY_ON_EMPTY negotiated by a legacy driver */
    bool signalled_valid;   /* signalled_used holds (2.7.10) */
    uint16_t last_avail;    /* next avail entry to pop */
    uint16_t shadow_avail;  /* avail->idx as last read */
    uint16_t used_idx;      /* next used entry to fill */
    uint16_t published;     /* used->idx as the guest sees it */
    uint16_t signalled_used;/* used_idx at the last interrupt decision */
    uint16_t inflight;      /* popped, not pushed */
    uint64_t popped;        /* chains popped since the ring was made; statistics */
    const char *error;      /* why the ring is broken, or NULL */
    struct qd_desc *desc;
    uint16_t *avail;        /* flags, idx, ring[num], used_event */
    uint16_t *used;         /* flags, idx, {id, len}[num], avail_event */
};

/* One popped chain: readable buffers first, then writable ones (2.7.4.2). */
struct qd_elem {
    uint16_t head;
    uint16_t out_num, in_num; /* iov[0..out_num) is for the device to read, then in_num to write */
    uint64_t out_len, in_len; /* bytes; more than the 2^32 that 2.7.4 allows where the driver points to a place twice */
    struct iovec iov[QD_VRING_MAX];
};

#define qd_load16(p) __atomic_load_n((const uint16_t *)(p), __ATOMIC_RELAXED)
#define qd_store16(p, v) __atomic_store_n((uint16_t *)(p), (v), __ATOMIC_RELAXED)

static inline uint16_t *qd_vring_used_event(const struct qd_vring *vr) { return &vr->avail[2 + vr->num]; }
static inline uint16_t *qd_vring_avail_event(const struct qd_vring *vr) { return &vr->used[2 + 4 * vr->num]; }

static inline int qd_vring_break(struct qd_vring *vr, const char *why)
{
    if (!vr->error)
        vr->error = why;
    return -1;
}

/* Bring a ring up at three guest-physical addresses. FEATURES is the negotiated
 * set. 0, or -1 with `error` set where the size or an address is not acceptable.
 * last_avail and used_idx continue from what the caller stored in them. */
static inline int qd_vring_setup(struct qd_vring *vr, const struct qd_mem *mem, uint16_t num,
                                 uint64_t desc, uint64_t avail, uint64_t used, uint64_t features)
{
    vr->mem = mem;
    vr->error = NULL;
    vr->num = 0;
    if (num == 0 || num > QD_VRING_MAX || (num & (num - 1)))
        return qd_vring_break(vr, "queue size is not a power of two from 1 to 1024");
    /* 2.7: alignment of 16, 2 and 4 */
    if (desc & 15 || avail & 1 || used & 3)
        return qd_vring_break(vr, "a ring's address is not aligned");
    vr->desc = qd_mem_ptr(mem, desc, 16ull * num);
    vr->avail = qd_mem_ptr(mem, avail, 6ull + 2ull * num);
    vr->used = qd_mem_ptr(mem, used, 6ull + 8ull * num);
    if (!vr->desc || !vr->avail || !vr->used)
        return qd_vring_break(vr, "a ring lies outside guest memory");
    vr->num = num;
    vr->event_idx = features >> QD_F_RING_EVENT_IDX & 1;
    vr->indirect = features >> QD_F_RING_INDIRECT_DESC & 1;
    vr->notify_on_empty = (features >> QD_F_NOTIFY_ON_EMPTY & 1) && !(features >> QD_F_VERSION_1 & 1);
    vr->shadow_avail = vr->last_avail;
    vr->published = vr->signalled_used = vr->used_idx;
    vr->signalled_valid = false;
    vr->inflight = 0;
    return 0;
}

/* Entries that the driver offered and nobody popped; -1 on a violation. */
static inline int qd_vring_pending(struct qd_vring *vr)
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

/* Append the buffer of one descriptor to ELEM. */
static inline int qd_vring_add(struct qd_vring *vr, struct qd_elem *e, uint64_t addr, uint32_t len, uint16_t flags)
{
    uint32_t n = (uint32_t)e->out_num + e->in_num;
    if (n >= QD_VRING_MAX)
        return qd_vring_break(vr, "descriptor chain longer than 1024 buffers");
    if (len == 0)
        return qd_vring_break(vr, "descriptor of zero length");
    void *p = qd_mem_ptr(vr->mem, addr, len);
    if (!p)
        return qd_vring_break(vr, "descriptor points outside guest memory");
    if (flags & QD_DESC_F_WRITE) {
        e->in_num++;
        e->in_len += len;
    } else {
        if (e->in_num)
            return qd_vring_break(vr, "readable descriptor after a writable one");
        e->out_num++;
        e->out_len += len;
    }
    e->iov[n].iov_base = p;
    e->iov[n].iov_len = len;
    return 0;
}

/* Walk one table (the ring's own, or an indirect one of NUM entries) from I. */
static inline int qd_vring_walk(struct qd_vring *vr, struct qd_elem *e, const void *table,
                                uint32_t num, uint16_t i, bool is_indirect)
{
    for (uint32_t steps = 0; steps < num; steps++) {
        if (i >= num)
            return qd_vring_break(vr, "descriptor index beyond its table");
        /* volatile: each field is read once, into a local, and the driver's later changes are not seen */
        const volatile struct qd_desc_any *d = (const struct qd_desc_any *)table + i;
        uint64_t addr = d->addr;
        uint32_t len = d->len;
        uint16_t flags = d->flags, next = d->next;
        if (flags & QD_DESC_F_INDIRECT) {
            /* 2.7.5.3.1: only where negotiated, never nested, never with NEXT */
            if (!vr->indirect || is_indirect || flags & QD_DESC_F_NEXT)
                return qd_vring_break(vr, "indirect descriptor where none is allowed");
            if (len == 0 || len % 16 || len / 16 > QD_VRING_MAX)
                return qd_vring_break(vr, "indirect table of a wrong size");
            const void *inner = qd_mem_ptr(vr->mem, addr, len);
            if (!inner)
                return qd_vring_break(vr, "indirect table outside guest memory");
            return qd_vring_walk(vr, e, inner, len / 16, 0, true);
        }
        if (qd_vring_add(vr, e, addr, len, flags))
            return -1;
        if (!(flags & QD_DESC_F_NEXT))
            return 0;
        i = next;
    }
    return qd_vring_break(vr, "descriptor chain loops");
}

/* Take the next chain. 1: ELEM is filled; 0: none offered; -1: ring broken. */
static inline int qd_vring_pop(struct qd_vring *vr, struct qd_elem *e)
{
    if (vr->error || !vr->num)
        return -1;
    int n = qd_vring_pending(vr);
    if (n <= 0)
        return n;
    if (vr->inflight >= vr->num)
        return qd_vring_break(vr, "more chains offered than the queue has entries");
    uint16_t head = qd_load16(&vr->avail[2 + (vr->last_avail & (vr->num - 1))]);
    if (head >= vr->num)
        return qd_vring_break(vr, "avail entry beyond the descriptor table");
    e->head = head;
    e->out_num = e->in_num = 0;
    e->out_len = e->in_len = 0;
    if (qd_vring_walk(vr, e, vr->desc, vr->num, head, false))
        return -1;
    vr->last_avail++;
    vr->inflight++;
    vr->popped++;
    return 1;
}

/* Give the last popped chain back as if it had not been popped. */
static inline void qd_vring_unpop(struct qd_vring *vr)
{
    vr->last_avail--;
    vr->inflight--;
    vr->popped--;
}

/* Fill a used entry; the guest sees it at the next qd_vring_publish(). */
static inline void qd_vring_push(struct qd_vring *vr, uint16_t head, uint32_t len)
{
    if (vr->error || !vr->num)
        return;
    volatile struct qd_used_elem *ring = (volatile struct qd_used_elem *)&vr->used[2];
    ring[vr->used_idx & (vr->num - 1)].id = head;
    ring[vr->used_idx & (vr->num - 1)].len = len;
    vr->used_idx++;
    vr->inflight--;
}

/* Show all pushed entries to the guest, once for a batch. */
static inline void qd_vring_publish(struct qd_vring *vr)
{
    if (vr->error || !vr->num || vr->published == vr->used_idx)
        return;
    /* pairs with the driver's read barrier after it saw used->idx move
     * (2.7.14): entries must be there before the index says so */
    __atomic_store_n(&vr->used[1], vr->used_idx, __ATOMIC_RELEASE);
    vr->published = vr->used_idx;
}

/* 2.7.10: does crossing from OLD to NEW pass EVENT? */
static inline bool qd_vring_need_event(uint16_t event, uint16_t new_idx, uint16_t old)
{
    return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old);
}

/* After publish: must the guest be interrupted? Asking counts as deciding; without a new used entry since the
 * last decision the answer is no. */
static inline bool qd_vring_should_interrupt(struct qd_vring *vr)
{
    if (vr->error || !vr->num || vr->published == vr->signalled_used)
        return false;
    /* pairs with the driver's full barrier between writing used_event (or
     * flags) and looking at used->idx once more (2.7.7.1) */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint16_t old = vr->signalled_used;
    bool valid = vr->signalled_valid;
    vr->signalled_used = vr->published;
    vr->signalled_valid = true;
    /* 6.3: an empty queue interrupts whatever the driver asked for; as QEMU, with nothing in flight */
    if (vr->notify_on_empty && vr->inflight == 0 && qd_vring_pending(vr) == 0)
        return true;
    if (!vr->event_idx)
        return !(qd_load16(&vr->avail[0]) & QD_AVAIL_F_NO_INTERRUPT);
    return !valid || qd_vring_need_event(qd_load16(qd_vring_used_event(vr)), vr->published, old);
}

/* Tell the driver that kicks are not needed now; best effort. */
static inline void qd_vring_disable_kicks(struct qd_vring *vr)
{
    if (vr->error || !vr->num)
        return;
    if (!vr->event_idx)
        qd_store16(&vr->used[0], QD_USED_F_NO_NOTIFY);
    /* with EVENT_IDX a stale avail_event is enough: it is not written */
}

/* Ask for kicks again. True: entries are there already, so serve them first. */
static inline bool qd_vring_enable_kicks(struct qd_vring *vr)
{
    if (vr->error || !vr->num)
        return false;
    if (vr->event_idx)
        qd_store16(qd_vring_avail_event(vr), vr->last_avail);
    else
        qd_store16(&vr->used[0], 0);
    /* pairs with the driver's full barrier between raising avail->idx and
     * reading avail_event or flags (2.7.13.4.1) */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    vr->shadow_avail = vr->last_avail;
    return qd_vring_pending(vr) > 0;
}

/* iovec helpers: devices accept any layout (VIRTIO_F_ANY_LAYOUT), so headers are
 * copied out of the buffers by offset, never taken from "the first descriptor". */
static inline size_t qd_iov_read(const struct iovec *iov, unsigned n, size_t offset, void *to, size_t len)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - offset;
        if (part > len - done)
            part = len - done;
        __builtin_memcpy((char *)to + done, (char *)iov[i].iov_base + offset, part);
        done += part;
        offset = 0;
    }
    return done;
}

static inline size_t qd_iov_write(const struct iovec *iov, unsigned n, size_t offset, const void *from, size_t len)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - offset;
        if (part > len - done)
            part = len - done;
        __builtin_memcpy((char *)iov[i].iov_base + offset, (const char *)from + done, part);
        done += part;
        offset = 0;
    }
    return done;
}

/* TO gets the LEN bytes of IOV that start at OFFSET; returns the parts, at most N. */
static inline unsigned qd_iov_slice(const struct iovec *iov, unsigned n, size_t offset, size_t len, struct iovec *to)
{
    unsigned parts = 0;
    for (unsigned i = 0; i < n && len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - offset;
        if (part > len)
            part = len;
        to[parts].iov_base = (char *)iov[i].iov_base + offset;
        to[parts++].iov_len = part;
        len -= part;
        offset = 0;
    }
    return parts;
}

#endif
