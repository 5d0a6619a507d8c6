/* SPDX-License-Identifier: Apache-2.0
 *
 * The queue's operations: serving kicks and completions, start and stop.
 */
#include "blk.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

static void flush(struct blk_queue *q)
{
    if (!q->pushed)
        return;
    q->pushed = 0;
    qd_vq_flush(q->vq);
}

/* One there always is: the ring has no more chains in flight than entries. */
static struct blk_req *take_req(struct blk_queue *q)
{
    struct blk_req *req = q->free;
    if (!req)
        return &q->reqs[q->fresh++];
    q->free = req->next;
    return req;
}

static void forget_held(struct blk_queue *q)
{
    q->held = NULL;
    q->held_end = &q->held;
    __atomic_store_n(&q->n_held, 0, __ATOMIC_RELAXED);
}

/* The machine goes on after an error that stopped it: what failed is tried once more. What fails again is held again. */
static void retry_held(struct blk_queue *q)
{
    struct blk_req *req = q->held;
    q->retry = false;
    forget_held(q);
    while (req) {
        struct blk_req *next = req->next;
        blk_retry(req);
        req = next;
    }
    blk_unplug(q);
    q->engine->submit(q);
}

/* Pop until the ring is empty or BUDGET is used up; the number popped. */
static unsigned pop_batch(struct blk_queue *q, unsigned budget)
{
    unsigned n = 0;
    while (n < budget && qd_vring_pop(&q->vq->ring, &q->elem) == 1) {
        n++;
        if (!blk_accept(q, take_req(q)))
            break;
    }
    blk_unplug(q);
    return n;
}

/* Serve the ring. A guest that refills it faster than we empty it must not hold the thread
 * forever: after two rings' worth the loop's other work gets its turn. */
static void serve(struct blk_queue *q)
{
    struct qd_vring *ring = &q->vq->ring;
    unsigned budget = 2u * ring->num, total = 0;
    store(&q->more, false);
    if (q->retry)
        retry_held(q);
    do {
        qd_vring_disable_kicks(ring);
        unsigned n = pop_batch(q, budget - total);
        total += n;
        q->engine->submit(q);
        if (total >= budget) {
            store(&q->more, true);
            blk_wake(q);
            break;
        }
    } while (qd_vring_enable_kicks(ring));
    flush(q);
    qd_vq_check(q->vq);
}

static void blk_kick(struct qd_vq *vq)
{
    serve(vq->opaque);
}

void blk_wake(struct blk_queue *q)
{
    uint64_t one = 1;
    /* pairs with the fence in stop_polling(): either we see that nobody looks, or it sees what we are called for */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (load(&q->polled))
        return;
    ssize_t written = write(q->wake.fd, &one, sizeof(one));
    (void)written; /* fails only where the eventfd is signalled already */
}

void blk_wait_for_wake(struct blk_queue *q)
{
    struct pollfd ready = {.fd = q->wake.fd, .events = POLLIN};
    uint64_t count;
    while (poll(&ready, 1, -1) < 0 && errno == EINTR)
        ;
    ssize_t got = read(q->wake.fd, &count, sizeof(count));
    (void)got;
}

void blk_come_back(struct blk_queue *q)
{
    store(&q->again, true);
    blk_wake(q);
}

static bool wake_poll(struct qd_fd *fd)
{
    const struct blk_queue *q = fd->opaque;
    return load(&q->more) || load(&q->again) || (q->engine->ready && q->engine->ready(q));
}

static void stop_polling(struct blk_queue *q)
{
    store(&q->polled, false);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* pairs with that in blk_wake() */
}

static bool wake_polling(struct qd_fd *fd, bool on)
{
    struct blk_queue *q = fd->opaque;
    if (on) {
        store(&q->polled, true);
        return false;
    }
    stop_polling(q);
    return wake_poll(fd);
}

/* Go on where the budget ended. 2.1.1: a device that needs a reset serves nothing. */
static void serve_rest(struct blk_queue *q)
{
    if (q->more && !__atomic_load_n(&q->vq->vdev->error, __ATOMIC_ACQUIRE))
        serve(q);
}

