/* SPDX-License-Identifier: Apache-2.0
 *
 * I/O threads. One mutex a loop, held for list operations only, never around a handler.
 *
 * A handler leaves the loop on the loop's own thread, always: then it is not running, unless it is the very
 * one that asks. What epoll_wait() has reported already is in `batch`; loop_forget() takes it out of there.
 */
#define _GNU_SOURCE
#include "fault.h"
#include "poller.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BATCH 64

struct call {
    void (*fn)(void *arg);
    void *arg;
    bool done;
    struct call *next;
};

struct qd_loop {
    int epoll;
    int wake; /* eventfd: look at calls and quit */
    pthread_t thread;
    struct epoll_event batch[BATCH];
    int batch_next, batch_n; /* reported and not handled yet: [next, n) */
    struct poller poller;
    uint64_t max_batch;      /* atomic */
    pthread_mutex_t lock;    /* calls, quit, who is polled */
    pthread_cond_t called;   /* some call is done */
    struct call *first, **last;
    bool quit;
};

static void loop_wake(struct qd_loop *loop)
{
    uint64_t one = 1;
    /* EAGAIN: the counter is full, so the loop wakes anyway */
    if (write(loop->wake, &one, sizeof(one)) < 0)
        return;
}

/* Run what qd_loop_call() asked for; true: time to go. */
static bool loop_run_calls(struct qd_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    while (loop->first) {
        struct call *call = loop->first;
        loop->first = call->next;
        if (!loop->first)
            loop->last = &loop->first;
        pthread_mutex_unlock(&loop->lock);
        call->fn(call->arg);
        pthread_mutex_lock(&loop->lock);
        call->done = true;
        pthread_cond_broadcast(&loop->called);
    }
    bool quit = loop->quit;
    pthread_mutex_unlock(&loop->lock);
    return quit;
}

/* What epoll knows; waits where SLEEP. True: there are calls to run. */
static bool loop_wait(struct qd_loop *loop, bool sleep)
{
    bool woken = false;
    loop->batch_next = 0;
    loop->batch_n = epoll_wait(loop->epoll, loop->batch, BATCH, sleep ? -1 : 0);
    poller_waited(&loop->poller, sleep, loop->batch_n > 0);
    while (loop->batch_next < loop->batch_n) {
        struct epoll_event *event = &loop->batch[loop->batch_next++];
        struct qd_fd *handler = event->data.ptr;
        if (event->data.ptr == loop)
            woken = true;
        else if (handler)
            qd_fd_ready(handler, event->events);
    }
    return woken;
}

static void *loop_main(void *arg)
{
    struct qd_loop *loop = arg;
    for (;;) {
        bool sleep = poller_run(&loop->poller);
        if (!loop_wait(loop, sleep))
            continue;
        uint64_t count;
        if (read(loop->wake, &count, sizeof(count)) < 0)
            continue;
        poller_interrupted(&loop->poller);
        if (loop_run_calls(loop))
            return NULL;
    }
}

/* With all signals blocked but those of the thread's own doing: Python's belong to the main thread, the kick signal to vCPU threads. */
static int loop_start_thread(struct qd_loop *loop, const char *name)
{
    sigset_t most, before;
    sigfillset(&most);
    for (size_t i = 0; i < QD_N_FAULTS; i++) /* one that is blocked ends the process without a report */
        sigdelset(&most, qd_faults[i]);
    pthread_sigmask(SIG_SETMASK, &most, &before);
    int error = pthread_create(&loop->thread, NULL, loop_main, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return error;
    char short_name[16]; /* the kernel's limit */
    strncpy(short_name, name, sizeof(short_name) - 1);
    short_name[sizeof(short_name) - 1] = 0;
    pthread_setname_np(loop->thread, short_name);
    return 0;
}

struct qd_loop *qd_loop_new(const char *name)
{
    struct qd_loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return NULL;
    loop->last = &loop->first;
    poller_init(&loop->poller);
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->called, NULL);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = loop};
    int error = 0;
    if (loop->epoll < 0 || loop->wake < 0 || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &event))
        error = errno;
    if (!error)
        error = loop_start_thread(loop, name);
    if (!error)
        return loop;
    if (loop->epoll >= 0)
        close(loop->epoll);
    if (loop->wake >= 0)
        close(loop->wake);
    free(loop);
    errno = error;
    return NULL;
}

