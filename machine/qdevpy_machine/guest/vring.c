/* SPDX-License-Identifier: Apache-2.0 */
#include "vring.h"

#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u
#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY 1u

static void init_split(struct vring *ring)
{
    u16 size = ring->size;
    u64 driver_part = 16ull * size + 6 + 2ull * size;
    u64 used_offset = (driver_part + VRING_ALIGN - 1) & ~(u64)(VRING_ALIGN - 1);
    u8 *memory = allocate(used_offset + 6 + 8ull * size, VRING_ALIGN);
    ring->desc = (struct vring_desc *)memory;
    ring->avail = (struct vring_avail *)(memory + 16u * size);
    ring->used = (struct vring_used *)(memory + used_offset);
    for (u16 i = 0; i < size; i++)
        ring->desc[i].next = (u16)(i + 1);
    /* With EVENT_IDX the flag means nothing and used_event decides; 0 there asks for one interrupt that nobody
     * takes, and vring_take keeps it behind from then on. */
    ring->avail->flags = AVAIL_F_NO_INTERRUPT;
}

void vring_init(struct vring *ring, u16 index, u16 size, u64 features)
{
    *ring = (struct vring){
        .index = index,
        .size = size,
        .is_packed = features & F_RING_PACKED,
        .event_idx = features & F_EVENT_IDX,
        .tables = features & F_INDIRECT_DESC ? allocate(sizeof(struct vring_desc) * INDIRECT_MAX * size, 16) : NULL,
        .tokens = allocate(sizeof(void *) * size, sizeof(void *)),
        .free_count = size,
    };
    if (ring->is_packed)
        vring_packed_init(ring);
    else
        init_split(ring);
}

struct vring_areas vring_areas(const struct vring *ring)
{
    if (ring->is_packed)
        return (struct vring_areas){ring->packed.desc, ring->packed.driver, ring->packed.device};
    return (struct vring_areas){ring->desc, ring->avail, ring->used};
}

static volatile u16 *used_event(struct vring *ring) { return &ring->avail->ring[ring->size]; }

static u16 avail_event(const struct vring *ring) { return *(volatile u16 *)&ring->used->ring[ring->size]; }

void vring_ask(struct vring *ring)
{
    ring->interrupts = true;
    if (ring->is_packed) {
        vring_packed_ask(ring);
        return;
    }
    ring->avail->flags = 0;
    u16 passed = (u16)(ring->used_index - *used_event(ring) - 1);
    if (passed < ring->size) { /* the one that was asked for has come */
        u16 in_flight = (u16)(ring->avail_index - ring->used_index);
        *used_event(ring) = (u16)(ring->used_index + in_flight * 3 / 4);
    }
}

static void describe(struct vring_desc *desc, const struct segment *segment, bool is_in)
{
    desc->address = (u64)segment->data;
    desc->length = segment->length;
    desc->flags = (u16)(DESC_F_NEXT | (is_in ? DESC_F_WRITE : 0));
}

/* Fill the free entries from the first one; the one after the chain. */
static u16 describe_in_ring(struct vring *ring, const struct segment *segments, unsigned out, unsigned count)
{
    u16 at = ring->free_head;
    struct vring_desc *last = NULL;
    for (unsigned i = 0; i < count; i++) {
        last = &ring->desc[at];
        describe(last, &segments[i], i >= out);
        at = last->next;
    }
    last->flags &= (u16)~DESC_F_NEXT;
    return at;
}

/* 2.7.5.3: one entry, which has the table's address; the one after it. */
static u16 describe_in_table(struct vring *ring, const struct segment *segments, unsigned out, unsigned count)
{
    struct vring_desc *entry = &ring->desc[ring->free_head];
    struct vring_desc *table = &ring->tables[ring->free_head * INDIRECT_MAX];
    for (unsigned i = 0; i < count; i++) {
        describe(&table[i], &segments[i], i >= out);
        table[i].next = (u16)(i + 1);
    }
    table[count - 1].flags &= (u16)~DESC_F_NEXT;
    entry->address = (u64)table;
    entry->length = (u32)(sizeof(*table) * count);
    entry->flags = DESC_F_INDIRECT;
    return entry->next;
}

