/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that call preadv, pwritev, fdatasync and fallocate.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pool.h"

#define WORKERS 16

struct blk_pool {
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

int64_t blk_perform(const struct blk_disk *disk, const struct blk_io *io)
{
    int64_t result = -1;
    switch (io->step) {
    case BLK_STEP_READ:
        result = preadv2(disk->fd, io->iov, (int)io->niov, (off_t)io->offset, io->flags);
        break;
    case BLK_STEP_WRITE:
        result = pwritev2(disk->fd, io->iov, (int)io->niov, (off_t)io->offset, io->flags);
        break;
    case BLK_STEP_SYNC:
        result = fdatasync(disk->fd);
        break;
    case BLK_STEP_ALLOCATE:
        result = fallocate(disk->fd, io->flags, (off_t)io->offset, (off_t)io->length);
        break;
    }
    return result < 0 ? -errno : result;
}

static void give_back(struct blk_pool *p, struct blk_req *req)
{
    struct blk_req *head = __atomic_load_n(&p->done, __ATOMIC_RELAXED);
    do
        req->next = head;
    /* release: pairs with the acquire in blk_pool_reap(), which reads req->result */
    while (!__atomic_compare_exchange_n(&p->done, &head, req, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    if (!head)
        blk_wake(p->q); /* who finds others there knows that they have rung */
}

static void *worker(void *arg)
{
    struct blk_pool *p = arg;
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
        req->result = blk_perform(p->q->disk, &req->io);
        give_back(p, req);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* One more worker; signals are the main thread's, so it is born with all of them blocked. */
static bool hire(struct blk_pool *p)
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

struct blk_pool *blk_pool_new(struct blk_queue *q)
{
    struct blk_pool *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->q = q;
    p->batch_end = &p->batch;
    p->jobs_end = &p->jobs;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    return p;
}

void blk_pool_queue(struct blk_pool *p, struct blk_req *req)
{
    req->next = NULL;
    *p->batch_end = req;
    p->batch_end = &req->next;
    p->batch_size++;
}

void blk_pool_submit(struct blk_pool *p)
{
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
        req->result = blk_perform(p->q->disk, &req->io);
        give_back(p, req);
    }
    p->jobs_end = &p->jobs;
}

bool blk_pool_ready(const struct blk_pool *p)
{
    return __atomic_load_n(&p->done, __ATOMIC_RELAXED) != NULL;
}

void blk_pool_reap(struct blk_pool *p)
{
    struct blk_req *req = __atomic_exchange_n(&p->done, NULL, __ATOMIC_ACQUIRE);
    while (req) {
        struct blk_req *next = req->next;
        blk_io_done(req, req->result);
        req = next;
    }
}

void blk_pool_free(struct blk_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->ending = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->count; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
