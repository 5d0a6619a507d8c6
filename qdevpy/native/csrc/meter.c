/* SPDX-License-Identifier: Apache-2.0
 *
 * See qd_meter.h.
 */
#define _GNU_SOURCE
#include "qd_meter.h"

#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* One thread writes, under vq->lock; others read whole values. */
static void add(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

static bool popped(struct qd_tap *tap, struct qd_vq *vq, const struct qd_elem *e)
{
    struct qd_meter *meter = tap->opaque;
    (void)vq;
    meter->popped_at[e->head] = now_ns();
    add(&meter->read_bytes, e->out_len);
    return true;
}

static bool pushed(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, uint32_t *len)
{
    struct qd_meter *meter = tap->opaque;
    (void)vq;
    if (meter->popped_at[head]) { /* else it was popped before there was a tap */
        add(&meter->buckets[qd_meter_bucket(now_ns() - meter->popped_at[head])], 1);
        meter->popped_at[head] = 0;
    }
    add(&meter->written_bytes, *len);
    return true;
}

static void forgotten(struct qd_tap *tap, struct qd_vq *vq)
{
    struct qd_meter *meter = tap->opaque;
    (void)vq;
    memset(meter->popped_at, 0, sizeof(meter->popped_at));
}

void qd_meter_init(struct qd_meter *meter)
{
    *meter = (struct qd_meter){.tap = {.opaque = meter, .popped = popped, .pushed = pushed, .forgotten = forgotten}};
}
