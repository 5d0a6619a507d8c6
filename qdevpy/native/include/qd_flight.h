/* SPDX-License-Identifier: Apache-2.0
 *
 * The chains in flight, for rings that have to know more of them than their number: a packed ring, how many
 * descriptors each has (2.8.6); an in-order ring, in which order they came (2.7.9, 2.8.8).
 */
#ifndef QD_FLIGHT_H
#define QD_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "qd_vring_base.h"

struct qd_chain {
    uint32_t len;   /* done: bytes written */
    uint16_t count; /* ring entries that it takes; 0: no such chain */
    bool done;      /* in order: given back by the device, and waiting for those before it */
};

struct qd_flight {
    uint16_t oldest, newest;      /* in order: chains that the driver has not got back; numbers go round */
    uint16_t order[QD_VRING_MAX]; /* ids by number: the last QD_VRING_MAX ones, which is all there can be */
    struct qd_chain chains[QD_VRING_MAX]; /* by id */
};

static inline bool qd_flight_has(const struct qd_flight *f, uint16_t id)
{
    return f->chains[id].count != 0;
}

static inline void qd_flight_add(struct qd_flight *f, uint16_t id, uint16_t count)
{
    f->chains[id].count = count;
    f->order[f->newest++ % QD_VRING_MAX] = id;
}

/* Forget the chain that was added last; the ring entries that it takes. */
static inline uint16_t qd_flight_take_back(struct qd_flight *f)
{
    struct qd_chain *chain = &f->chains[f->order[--f->newest % QD_VRING_MAX]];
    uint16_t count = chain->count;
    chain->count = 0;
    return count;
}

#endif
