/* SPDX-License-Identifier: Apache-2.0 */
/* What a kick costs the vCPU when there is nothing to do: of a device's queue, or of an address where nobody but an
 * ioeventfd is. Words: count=N; sort=NUMBER of virtio; port=N or address=N, value=N. */
#include "bench.h"

#define DEFAULT_COUNT 1000u
#define RING_LIMIT 256

static struct vring bare;
static const struct vring *ring;

static void time_kicks(struct meter *m)
{
    u64 count = word_number("count", DEFAULT_COUNT);
    u64 before = cycles();
    for (; m->requests < count && bench_time_is_left(m, before); m->requests++) {
        vring_notify(ring);
        u64 after = cycles();
        meter_note(m, after - before);
        before = after;
    }
    m->kicks = m->requests;
}

/* -- of a device: queue 0 of a disk, the transmit queue of a card */

static bool prepare_device(void)
{
    u16 type = (u16)word_number("sort", VIRTIO_BLOCK);
    struct virtio *v = bench_device(type);
    if (v == NULL)
        return false;
    if (!virtio_negotiate(v, 0))
        return bench_refuse("the device refuses its features");
    unsigned index = type == VIRTIO_NET ? 1 : 0;
    if (index == 1 && virtio_queue(v, 0, RING_LIMIT) == NULL)
        return bench_refuse("no queue 0");
    ring = virtio_queue(v, index, RING_LIMIT);
    if (ring == NULL)
        return bench_refuse("no queue %u", index);
    virtio_driver_ok(v);
    vring_notify(ring);
    return true;
}

const struct bench_sort bench_kick = {"kick", prepare_device, time_kicks};

/* -- of an address: the same instruction, no device */

static bool prepare_bare(void)
{
    bare = (struct vring){.index = (u16)word_number("value", 0)};
    bare.notify_is_port = word("port") != NULL;
    bare.notify_address = word_number(bare.notify_is_port ? "port" : "address", 0);
    ring = &bare;
    vring_notify(ring);
    return true;
}

const struct bench_sort bench_bare = {"bare", prepare_bare, time_kicks};
