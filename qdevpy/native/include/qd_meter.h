/* SPDX-License-Identifier: Apache-2.0
 *
 * A tap that measures: how long the device had each chain, from popped to pushed, and how many bytes went which way.
 *
 * The histogram is log-linear: sixteen buckets an octave, so a value is known to a sixteenth of it.
 */
#ifndef QD_METER_H
#define QD_METER_H

#include "qd_tap.h"

#define QD_METER_SUB_BITS 4
#define QD_METER_SUBS (1u << QD_METER_SUB_BITS)
#define QD_METER_TOP_BIT 40 /* 2^40 ns: what takes eighteen minutes or more is in the last bucket */
#define QD_METER_BUCKETS ((QD_METER_TOP_BIT - QD_METER_SUB_BITS + 1) * QD_METER_SUBS)

/* The owner's, and where it is as long as it is added (qd_vq_add_tap(vq, &meter->tap)). Counters are written with vq->lock
 * held, and may be read without. */
struct qd_meter {
    struct qd_tap tap;
    uint64_t read_bytes, written_bytes;  /* by the device */
    uint64_t buckets[QD_METER_BUCKETS];  /* chains by nanoseconds */
    uint64_t popped_at[QD_VRING_MAX];    /* by head, ns; 0: not seen */
};

/* Which bucket counts NS, and the lowest value that a bucket counts. */
static inline unsigned qd_meter_bucket(uint64_t ns)
{
    if (ns < QD_METER_SUBS)
        return (unsigned)ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(ns), shift = top - QD_METER_SUB_BITS;
    if (top >= QD_METER_TOP_BIT)
        return QD_METER_BUCKETS - 1;
    return (shift + 1) * QD_METER_SUBS + (unsigned)(ns >> shift & (QD_METER_SUBS - 1));
}

static inline uint64_t qd_meter_lowest(unsigned bucket)
{
    if (bucket < QD_METER_SUBS)
        return bucket;
    return (uint64_t)(QD_METER_SUBS + bucket % QD_METER_SUBS) << (bucket / QD_METER_SUBS - 1);
}

/* Empty, not added. */
void qd_meter_init(struct qd_meter *meter);

#endif