bool vring_offer(struct vring *ring, const struct segment *segments, unsigned out, unsigned in, void *token)
{
    unsigned count = out + in;
    if (ring->is_packed)
        return vring_packed_offer(ring, segments, out, count, token);
    bool in_table = ring->tables != NULL && count > 1 && count <= INDIRECT_MAX;
    unsigned entries = in_table ? 1 : count;
    if (count == 0 || entries > ring->free_count)
        return false;
    u16 head = ring->free_head;
    ring->free_head = in_table ? describe_in_table(ring, segments, out, count) : describe_in_ring(ring, segments, out, count);
    ring->free_count = (u16)(ring->free_count - entries);
    ring->tokens[head] = token;
    ring->avail->ring[ring->avail_index % ring->size] = head;
    compiler_barrier(); /* 2.7.13.2.1: the entry before the index; x86 keeps stores in order */
    ring->avail->index = ++ring->avail_index;
    return true;
}

bool vring_kick_wanted(struct vring *ring)
{
    if (ring->is_packed)
        return vring_packed_kick_wanted(ring);
    u16 before = ring->kicked_index, now = ring->avail_index;
    ring->kicked_index = now;
    full_barrier(); /* 2.7.13.4.1: our index before the device's wish; pairs with the device's, the other way round */
    if (ring->event_idx)
        return (u16)(now - avail_event(ring) - 1) < (u16)(now - before);
    return now != before && !(ring->used->flags & USED_F_NO_NOTIFY);
}

void vring_notify(const struct vring *ring)
{
    compiler_barrier();
    if (ring->notify_is_port)
        out16((u16)ring->notify_address, ring->index);
    else
        write16(ring->notify_address, ring->index);
}

bool vring_notify_watched(const struct vring *ring)
{
    const volatile u16 *watch = ring->is_packed ? vring_packed_watch(ring) : &ring->used->index;
    u32 seen;
    if (ring->notify_is_port)
        __asm__ volatile("outw %w1, %w2\n\tmovzwl %3, %0"
                         : "=r"(seen)
                         : "a"(ring->index), "d"((u16)ring->notify_address), "m"(*watch)
                         : "memory");
    else
        __asm__ volatile("movw %w1, (%2)\n\tmovzwl %3, %0"
                         : "=&r"(seen)
                         : "r"(ring->index), "r"(ring->notify_address), "m"(*watch)
                         : "memory");
    return ring->is_packed ? vring_packed_is_used(ring, (u16)seen) : seen == ring->avail_index;
}

void *vring_take(struct vring *ring, u32 *written)
{
    if (!vring_has_used(ring))
        return NULL;
    compiler_barrier(); /* the index before the entry; x86 keeps loads in order */
    if (ring->is_packed)
        return vring_packed_take(ring, written);
    const volatile struct vring_used_element *used = &ring->used->ring[ring->used_index % ring->size];
    u32 head = used->id;
    if (written != NULL)
        *written = used->length;
    ring->used_index++;
    if (ring->event_idx && !ring->interrupts)
        *used_event(ring) = (u16)(ring->used_index - 1); /* an index that has passed: no interrupt */
    if (head >= ring->size || ring->tokens[head] == NULL) {
        say("queue %u: the device used chain %u, which it was not given\n", ring->index, head);
        return NULL;
    }
    u32 tail = head;
    u16 count = 1;
    while (ring->desc[tail].flags & DESC_F_NEXT) {
        tail = ring->desc[tail].next;
        count++;
    }
    ring->desc[tail].next = ring->free_head;
    ring->free_head = (u16)head;
    ring->free_count = (u16)(ring->free_count + count);
    void *token = ring->tokens[head];
    ring->tokens[head] = NULL;
    return token;
}
