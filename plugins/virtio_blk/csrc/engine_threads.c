/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine `threads`: a queue's own pool of threads that call preadv, pwritev,
 * fdatasync and fallocate. Threads are made when there is work and nobody idle,
 * and stay until the queue stops.
 *
 * A read whose data is in the page cache needs no thread: preadv2(RWF_NOWAIT)
 * gets it at once, or says that it would block.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blk.h"

#define WORKERS 16
/* Larger reads are copied by a worker, beside the thread that serves the queue. */
#define NOWAIT_BYTES (64u << 10)

struct pool {
    struct blk_queue *q;
    struct blk_req *batch, **batch_end; /* queued, not submitted; under vq->lock */
    unsigned batch_size;
    struct blk_req *done;               /* stack that workers push on; atomic */
    pthread_mutex_t lock;               /* orders what follows */
    pthread_cond_t work;
    struct blk_req *jobs, **jobs_end;
    unsigned waiting, idle, count;
    bool ending;
    pthread_t thread[WORKERS];
};

static int64_t perform(const struct blk_req *req)
{
    const struct blk_io *io = &req->io;
    int fd = req->q->disk->fd;
    int64_t result = -1;
    switch (io->step) {
    case BLK_STEP_READ:
        result = preadv2(fd, io->iov, (int)io->niov, (off_t)io->offset, io->flags);
        break;
    case BLK_STEP_WRITE:
        result = pwritev2(fd, io->iov, (int)io->niov, (off_t)io->offset, io->flags);
        break;
    case BLK_STEP_SYNC:
        result = fdatasync(fd);
        break;
    case BLK_STEP_ALLOCATE:
        result = fallocate(fd, io->flags, (off_t)io->offset, (off_t)io->length);
        break;
    }
    return result < 0 ? -errno : result;
}

static void give_back(struct pool *p, struct blk_req *req)
{
    struct blk_req *head = __atomic_load_n(&p->done, __ATOMIC_RELAXED);
    do
        req->next = head;
    /* release: pairs with the acquire in reap(), which reads req->result */
    while (!__atomic_compare_exchange_n(&p->done, &head, req, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    if (!head)
        blk_wake(p->q); /* who finds others there knows that they have rung */
}

static void *worker(void *arg)
{
    struct pool *p = arg;
    pthread_setname_np(pthread_self(), "qdevpy-blk");
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->jobs && !p->ending) {
            p->idle++;
            pthread_cond_wait(&p->work, &p->lock);
            p->idle--;
        }
        struct blk_req *req = p->jobs;
        if (!req)
            break;
        p->jobs = req->next;
        if (!p->jobs)
            p->jobs_end = &p->jobs;
        p->waiting--;
        /* I may block now: let the next one look after the rest */
        if (p->jobs && p->idle)
            pthread_cond_signal(&p->work);
        pthread_mutex_unlock(&p->lock);
        req->result = perform(req);
        give_back(p, req);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* One more worker; signals are the main thread's, so it is born with all of them blocked. */
static bool hire(struct pool *p)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&p->thread[p->count], NULL, worker, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!error)
        p->count++;
    return !error;
}

static int threads_start(struct blk_queue *q)
{
    struct pool *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->q = q;
    p->batch_end = &p->batch;
    p->jobs_end = &p->jobs;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    q->engine_state = p;
    return 0;
}

/* The cached part of a read, now; false where a worker must do it. */
static bool read_cached(struct blk_req *req)
{
    struct blk_disk *disk = req->q->disk;
    if (req->io.step != BLK_STEP_READ || req->done || req->retries || req->length > NOWAIT_BYTES ||
        __atomic_load_n(&disk->no_nowait, __ATOMIC_RELAXED))
        return false;
    ssize_t got = preadv2(disk->fd, req->io.iov, (int)req->io.niov, (off_t)req->io.offset, RWF_NOWAIT);
    if (got < 0) {
        if (errno == EOPNOTSUPP)
            __atomic_store_n(&disk->no_nowait, 1, __ATOMIC_RELAXED);
        return false; /* a worker will see a real error again */
    }
    blk_io_done(req, got);
    return true;
}

static void threads_queue(struct blk_queue *q, struct blk_req *req)
{
    struct pool *p = q->engine_state;
    if (read_cached(req))
        return;
    req->next = NULL;
    *p->batch_end = req;
    p->batch_end = &req->next;
    p->batch_size++;
}

static void threads_submit(struct blk_queue *q)
{
    struct pool *p = q->engine_state;
    if (!p->batch)
        return;
    pthread_mutex_lock(&p->lock);
    *p->jobs_end = p->batch;
    p->jobs_end = p->batch_end;
    p->waiting += p->batch_size;
    p->batch = NULL;
    p->batch_end = &p->batch;
    p->batch_size = 0;
    for (unsigned hired = 0; p->idle + hired < p->waiting && p->count < WORKERS && hire(p); hired++)
        ;
    bool alone = p->count == 0;
    if (p->idle)
        pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
    if (!alone)
        return;
    /* No thread to be had: slow is better than stuck. Nobody else touches the list. */
    while (p->jobs) {
        struct blk_req *req = p->jobs;
        p->jobs = req->next;
        p->waiting--;
        req->result = perform(req);
        give_back(p, req);
    }
    p->jobs_end = &p->jobs;
}

static void threads_reap(struct blk_queue *q)
{
    struct pool *p = q->engine_state;
    struct blk_req *req = __atomic_exchange_n(&p->done, NULL, __ATOMIC_ACQUIRE);
    while (req) {
        struct blk_req *next = req->next;
        blk_io_done(req, req->result);
        req = next;
    }
}

static void threads_wait(struct blk_queue *q)
{
    struct pollfd ready = {.fd = q->wake.fd, .events = POLLIN};
    uint64_t count;
    while (poll(&ready, 1, -1) < 0 && errno == EINTR)
        ;
    ssize_t got = read(q->wake.fd, &count, sizeof(count));
    (void)got;
}

static void threads_stop(struct blk_queue *q)
{
    struct pool *p = q->engine_state;
    pthread_mutex_lock(&p->lock);
    p->ending = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->count; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
    q->engine_state = NULL;
}

const struct blk_engine blk_threads = {
    .start = threads_start,
    .queue = threads_queue,
    .submit = threads_submit,
    .reap = threads_reap,
    .wait = threads_wait,
    .stop = threads_stop,
};
