/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of a virtqueue, split (virtio 1.2, 2.7) or packed (2.8), polled: the device is asked for no interrupts
 * unless somebody wants to see what it sends. What differs for packed ones is in vring_packed.c. */
#ifndef DEMO_VRING_H
#define DEMO_VRING_H

#include "base.h"

/* 6: features that a ring is made with */
#define F_INDIRECT_DESC (1ull << 28)
#define F_EVENT_IDX (1ull << 29)
#define F_RING_PACKED (1ull << 34)

#define VRING_ALIGN 4096u /* 2.7.2: what the legacy layout wants between its driver's and device's part */

struct vring_desc {
    u64 address;
    u32 length;
    u16 flags, next;
};

struct vring_avail {
    u16 flags, index, ring[];
};

struct vring_used_element {
    u32 id, length;
};

struct vring_used {
    u16 flags, index;
    struct vring_used_element ring[];
};

struct vring_packed_desc { /* 2.8.13: struct pvirtq_desc */
    u64 address;
    u32 length;
    u16 id, flags;
};

struct vring_events { /* 2.8.14: struct pvirtq_event_suppress */
    u16 where, flags;
};

/* What a packed ring has instead of indices. */
struct vring_packed {
    volatile struct vring_packed_desc *desc;
    volatile struct vring_events *driver, *device;
    u16 *lengths, *next_ids; /* by buffer id: descriptors of the chain; the next free id */
    u16 free_id;
    u16 avail_at, used_at; /* where the next chain goes, and where the next used one comes */
    bool avail_wrap, used_wrap;
    u16 unkicked;  /* descriptors since the last decision whether to kick */
    u16 until_ask; /* chains until an interrupt is asked for anew */
};

struct segment {
    void *data;
    u32 length;
};

struct vring {
    u16 index, size;
    bool is_packed, event_idx;
    bool interrupts; /* the device is asked for them; nobody takes them */
    bool notify_is_port;
    u64 notify_address; /* where to write the queue's index to kick */
    struct vring_desc *desc;
    volatile struct vring_avail *avail;
    volatile struct vring_used *used;
    struct vring_desc *tables; /* INDIRECT_MAX for each entry; NULL: chains lie in the ring */
    void **tokens; /* by head: what the caller wants back */
    u16 free_head, free_count;
    u16 avail_index;  /* of what has been offered */
    u16 kicked_index; /* avail_index at the last decision whether to kick */
    u16 used_index;   /* of what has been taken back */
    struct vring_packed packed;
};

#define INDIRECT_MAX 4u /* segments of a chain in a table of its own; longer ones go into the ring */

/* Allocate rings of SIZE entries, of the form that FEATURES say; split ones in the legacy layout, which is a modern one too. */
void vring_init(struct vring *ring, u16 index, u16 size, u64 features);

/* The three areas that the device is told of (2.6). */
struct vring_areas {
    const volatile void *descriptors, *driver, *device;
};
struct vring_areas vring_areas(const struct vring *ring);

/* Ask for interrupts from now on, as a driver does that lets them come late: with EVENT_IDX once three quarters of what
 * is in flight are used, else with every update. Call it again when used buffers have been taken. */
void vring_ask(struct vring *ring);

/* Offer a chain: OUT segments that the device reads, then IN segments that it writes. False: no room. */
bool vring_offer(struct vring *ring, const struct segment *segments, unsigned out, unsigned in, void *token);

/* Whether the device wants a kick for what has been offered since this was asked last (2.7.10). */
bool vring_kick_wanted(struct vring *ring);

/* Kick, unconditionally. */
void vring_notify(const struct vring *ring);

/* Kick, and read the used index with the very next instruction: whether the device has used every buffer by then. */
bool vring_notify_watched(const struct vring *ring);

static inline void vring_kick(struct vring *ring)
{
    if (vring_kick_wanted(ring))
        vring_notify(ring);
}

bool vring_packed_has_used(const struct vring *ring);

static inline bool vring_has_used(const struct vring *ring)
{
    return ring->is_packed ? vring_packed_has_used(ring) : ring->used->index != ring->used_index;
}

/* Take back a used chain: its token, and what the device has written of it. NULL: nothing there. */
void *vring_take(struct vring *ring, u32 *written);

/* -- between vring.c and vring_packed.c */

void vring_packed_init(struct vring *ring);
void vring_packed_ask(struct vring *ring);
bool vring_packed_offer(struct vring *ring, const struct segment *segments, unsigned out, unsigned count, void *token);
bool vring_packed_kick_wanted(struct vring *ring);
void *vring_packed_take(struct vring *ring, u32 *written);
/* What changes when the next chain is used, and whether a value of it says so. */
const volatile u16 *vring_packed_watch(const struct vring *ring);
bool vring_packed_is_used(const struct vring *ring, u16 flags);

#endif
