/* SPDX-License-Identifier: Apache-2.0
 *
 * A relay between a guest's split ring and a vhost back end that may die: we know what is in flight.
 *
 *   guest's avail --qd_vring_pop--> shadow avail --kick_fd--> back end
 *   guest's used <--qd_vring_push-- shadow used <--call_fd--- back end
 *
 * The shadow rings are memory that the back end maps; descriptors and buffers stay the guest's. A back end that
 * completes out of order leaves nothing in the guest's rings by which its successor could know what was begun
 * (entries of the available ring are overwritten). Here a head is in flight from its pop to its push, and a
 * successor gets exactly those, in the order in which they were offered.
 *
 * The back end is not trusted more than the guest: a used entry counts only where its head is in flight.
 */
#ifndef QD_RELAY_H
#define QD_RELAY_H

#include "qd_queue.h"

/* Bytes of one queue's shadow rings: a page for the available ring, three for the used ring of up to QD_VRING_MAX. */
#define QD_RELAY_USED 4096
#define QD_RELAY_BYTES 16384

struct qd_relay {
    struct qd_vq *vq;
    uint8_t *shadow;      /* QD_RELAY_BYTES, shared with the back end */
    uint16_t num;         /* entries; the guest's ring has as many */
    uint16_t avail_idx;   /* next entry of the shadow available ring */
    uint16_t used_seen;   /* next entry of the shadow used ring */
    int kick_fd;          /* eventfds: the back end is to look; */
    struct qd_fd call;    /* it has used entries; */
    int err_fd;           /* it used what was not in flight: Python reads this */
    bool connected;       /* a back end looks at the shadow rings */
    bool wrong;           /* it broke the rules: nothing of it counts any more */
    uint64_t count;       /* heads offered so far */
    uint64_t began[QD_VRING_MAX]; /* by head: its number; 0: not in flight */
    struct qd_elem elem;
};

/* ERR_FD: the caller's, as long as the relay. NULL and errno. */
struct qd_relay *qd_relay_new(uint8_t *shadow, int err_fd);
void qd_relay_free(struct qd_relay *r);
const struct qd_queue_ops *qd_relay_ops(void);
void qd_relay_bind(struct qd_relay *r, struct qd_vq *vq);
/* A back end is about to look at the shadow rings, NUM entries. FRESH: another one than before; it is offered all that is in
 * flight from entry 0 on. What its predecessor has completed is given back first. The entry to begin with. */
uint16_t qd_relay_connect(struct qd_relay *r, uint16_t num, bool fresh);
/* Nobody looks any more; heads stay in flight. */
void qd_relay_disconnect(struct qd_relay *r);
/* The driver reset the queue, which is stopped: nothing is in flight. */
void qd_relay_forget(struct qd_relay *r);
unsigned qd_relay_inflight(struct qd_relay *r);

#endif
