/* SPDX-License-Identifier: Apache-2.0 */
/* What a measurement counts, and how long single things took. */
#ifndef DEMO_METER_H
#define DEMO_METER_H

#include "base.h"

/* Buckets of durations in cycles: exact below 2^METER_BITS, then 2^METER_BITS equal ones between two powers of two,
 * so that a bucket is at most 1.6 % wide. */
#define METER_BITS 6u
#define METER_BUCKETS (40u << METER_BITS)

struct meter {
    u64 start, end; /* time stamp counter */
    u64 waited;     /* cycles with nothing to do for the guest: an idle driver could have halted; of all vCPUs */
    u64 vcpus;      /* that took part; 0: one */
    u64 requests, bytes, kicks, failed;
    u64 shortest, longest;
    u64 durations[METER_BUCKETS];
};

/* Forget everything and start. */
void meter_start(struct meter *m);
void meter_stop(struct meter *m);

/* Note that something took CYCLES. */
void meter_note(struct meter *m, u64 cycles);

/* Add what another vCPU has counted meanwhile. */
void meter_add(struct meter *m, const struct meter *other);

/* One line: "result NAME=VALUE ...", durations with their middle and high percentiles where some were noted, and with
 * HISTOGRAM all that is in the buckets, "LOWER-BOUND:COUNT,...". */
void meter_report(const struct meter *m, bool histogram);

#endif
