/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers that any device takes: those of one queue, which it only reads. Words: sort=NUMBER of virtio, index=N of the queue,
 * size=BYTES, depth=N, kicks=all: for each buffer, wanted or not. */
#include "bench.h"

#define RING_LIMIT 256
#define QUEUES_MAX 8u

static struct {
    struct vring *ring;
    u8 *data;
    u32 size;
    unsigned depth;
    bool kick_all;
} b;

static void offer(struct meter *m)
{
    struct segment out = {b.data, b.size};
    vring_offer(b.ring, &out, 1, 0, b.data);
    if (vring_kick_wanted(b.ring) || b.kick_all) {
        vring_notify(b.ring);
        m->kicks++;
    }
}

static unsigned take(struct meter *m)
{
    unsigned taken = 0;
    for (; vring_take(b.ring, NULL) != NULL; taken++) {
        m->requests++;
        m->bytes += b.size;
    }
    return taken;
}

static void transfer(struct meter *m)
{
    unsigned in_flight = 0;
    u64 idle_since = 0, now = cycles(), heard = now;
    while ((bench_time_is_left(m, now) || in_flight > 0) && now - heard < PATIENCE) {
        for (; in_flight < b.depth && bench_time_is_left(m, now); in_flight++)
            offer(m);
        unsigned taken = take(m);
        in_flight -= taken;
        now = cycles();
        if (taken > 0) {
            m->waited += idle_since != 0 ? now - idle_since : 0;
            idle_since = 0;
            heard = now;
        } else if (idle_since == 0) {
            idle_since = now;
        }
    }
    m->failed += in_flight;
    meter_stop(m);
}

static bool prepare(void)
{
    struct virtio *v = bench_device((u16)word_number("sort", VIRTIO_CONSOLE));
    unsigned index = (unsigned)word_number("index", 0);
    if (v == NULL)
        return false;
    if (index >= QUEUES_MAX || !virtio_negotiate(v, 0))
        return bench_refuse("no queue %u, or the device refuses its features", index);
    for (unsigned i = 0; i <= index; i++)
        if ((b.ring = virtio_queue(v, i, RING_LIMIT)) == NULL)
            return bench_refuse("no queue %u", i);
    virtio_driver_ok(v);
    b.size = (u32)word_number("size", 64);
    b.depth = (unsigned)word_number("depth", 1);
    b.kick_all = word_is("kicks", "all");
    b.data = bench_memory(b.size);
    if (b.data == NULL || b.size == 0 || b.depth == 0 || b.depth > b.ring->size)
        return bench_refuse("no sensible size or depth");
    memset(b.data, '.', b.size);
    return true;
}

static void measure(struct meter *m) { transfer(m); }

const struct bench_sort bench_queue = {"queue", prepare, measure};
