/* SPDX-License-Identifier: Apache-2.0
 *
 * Level-triggered interrupt lines that several devices share (wired or). Any thread, no Python: an I/O
 * thread raises INTx of a device whose driver does without MSI-X.
 */
#ifndef QD_INTX_H
#define QD_INTX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define QD_GSI_MAX 1024

struct qd_lines {
    pthread_mutex_t lock;
    void (*set_gsi)(void *opaque, int gsi, int level); /* the accelerator's; called with lock held, on changes only */
    void *opaque;
    uint16_t asserted[QD_GSI_MAX]; /* devices that assert each line */
};

/* One device's share of a line. */
struct qd_intx {
    struct qd_lines *lines;
    int gsi;       /* -1: routed nowhere */
    bool level;    /* what the device wants */
    bool disabled; /* by the command register (PCI 3.0, 6.2.2) */
};

void qd_lines_init(struct qd_lines *lines, void (*set_gsi)(void *opaque, int gsi, int level), void *opaque);
/* As struct qd_vdev's set_intx: OPAQUE is a struct qd_intx. */
void qd_intx_set(void *opaque, int level);
/* Route to another line; an asserted level moves with it. */
void qd_intx_route(struct qd_intx *intx, int gsi);
/* While disabled the device does not assert its line, whatever it wants. */
void qd_intx_disable(struct qd_intx *intx, bool disabled);

#endif
