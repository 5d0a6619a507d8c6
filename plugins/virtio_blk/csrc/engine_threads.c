/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine `threads`: all steps that wait are the pool's.
 */
#include <errno.h>

#include "pool.h"

static int threads_start(struct blk_queue *q)
{
    q->engine_state = blk_pool_new(q);
    return q->engine_state ? 0 : -ENOMEM;
}

static void threads_queue(struct blk_queue *q, struct blk_req *req)
{
    blk_pool_queue(q->engine_state, req);
}

static void threads_submit(struct blk_queue *q)
{
    blk_pool_submit(q->engine_state);
}

static void threads_reap(struct blk_queue *q)
{
    blk_pool_reap(q->engine_state);
}

static bool threads_ready(const struct blk_queue *q)
{
    return blk_pool_ready(q->engine_state);
}

static void threads_stop(struct blk_queue *q)
{
    blk_pool_free(q->engine_state);
    q->engine_state = NULL;
}

const struct blk_engine blk_threads = {
    .start = threads_start,
    .queue = threads_queue,
    .submit = threads_submit,
    .reap = threads_reap,
    .wait = blk_wait_for_wake,
    .ready = threads_ready,
    .stop = threads_stop,
};
