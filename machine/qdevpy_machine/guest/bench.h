/* SPDX-License-Identifier: Apache-2.0 */
/* Bench mode: measurements, one after the other, as somebody at the serial port asks for them. */
#ifndef DEMO_BENCH_H
#define DEMO_BENCH_H

#include "meter.h"
#include "virtio.h"

/* Serve requests until "end" is asked for. The dialogue, in lines:
 *
 *     host   NAME WORD=VALUE ...       what to measure
 *     guest  ready                     or "error TEXT", and that was that
 *     host   (an empty line)
 *     guest  done                      measured, between these two lines
 *     host   (an empty line)
 *     guest  result NAME=VALUE ...
 *
 * so that the host can look at the process's CPU time before and after. */
void bench(void);

/* A sort of measurement: what its first word is, how to get ready (false: it said why), what is measured. */
struct bench_sort {
    const char *name;
    bool (*prepare)(void);
    void (*measure)(struct meter *m);
};

extern const struct bench_sort bench_bare, bench_blk, bench_clock, bench_echo, bench_kick, bench_net, bench_queue;

/* The words' virtio device of TYPE, number device=N (default 0), probed with transport=WORD (default auto); NULL: there is
 * none, and "error" was said. It is reset after the measurement. */
struct virtio *bench_device(u16 type);

/* The one of TYPE after that. */
struct virtio *bench_second_device(u16 type);

/* How long a measurement lasts where nobody says cycles=N: about 50 ms. */
#define BENCH_CYCLES 100000000u

/* Whether to go on: the measurement has lasted cycles=N at most. */
bool bench_time_is_left(const struct meter *m, u64 now);

/* Memory for data, beyond the program's own; valid until the next measurement, not zeroed. NULL: not so much there. */
void *bench_memory(size_t length);

/* Say "error: TEXT"; false. */
__attribute__((format(printf, 1, 2))) bool bench_refuse(const char *format, ...);

#endif
