/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine `null`: a disk without contents, as QEMU's null-co: every step
 * succeeds at once. For measuring everything but the host's storage.
 */
#include <string.h>

#include "blk.h"

static int null_start(struct blk_queue *q)
{
    (void)q;
    return 0;
}

/* At most two steps deep: a request's own, and the sync behind it. */
static void null_queue(struct blk_queue *q, struct blk_req *req)
{
    const struct blk_io *io = &req->io;
    if (io->step == BLK_STEP_READ && q->disk->read_zeroes)
        for (unsigned i = 0; i < io->niov; i++)
            memset(io->iov[i].iov_base, 0, io->iov[i].iov_len);
    blk_io_done(req, io->step == BLK_STEP_READ || io->step == BLK_STEP_WRITE ? (int64_t)io->length : 0);
}

/* Nothing is ever in flight. */
static void null_nothing(struct blk_queue *q)
{
    (void)q;
}

const struct blk_engine blk_null = {
    .start = null_start,
    .queue = null_queue,
    .submit = null_nothing,
    .reap = null_nothing,
    .wait = null_nothing,
    .stop = null_nothing,
};
