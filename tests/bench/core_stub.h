/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands in the place of the core, for programs that count what a device's own code costs.
 */
#ifndef CORE_STUB_H
#define CORE_STUB_H

#include <stdio.h>
#include <stdlib.h>

#include "qd_queue.h"

static void stub_signal(struct qd_vq *vq)
{
    vq->interrupts++;
}

static void stub_fail(struct qd_vq *vq, const char *why)
{
    (void)vq;
    fprintf(stderr, "%s\n", why);
    exit(1);
}

static int stub_loop_add(struct qd_loop *loop, struct qd_fd *handler)
{
    (void)loop, (void)handler;
    return 0;
}

static void stub_loop_del(struct qd_loop *loop, struct qd_fd *handler)
{
    (void)loop, (void)handler;
}

static uint64_t stub_loop_max_batch(struct qd_loop *loop)
{
    (void)loop;
    return 0;
}

static const struct qd_api api = {
    .signal = stub_signal,
    .fail = stub_fail,
    .loop_add = stub_loop_add,
    .loop_del = stub_loop_del,
    .loop_max_batch = stub_loop_max_batch,
};

#endif
