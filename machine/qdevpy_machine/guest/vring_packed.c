/* SPDX-License-Identifier: Apache-2.0 */
/* What differs for packed rings (virtio 1.2, 2.8). */
#include "vring.h"

#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u
#define DESC_F_AVAIL (1u << 7)
#define DESC_F_USED (1u << 15)

/* 2.8.14: flags of the event suppression structures */
enum { EVENTS_ENABLE = 0, EVENTS_DISABLE = 1, EVENTS_DESC = 2 };
#define WRAP_BIT 15u

void vring_packed_init(struct vring *ring)
{
    struct vring_packed *p = &ring->packed;
    p->desc = allocate(sizeof(*p->desc) * ring->size, VRING_ALIGN);
    p->driver = allocate(sizeof(*p->driver), 4);
    p->device = allocate(sizeof(*p->device), 4);
    p->lengths = allocate(sizeof(u16) * ring->size, 2);
    p->next_ids = allocate(sizeof(u16) * ring->size, 2);
    for (u16 i = 0; i < ring->size; i++)
        p->next_ids[i] = (u16)(i + 1);
    p->avail_wrap = p->used_wrap = true; /* 2.8.1 */
    p->driver->flags = EVENTS_DISABLE;
}

/* -- offering */

/* Fill the next descriptor but for its flags; what those have to be, and the next one's place. */
static u16 describe(struct vring_packed *p, u16 size, u64 address, u32 length, u16 id, u16 flags)
{
    volatile struct vring_packed_desc *desc = &p->desc[p->avail_at];
    desc->address = address;
    desc->length = length;
    desc->id = id;
    flags |= p->avail_wrap ? DESC_F_AVAIL : DESC_F_USED; /* 2.8.1: available where AVAIL is our wrap counter, and USED is not */
    if (++p->avail_at == size) {
        p->avail_at = 0;
        p->avail_wrap = !p->avail_wrap;
    }
    return flags;
}

static u16 flags_of(unsigned i, unsigned out, unsigned count)
{
    return (u16)((i >= out ? DESC_F_WRITE : 0) | (i + 1 < count ? DESC_F_NEXT : 0));
}

/* 2.8.7: a table of its own, whose entries need no NEXT. */
static u16 describe_table(struct vring *ring, const struct segment *segments, unsigned out, unsigned count, u16 id)
{
    struct vring_packed_desc *table = (struct vring_packed_desc *)&ring->tables[id * INDIRECT_MAX];
    for (unsigned i = 0; i < count; i++)
        table[i] = (struct vring_packed_desc){(u64)segments[i].data, segments[i].length, 0, i >= out ? DESC_F_WRITE : 0};
    return describe(&ring->packed, ring->size, (u64)table, (u32)(sizeof(*table) * count), id, DESC_F_INDIRECT);
}

static u16 describe_chain(struct vring *ring, const struct segment *segments, unsigned out, unsigned count, u16 id)
{
    u16 first = 0;
    for (unsigned i = 0; i < count; i++) {
        volatile struct vring_packed_desc *desc = &ring->packed.desc[ring->packed.avail_at];
        u16 flags = flags_of(i, out, count);
        flags = describe(&ring->packed, ring->size, (u64)segments[i].data, segments[i].length, id, flags);
        if (i == 0)
            first = flags;
        else
            desc->flags = flags;
    }
    return first;
}

bool vring_packed_offer(struct vring *ring, const struct segment *segments, unsigned out, unsigned count, void *token)
{
    struct vring_packed *p = &ring->packed;
    bool in_table = ring->tables != NULL && count > 1 && count <= INDIRECT_MAX;
    u16 entries = in_table ? 1 : (u16)count;
    if (count == 0 || entries > ring->free_count)
        return false;
    volatile struct vring_packed_desc *head = &p->desc[p->avail_at];
    u16 id = p->free_id;
    p->free_id = p->next_ids[id];
    p->lengths[id] = entries;
    ring->free_count = (u16)(ring->free_count - entries);
    ring->tokens[id] = token;
    u16 flags = in_table ? describe_table(ring, segments, out, count, id) : describe_chain(ring, segments, out, count, id);
    compiler_barrier(); /* 2.8.21.1: the chain before its head's flags; x86 keeps stores in order */
    head->flags = flags;
    p->unkicked = (u16)(p->unkicked + entries);
    return true;
}

bool vring_packed_kick_wanted(struct vring *ring)
{
    struct vring_packed *p = &ring->packed;
    u16 added = p->unkicked;
    p->unkicked = 0;
    full_barrier(); /* 2.8.21.3.1: the flags before the device's wish; pairs with the device's, the other way round */
    u16 flags = p->device->flags, where = p->device->where;
    if (flags != EVENTS_DESC)
        return added > 0 && flags == EVENTS_ENABLE;
    u16 event = where & ((1u << WRAP_BIT) - 1);
    if (where >> WRAP_BIT != p->avail_wrap)
        event = (u16)(event - ring->size);
    return (u16)(p->avail_at - event - 1) < added;
}

/* -- taking */

bool vring_packed_is_used(const struct vring *ring, u16 flags)
{
    bool avail = flags & DESC_F_AVAIL, used = flags & DESC_F_USED;
    return avail == used && used == ring->packed.used_wrap;
}

const volatile u16 *vring_packed_watch(const struct vring *ring) { return &ring->packed.desc[ring->packed.used_at].flags; }

bool vring_packed_has_used(const struct vring *ring) { return vring_packed_is_used(ring, *vring_packed_watch(ring)); }

void *vring_packed_take(struct vring *ring, u32 *written)
{
    struct vring_packed *p = &ring->packed;
    u16 id = p->desc[p->used_at].id;
    if (written != NULL)
        *written = p->desc[p->used_at].length;
    if (id >= ring->size || ring->tokens[id] == NULL) {
        say("queue %u: the device used buffer %u, which it was not given\n", ring->index, id);
        return NULL;
    }
    p->used_at = (u16)(p->used_at + p->lengths[id]);
    if (p->used_at >= ring->size) {
        p->used_at = (u16)(p->used_at - ring->size);
        p->used_wrap = !p->used_wrap;
    }
    ring->free_count = (u16)(ring->free_count + p->lengths[id]);
    p->next_ids[id] = p->free_id;
    p->free_id = id;
    p->until_ask -= p->until_ask > 0;
    void *token = ring->tokens[id];
    ring->tokens[id] = NULL;
    return token;
}

void vring_packed_ask(struct vring *ring)
{
    struct vring_packed *p = &ring->packed;
    if (!ring->event_idx) {
        p->driver->flags = EVENTS_ENABLE;
        return;
    }
    if (p->until_ask > 0)
        return;
    u16 distance = (u16)((ring->size - ring->free_count) * 3 / 4), where = (u16)(p->used_at + distance);
    bool wrap = p->used_wrap;
    if (where >= ring->size) {
        where = (u16)(where - ring->size);
        wrap = !wrap;
    }
    p->driver->where = (u16)(where | (unsigned)wrap << WRAP_BIT);
    compiler_barrier(); /* where, before it is looked at; x86 keeps stores in order */
    p->driver->flags = EVENTS_DESC;
    p->until_ask = (u16)(distance + 1);
}