void blk_resume(struct blk_queue *q)
{
    pthread_mutex_lock(&q->vq->lock);
    store(&q->again, false);
    q->engine->reap(q);
    q->engine->submit(q);
    flush(q);
    serve_rest(q);
    pthread_mutex_unlock(&q->vq->lock);
}

static void woken(struct qd_fd *fd, uint32_t events)
{
    struct blk_queue *q = fd->opaque;
    uint64_t count;
    (void)events; /* 0 where it was polled: the kernel signals it nevertheless for Linux AIO */
    /* cleared before looking: what comes later signals anew */
    ssize_t got = read(q->wake.fd, &count, sizeof(count));
    (void)got;
    blk_resume(q);
}

/* Nothing is in flight; what is held goes, too. */
static void free_reqs(struct blk_queue *q)
{
    for (struct blk_req *req = q->held; req; req = req->next)
        blk_req_release(req);
    forget_held(q);
    free(q->reqs);
    q->reqs = q->free = NULL;
    q->fresh = 0;
}

static void release(struct blk_queue *q)
{
    if (!q->n_held)
        free_reqs(q);
    close(q->wake.fd);
    q->wake.fd = -1;
}

/* By enum blk_aio; NULL where it was not built in. */
static const struct blk_engine *const engines[] = {
    [BLK_AIO_THREADS] = &blk_threads,
#ifdef BLK_HAVE_URING
    [BLK_AIO_URING] = &blk_uring,
#endif
    [BLK_AIO_NATIVE] = &blk_native,
    [BLK_AIO_NULL] = &blk_null,
};

static int blk_start(struct qd_vq *vq)
{
    struct blk_queue *q = vq->opaque;
    q->vq = vq;
    q->inflight = q->pushed = 0;
    q->more = q->again = q->polled = false;
    q->misses = q->skip = 0;
    q->unseen = 0;
    q->engine = engines[q->disk->aio];
    if (!q->engine)
        return -ENOSYS;
    if (!vq->ring.inflight) /* the driver has reset the queue meanwhile */
        free_reqs(q);
    q->retry = q->n_held > 0;
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    q->wake = (struct qd_fd){
        .fd = fd, .events = EPOLLIN, .ready = woken, .opaque = q, .poll = wake_poll, .polling = wake_polling};
    if (!q->reqs)
        q->reqs = calloc(vq->ring.num, sizeof(*q->reqs));
    int error = q->reqs ? q->engine->start(q) : -ENOMEM;
    if (error) {
        release(q);
        return error;
    }
    error = vq->api->loop_add(vq->loop, &q->wake);
    if (error) {
        q->engine->stop(q); /* nothing was submitted, so no handler of ours can be running */
        release(q);
    }
    return error;
}

/* Everything in flight completes, and the driver sees it: a paused guest finds it when it goes on. */
static void blk_stop(struct qd_vq *vq)
{
    struct blk_queue *q = vq->opaque;
    stop_polling(q); /* from here on the engine is waited for */
    serve_rest(q);   /* its kick came before */
    while (q->inflight) {
        q->engine->reap(q);
        q->engine->submit(q);
        if (q->inflight)
            q->engine->wait(q);
    }
    flush(q);
    vq->api->loop_del(vq->loop, &q->wake);
    q->engine->stop(q);
    release(q);
}

const struct qd_queue_ops *blk_queue_ops(void)
{
    static const struct qd_queue_ops ops = {.kick = blk_kick, .start = blk_start, .stop = blk_stop};
    return &ops;
}

struct blk_queue *blk_queue_new(struct blk_disk *disk)
{
    struct blk_queue *q = calloc(1, sizeof(*q));
    if (q) {
        q->disk = disk;
        q->held_end = &q->held;
        q->wake.fd = -1;
    }
    return q;
}

uint32_t blk_queue_held(const struct blk_queue *q)
{
    return __atomic_load_n(&q->n_held, __ATOMIC_RELAXED);
}

void blk_queue_free(struct blk_queue *q)
{
    free_reqs(q);
    free(q);
}

int blk_probe(int aio)
{
    switch (aio) {
    case BLK_AIO_URING:
#ifdef BLK_HAVE_URING
        return blk_uring_probe();
#else
        return -ENOSYS;
#endif
    case BLK_AIO_NATIVE:
        return blk_native_probe();
    }
    return 0;
}
