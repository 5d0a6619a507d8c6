/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine `io_uring`: a ring a queue. What the kernel completes while it takes
 * the submissions (data in the page cache) is reaped in the same batch; for the
 * rest the ring's own file descriptor is readable in the queue's loop.
 */
#define _GNU_SOURCE
#ifdef BLK_HAVE_URING

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "blk.h"

struct uring {
    struct io_uring ring;
    struct qd_fd ready;
    bool fixed_file; /* the disk's file is number 0 of the ring's own */
};

int blk_uring_probe(void)
{
    struct io_uring ring;
    int error = io_uring_queue_init(4, &ring, 0);
    if (!error)
        io_uring_queue_exit(&ring);
    return error;
}

static void ring_ready(struct qd_fd *fd, uint32_t events)
{
    (void)events;
    blk_resume(fd->opaque);
}

/* What has completed is in the ring without a system call of ours: its task work runs when this thread is interrupted. */
static bool ring_poll(struct qd_fd *fd)
{
    const struct blk_queue *q = fd->opaque;
    const struct uring *u = q->engine_state;
    const struct io_uring_cq *cq = &u->ring.cq;
    return __atomic_load_n(cq->khead, __ATOMIC_RELAXED) != __atomic_load_n(cq->ktail, __ATOMIC_RELAXED);
}

static int uring_start(struct blk_queue *q)
{
    struct uring *u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    /* A request has one step in flight at most, so neither of the two rings can overflow. Not
     * SINGLE_ISSUER, not COOP_TASKRUN: a vCPU's thread submits too where there is no ioeventfd. */
    int error = io_uring_queue_init(q->vq->ring.num, &u->ring, 0);
    if (error) {
        free(u);
        return error;
    }
    u->fixed_file = io_uring_register_files(&u->ring, &q->disk->fd, 1) == 0;
    u->ready =
        (struct qd_fd){.fd = u->ring.ring_fd, .events = EPOLLIN, .ready = ring_ready, .opaque = q, .poll = ring_poll};
    q->engine_state = u; /* before the loop may poll */
    error = q->vq->api->loop_add(q->vq->loop, &u->ready);
    if (error) {
        q->engine_state = NULL;
        io_uring_queue_exit(&u->ring);
        free(u);
        return error;
    }
    return 0;
}

static void prepare(struct io_uring_sqe *sqe, const struct blk_io *io, int fd)
{
    const struct iovec *iov = io->iov;
    switch (io->step) {
    case BLK_STEP_READ:
        if (io->niov == 1) {
            io_uring_prep_read(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, io->offset);
            sqe->rw_flags = io->flags;
        } else {
            io_uring_prep_readv2(sqe, fd, iov, io->niov, io->offset, io->flags);
        }
        break;
    case BLK_STEP_WRITE:
        if (io->niov == 1) {
            io_uring_prep_write(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, io->offset);
            sqe->rw_flags = io->flags;
        } else {
            io_uring_prep_writev2(sqe, fd, iov, io->niov, io->offset, io->flags);
        }
        break;
    case BLK_STEP_SYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case BLK_STEP_ALLOCATE:
        io_uring_prep_fallocate(sqe, fd, io->flags, (off_t)io->offset, (off_t)io->length);
        break;
    }
}

static void uring_queue(struct blk_queue *q, struct blk_req *req)
{
    struct uring *u = q->engine_state;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    const struct blk_disk *disk = q->disk;
    bool fixed = u->fixed_file && !__atomic_load_n(&disk->no_fixed_file, __ATOMIC_RELAXED);
    prepare(sqe, &req->io, fixed ? 0 : disk->fd);
    if (fixed)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, req);
}

static void uring_reap(struct blk_queue *q)
{
    struct uring *u = q->engine_state;
    struct io_uring_cqe *cqe;
    while (!io_uring_peek_cqe(&u->ring, &cqe)) {
        struct blk_req *req = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        blk_io_done(req, result);
    }
}

static void uring_submit(struct blk_queue *q)
{
    struct uring *u = q->engine_state;
    while (io_uring_sq_ready(&u->ring)) {
        int error = io_uring_submit(&u->ring);
        uring_reap(q);
        if (error < 0 && error != -EINTR) {
            /* the kernel is short of memory: what is left goes the next time round */
            blk_come_back(q);
            break;
        }
    }
}

static void uring_wait(struct blk_queue *q)
{
    struct uring *u = q->engine_state;
    io_uring_submit_and_wait(&u->ring, 1); /* whatever it returns, the caller looks and comes back */
}

static void uring_stop(struct blk_queue *q)
{
    struct uring *u = q->engine_state;
    q->vq->api->loop_del(q->vq->loop, &u->ready);
    io_uring_queue_exit(&u->ring);
    free(u);
    q->engine_state = NULL;
}

const struct blk_engine blk_uring = {
    .start = uring_start,
    .queue = uring_queue,
    .submit = uring_submit,
    .reap = uring_reap,
    .wait = uring_wait,
    .stop = uring_stop,
};

#endif
