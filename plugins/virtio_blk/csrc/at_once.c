/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps that need no waiting are taken at once, on the thread that serves the queue: one system call, no hand-over
 * to an engine and no way back from it.
 *
 * A file in memory (tmpfs, memfd) never waits for storage, so it is read and written with plain calls; neither
 * RWF_NOWAIT nor io_uring without its own worker threads is to be had there. On other file systems a read whose
 * data is in the page cache is had with preadv2(RWF_NOWAIT), which says so where it would wait.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "blk.h"

#include <linux/magic.h>

/* Larger transfers are copied by an engine's worker, beside the thread that serves the queue. */
#define CACHED_BYTES (64u << 10)
#define MEMORY_BYTES (256u << 10)
/* So much is copied before the driver is shown what is done, though more of the batch is to come. */
#define SHOW_BYTES (64u << 10)
/* A disk whose reads mostly wait is asked less and less often, down to once in 64. */
#define MAX_MISSES 6

int blk_in_memory(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* Copying takes longer than the driver's work on what is there already: let a driver that polls begin with it. The
 * interrupt is decided on once, at the batch's end. */
static void show(struct blk_queue *q, uint64_t bytes)
{
    q->unseen += bytes;
    if (q->unseen < SHOW_BYTES)
        return;
    q->unseen = 0;
    qd_vring_publish(&q->vq->ring);
}

static bool is_transfer(const struct blk_io *io)
{
    return io->step == BLK_STEP_READ || io->step == BLK_STEP_WRITE;
}

static bool take_from_memory(struct blk_req *req)
{
    struct blk_queue *q = req->q;
    uint64_t length = req->io.length;
    if (req->io.step == BLK_STEP_ALLOCATE || length > MEMORY_BYTES)
        return false;
    blk_io_done(req, blk_perform(q->disk, &req->io));
    show(q, length);
    return true;
}

/* A cached part of a read counts as a hit: what is left goes the engine's way. */
static bool take_from_cache(struct blk_req *req)
{
    struct blk_queue *q = req->q;
    struct blk_disk *disk = q->disk;
    const struct blk_io *io = &req->io;
    if (io->step != BLK_STEP_READ || io->length > CACHED_BYTES || __atomic_load_n(&disk->no_nowait, __ATOMIC_RELAXED))
        return false;
    if (q->skip) {
        q->skip--;
        return false;
    }
    ssize_t got = preadv2(disk->fd, io->iov, (int)io->niov, (off_t)io->offset, RWF_NOWAIT);
    if (got < 0) {
        if (errno == EOPNOTSUPP)
            __atomic_store_n(&disk->no_nowait, 1, __ATOMIC_RELAXED);
        q->misses += q->misses < MAX_MISSES;
        q->skip = (1u << q->misses) - 1;
        return false; /* the engine will see a real error again */
    }
    q->misses = 0;
    blk_io_done(req, got);
    show(q, (uint64_t)got);
    return true;
}

/* The rest of a transfer, and what is tried again, is an engine's: so no step goes round in circles here. */
void blk_issue(struct blk_req *req)
{
    struct blk_queue *q = req->q;
    blk_mark(req, QD_MARK_SUBMITTED);
    bool first = !req->retries && !(is_transfer(&req->io) && req->done);
    if (first && (q->disk->in_memory ? take_from_memory(req) : take_from_cache(req)))
        return;
    q->engine->queue(q, req);
}
