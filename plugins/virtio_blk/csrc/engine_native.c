/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine `native`: Linux AIO. It does not wait for storage with O_DIRECT only, so device.py asks for cache.direct, as
 * QEMU does.
 *
 * Completions are read from the ring that the kernel maps into this process (fs/aio.c: struct aio_ring), without
 * a system call; they ring q->wake. Linux AIO has no fallocate: that step is the pool's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pool.h"

#define SUBMIT 64 /* at most in one system call */
#define RING_MAGIC 0xa10a10a1u

struct aio_ring {
    uint32_t id, nr;
    uint32_t head, tail; /* head is ours, tail the kernel's */
    uint32_t magic, compat_features, incompat_features, header_length;
    struct io_event events[];
};

struct native {
    aio_context_t context;
    struct aio_ring *ring; /* NULL: not of the kind that is known here; io_getevents() reads it */
    struct blk_req *waiting, **end; /* queued, not submitted; under vq->lock */
    struct blk_pool *pool;
};

static int setup(unsigned events, aio_context_t *context)
{
    *context = 0;
    return syscall(SYS_io_setup, events, context) ? -errno : 0;
}

int blk_native_probe(void)
{
    aio_context_t context;
    int error = setup(1, &context);
    if (!error)
        syscall(SYS_io_destroy, context);
    return error;
}

static int native_start(struct blk_queue *q)
{
    struct native *n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    n->end = &n->waiting;
    n->pool = blk_pool_new(q);
    /* a request has one step in flight at most, so there are never more events than the context has room for */
    int error = n->pool ? setup(q->vq->ring.num, &n->context) : -ENOMEM;
    if (error) {
        if (n->pool)
            blk_pool_free(n->pool);
        free(n);
        return error;
    }
    struct aio_ring *ring = (struct aio_ring *)n->context;
    if (ring->magic == RING_MAGIC && !ring->incompat_features && ring->header_length == sizeof(*ring))
        n->ring = ring;
    q->engine_state = n;
    return 0;
}

static void native_queue(struct blk_queue *q, struct blk_req *req)
{
    struct native *n = q->engine_state;
    if (req->io.step == BLK_STEP_ALLOCATE)
        return blk_pool_queue(n->pool, req);
    req->next = NULL;
    *n->end = req;
    n->end = &req->next;
}

static void prepare(struct iocb *cb, const struct blk_queue *q, const struct blk_req *req)
{
    const struct blk_io *io = &req->io;
    *cb = (struct iocb){
        .aio_data = (uintptr_t)req,
        .aio_fildes = (uint32_t)q->disk->fd,
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)q->wake.fd,
        .aio_lio_opcode = IOCB_CMD_FDSYNC,
    };
    if (io->step == BLK_STEP_SYNC)
        return;
    cb->aio_lio_opcode = io->step == BLK_STEP_READ ? IOCB_CMD_PREADV : IOCB_CMD_PWRITEV;
    cb->aio_rw_flags = io->flags;
    cb->aio_buf = (uintptr_t)io->iov;
    cb->aio_nbytes = io->niov;
    cb->aio_offset = (int64_t)io->offset;
}

static struct blk_req *take_waiting(struct native *n)
{
    struct blk_req *req = n->waiting;
    n->waiting = req->next;
    if (!n->waiting)
        n->end = &n->waiting;
    return req;
}

static void native_submit(struct blk_queue *q)
{
    struct native *n = q->engine_state;
    struct iocb cbs[SUBMIT], *list[SUBMIT];
    while (n->waiting) {
        unsigned count = 0;
        for (struct blk_req *req = n->waiting; req && count < SUBMIT; req = req->next, count++) {
            prepare(&cbs[count], q, req);
            list[count] = &cbs[count];
        }
        long taken = syscall(SYS_io_submit, n->context, (long)count, list);
        if (taken < 0 && errno == EAGAIN) {
            /* the kernel is short of memory: what is left goes the next time round */
            blk_come_back(q);
            break;
        }
        if (taken <= 0) /* the first one cannot be had; the others may */
            blk_io_done(take_waiting(n), taken < 0 ? -errno : -EIO);
        for (; taken > 0; taken--)
            take_waiting(n);
    }
    blk_pool_submit(n->pool);
}

static void event_done(const struct io_event *event)
{
    blk_io_done((struct blk_req *)(uintptr_t)event->data, event->res);
}

static void read_ring(struct aio_ring *ring)
{
    uint32_t head = ring->head; /* written by us only */
    /* acquire: pairs with the kernel's barrier between filling an event and raising tail */
    while (head != __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE)) {
        struct io_event event = ring->events[head];
        head = head + 1 == ring->nr ? 0 : head + 1;
        /* release: the event has been copied before its place is given back */
        __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
        event_done(&event);
    }
}

static void ask_for_events(struct native *n)
{
    struct io_event events[SUBMIT];
    struct timespec none = {0};
    long got;
    while ((got = syscall(SYS_io_getevents, n->context, 0L, (long)SUBMIT, events, &none)) > 0)
        for (long i = 0; i < got; i++)
            event_done(&events[i]);
}

static void native_reap(struct blk_queue *q)
{
    struct native *n = q->engine_state;
    if (n->ring)
        read_ring(n->ring);
    else
        ask_for_events(n);
    blk_pool_reap(n->pool);
}

static bool native_ready(const struct blk_queue *q)
{
    const struct native *n = q->engine_state;
    const struct aio_ring *ring = n->ring;
    bool found = ring && __atomic_load_n(&ring->head, __ATOMIC_RELAXED) != __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
    return found || blk_pool_ready(n->pool);
}

static void native_stop(struct blk_queue *q)
{
    struct native *n = q->engine_state;
    syscall(SYS_io_destroy, n->context);
    blk_pool_free(n->pool);
    free(n);
    q->engine_state = NULL;
}

const struct blk_engine blk_native = {
    .start = native_start,
    .queue = native_queue,
    .submit = native_submit,
    .reap = native_reap,
    .wait = blk_wait_for_wake,
    .ready = native_ready,
    .stop = native_stop,
};
