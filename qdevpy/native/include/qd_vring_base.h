/* SPDX-License-Identifier: Apache-2.0
 *
 * What both forms of a virtqueue share: its state, the popped chain, and the checks of a buffer. The ring operations
 * are in qd_vring.h.
 */
#ifndef QD_VRING_BASE_H
#define QD_VRING_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "qd_mem.h"

#define QD_VRING_MAX 1024 /* the largest queue size and the longest chain that we accept */

/* 2.7.5, 2.8.4 to 2.8.7: descriptor flags */
#define QD_DESC_F_NEXT 1
#define QD_DESC_F_WRITE 2
#define QD_DESC_F_INDIRECT 4

/* 6 Reserved Feature Bits, as far as the ring is concerned */
#define QD_F_NOTIFY_ON_EMPTY 24
#define QD_F_RING_INDIRECT_DESC 28
#define QD_F_RING_EVENT_IDX 29
#define QD_F_VERSION_1 32
#define QD_F_RING_PACKED 34
#define QD_F_IN_ORDER 35

struct qd_desc;
struct qd_packed_desc;
struct qd_flight;
struct qd_vring;
struct qd_elem;

/* A device tells how far it is with a chain (qd_vring_mark). */
enum qd_mark {
    QD_MARK_SUBMITTED, /* the host was asked */
    QD_MARK_COMPLETED, /* the host is done */
};

/* struct qd_vring's form, one byte for the test that is on the way of every request. Above IN_ORDER it is not the split
 * ring's code that a request goes through first. */
#define QD_FORM_IN_ORDER 1
#define QD_FORM_PACKED 2
#define QD_FORM_TAPPED 4

/* What a tapped ring does in place of what is written here (qd_tap.h); the core's. A push is noted only, and comes before
 * the taps with the queue's flush: a call here, which never happens, would cost the others registers. */
struct qd_tapped {
    int (*pop)(struct qd_vring *vr, struct qd_elem *e);
    void (*unpop)(struct qd_vring *vr);
    void (*mark)(struct qd_vring *vr, uint16_t head, enum qd_mark stage);
    uint16_t n_pushed;
    struct {
        uint32_t len;
        uint16_t head;
    } pushed[QD_VRING_MAX];
};

/* POSITION: an index; in a packed ring the descriptor's, with the wrap counter in bit 15, as the driver and QEMU have it. */
struct qd_vring {
    const char *error;      /* why the ring is broken, or NULL */
    const struct qd_mem *mem;
    const struct qd_ram *near; /* where the last buffer was */
    union {
        struct qd_desc *desc;
        struct qd_packed_desc *packed_desc;
    };
    union {
        uint16_t *avail;        /* flags, idx, ring[num], used_event */
        uint32_t *driver_event; /* packed: 2.8.14, written by the driver */
    };
    union {
        uint16_t *used;         /* flags, idx, {id, len}[num], avail_event */
        uint32_t *device_event; /* packed: 2.8.14, written by us */
    };
    struct qd_flight *flight; /* packed or in order: the chains in flight; the memory of who sets the ring up */
    struct qd_tapped *tapped; /* NULL: nobody looks on */
    uint16_t num;           /* entries; split: a power of two; 0: not set up, or broken */
    uint8_t form;           /* QD_FORM_...; 0: split, in any order, and nobody looks on */
    bool packed;            /* VIRTIO_F_RING_PACKED negotiated */
    bool in_order;          /* VIRTIO_F_IN_ORDER negotiated */
    bool event_idx;         /* VIRTIO_F_EVENT_IDX negotiated */
    bool indirect;          /* VIRTIO_F_INDIRECT_DESC negotiated */
    bool notify_on_empty;   /* VIRTIO_F_NOTIFY_ON_EMPTY negotiated by a legacy driver */
    bool signalled_valid;   /* an interrupt was decided on before (2.7.10) */
    bool wants_kicks;       /* the handler asked for kicks last, not for none */
    bool polled;            /* the ring is looked at all the time: the driver need not kick, whatever the handler asks for */
    bool avail_wrap;        /* packed: wrap counter of last_avail (2.8.1) */
    bool used_wrap;         /* packed: wrap counter of used_idx */
    uint16_t last_avail;    /* next avail entry to pop; packed: without its wrap counter, used_idx likewise */
    uint16_t shadow_avail;  /* split: avail->idx as last read; packed: the position where nothing was */
    uint16_t used_idx;      /* next used entry to fill */
    uint16_t published;     /* position up to which the guest sees used entries */
    uint16_t signalled_used;/* split: used_idx at the last interrupt decision */
    uint16_t inflight;      /* popped, not pushed; those that a tap has do not count */
    uint16_t ready;         /* tapped: chains that the next pops give, before those of the ring */
    uint16_t taken;         /* packed: descriptors popped and not used */
    uint16_t first_used;    /* packed: the used descriptor whose flags publish() writes, the last of a batch */
    uint16_t first_flags;
    uint32_t unshown;       /* packed: descriptors used since the last publish() */
    uint32_t undecided;     /* packed: descriptors shown since the last interrupt decision */
    uint64_t popped;        /* chains popped since the ring was made; statistics */
};