void qd_loop_free(struct qd_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->quit = true;
    pthread_mutex_unlock(&loop->lock);
    poller_interrupt(&loop->poller);
    loop_wake(loop);
    pthread_join(loop->thread, NULL);
    close(loop->epoll);
    close(loop->wake);
    pthread_mutex_destroy(&loop->lock);
    pthread_cond_destroy(&loop->called);
    free(loop);
}

static int loop_ctl(struct qd_loop *loop, int op, struct qd_fd *handler)
{
    struct epoll_event event = {.events = handler->events, .data.ptr = handler};
    return epoll_ctl(loop->epoll, op, handler->fd, &event) ? -errno : 0;
}

int qd_loop_add(struct qd_loop *loop, struct qd_fd *handler)
{
    handler->owner = qd_serving;
    /* both under the lock: the handler may run, and leave, from the moment that epoll knows it */
    pthread_mutex_lock(&loop->lock);
    int error = loop_ctl(loop, EPOLL_CTL_ADD, handler);
    if (!error)
        poller_add(&loop->poller, handler);
    pthread_mutex_unlock(&loop->lock);
    return error;
}

int qd_loop_mod(struct qd_loop *loop, struct qd_fd *handler)
{
    return loop_ctl(loop, EPOLL_CTL_MOD, handler);
}

struct forget {
    struct qd_loop *loop;
    struct qd_fd *handler;
};

static void loop_forget(void *arg)
{
    struct forget *forget = arg;
    struct qd_loop *loop = forget->loop;
    pthread_mutex_lock(&loop->lock);
    if (!loop_ctl(loop, EPOLL_CTL_DEL, forget->handler))
        poller_remove(&loop->poller, forget->handler);
    pthread_mutex_unlock(&loop->lock);
    for (int i = loop->batch_next; i < loop->batch_n; i++)
        if (loop->batch[i].data.ptr == forget->handler)
            loop->batch[i].data.ptr = NULL;
}

void qd_loop_del(struct qd_loop *loop, struct qd_fd *handler)
{
    struct forget forget = {.loop = loop, .handler = handler};
    qd_loop_call(loop, loop_forget, &forget);
}

void qd_loop_set_polling(struct qd_loop *loop, struct qd_polling polling)
{
    poller_set(&loop->poller, polling);
    loop_wake(loop); /* one that sleeps begins with the new numbers */
}

struct qd_polling qd_loop_polling(struct qd_loop *loop)
{
    return poller_get(&loop->poller);
}

void qd_loop_get_stats(struct qd_loop *loop, struct qd_loop_stats *stats)
{
    poller_get_stats(&loop->poller, stats);
}

void qd_loop_set_max_batch(struct qd_loop *loop, uint64_t max_batch)
{
    __atomic_store_n(&loop->max_batch, max_batch, __ATOMIC_RELAXED);
}

uint64_t qd_loop_max_batch(struct qd_loop *loop)
{
    return __atomic_load_n(&loop->max_batch, __ATOMIC_RELAXED);
}

static void loop_gettid(void *arg)
{
    *(int *)arg = gettid();
}

int qd_loop_tid(struct qd_loop *loop)
{
    int tid = 0;
    qd_loop_call(loop, loop_gettid, &tid);
    return tid;
}

void qd_loop_call(struct qd_loop *loop, void (*fn)(void *arg), void *arg)
{
    if (pthread_equal(pthread_self(), loop->thread)) {
        fn(arg);
        return;
    }
    struct call call = {.fn = fn, .arg = arg};
    pthread_mutex_lock(&loop->lock);
    *loop->last = &call;
    loop->last = &call.next;
    pthread_mutex_unlock(&loop->lock);
    poller_interrupt(&loop->poller);
    loop_wake(loop);
    pthread_mutex_lock(&loop->lock);
    while (!call.done)
        pthread_cond_wait(&loop->called, &loop->lock);
    pthread_mutex_unlock(&loop->lock);
}