/* One popped chain: readable buffers first, then writable ones (2.7.4.2). */
struct qd_elem {
    uint16_t head;            /* what push() gives back: the first descriptor's index, or the packed ring's buffer id */
    uint16_t out_num, in_num; /* iov[0..out_num) is for the device to read, then in_num to write */
    uint64_t out_len, in_len; /* bytes; more than the 2^32 that 2.7.4 allows where the driver points to a place twice */
    struct iovec iov[QD_VRING_MAX];
};

#define qd_load16(p) __atomic_load_n((const uint16_t *)(p), __ATOMIC_RELAXED)
#define qd_store16(p, v) __atomic_store_n((uint16_t *)(p), (v), __ATOMIC_RELAXED)

static __attribute__((cold, noinline, unused)) int qd_vring_break(struct qd_vring *vr, const char *why)
{
    if (!vr->error)
        vr->error = why;
    vr->num = 0;
    return -1;
}

/* A chain while it is walked: in registers, so nobody takes its address; in the element once it is whole. */
struct qd_walk {
    const struct qd_ram *near;
    struct iovec *next;   /* in the element */
    uint64_t len;         /* bytes so far */
    uint64_t out_len;     /* of them readable; so far unknown where direction is 0 */
    uint16_t out_num;     /* likewise */
    uint16_t direction;   /* 0, or WRITE from the first writable buffer on */
};

static inline struct qd_walk qd_walk_begin(const struct qd_vring *vr, struct qd_elem *e)
{
    return (struct qd_walk){.near = vr->near, .next = e->iov};
}

static inline __attribute__((always_inline)) uint32_t qd_walk_count(const struct qd_walk *w, const struct qd_elem *e)
{
    return (uint32_t)(w->next - e->iov);
}

/* A buffer that is not where the last one was: find it, or say what is wrong with it. */
static __attribute__((noinline, unused)) void *qd_walk_find(struct qd_vring *vr, uint64_t addr, uint32_t len)
{
    void *p = qd_mem_ptr_near(vr->mem, &vr->near, addr, len);
    if (!len)
        qd_vring_break(vr, "descriptor of zero length");
    else if (!p)
        qd_vring_break(vr, "descriptor points outside guest memory");
    return len ? p : NULL;
}

/* The readable buffers end here. -1, and the ring is broken, where they have ended before. */
static inline __attribute__((always_inline)) int qd_walk_turn(struct qd_vring *vr, const struct qd_elem *e, struct qd_walk *w)
{
    if (w->direction)
        return qd_vring_break(vr, "readable descriptor after a writable one");
    w->direction = QD_DESC_F_WRITE;
    w->out_len = w->len;
    w->out_num = qd_walk_count(w, e);
    return 0;
}

/* Append the buffer of one descriptor; the caller has seen to it that there is room. 0, or -1: ring broken. */
static inline __attribute__((always_inline)) int qd_walk_add(struct qd_vring *vr, struct qd_elem *e, struct qd_walk *w,
                                                             uint64_t addr, uint32_t len, uint16_t flags)
{
    uint64_t offset = addr - w->near->gpa, last;
    void *p;
    /* As in qd_mem_ptr_near(): the buffer's last byte is no lower than its first one, and inside. A length of 0
     * becomes the largest there is, and either wraps or is outside. */
    if (__builtin_expect(!__builtin_add_overflow(offset, (uint64_t)len - 1, &last) && last < w->near->size, 1)) {
        p = w->near->hva + offset;
    } else {
        p = qd_walk_find(vr, addr, len);
        if (!p)
            return -1;
        w->near = vr->near;
    }
    if ((flags ^ w->direction) & QD_DESC_F_WRITE && qd_walk_turn(vr, e, w))
        return -1;
    w->len += len;
    *w->next++ = (struct iovec){p, len};
    return 0;
}

/* An indirect table of LEN bytes (2.7.5.3, 2.8.7), or NULL: ring broken. */
static inline const void *qd_walk_table(struct qd_vring *vr, uint64_t addr, uint32_t len)
{
    if (len == 0 || len % 16 || len / 16 > QD_VRING_MAX) {
        qd_vring_break(vr, "indirect table of a wrong size");
        return NULL;
    }
    const void *table = qd_mem_ptr_near(vr->mem, &vr->near, addr, len);
    if (!table)
        qd_vring_break(vr, "indirect table outside guest memory");
    return table;
}

static inline __attribute__((always_inline)) void qd_walk_end(struct qd_vring *vr, struct qd_elem *e,
                                                              const struct qd_walk *w, uint16_t head)
{
    uint32_t n = qd_walk_count(w, e);
    e->head = head;
    e->out_num = w->direction ? w->out_num : n;
    e->out_len = w->direction ? w->out_len : w->len;
    e->in_num = n - e->out_num;
    e->in_len = w->len - e->out_len;
    vr->inflight++;
    vr->popped++;
}

/* 2.7.10: does crossing from OLD to NEW pass EVENT? */
static inline bool qd_vring_need_event(uint16_t event, uint16_t new_idx, uint16_t old)
{
    return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old);
}

#endif
