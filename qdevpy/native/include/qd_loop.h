/* SPDX-License-Identifier: Apache-2.0
 *
 * An I/O thread: epoll, no Python. Before it sleeps it polls for a while those of its handlers that can be
 * polled: what comes meanwhile costs neither a system call nor a wake-up (csrc/poller.c).
 */
#ifndef QD_LOOP_H
#define QD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct qd_loop;
struct qd_vq;

/* A file descriptor with its handler; embed it in what it belongs to. */
struct qd_fd {
    int fd;
    uint32_t events;                                  /* EPOLLIN, ...; level-triggered */
    void (*ready)(struct qd_fd *self, uint32_t events); /* on the loop's thread */
    void *opaque;
    /* Optional. Is there work? A look at memory, no system call; ready(self, 0) is called where true. On the loop's
     * thread, no lock held. */
    bool (*poll)(struct qd_fd *self);
    /* Optional. Polling begins (true) or ends (false): e.g. ask the driver for no kicks meanwhile. For false, true
     * means that there is work: ready(self, 0) is called. On the loop's thread, no lock held. As handlers come
     * and go meanwhile, one may hear of a beginning twice or of an end only, and one that leaves hears of no end. */
    bool (*polling)(struct qd_fd *self, bool on);
    struct qd_fd *next_polled; /* the loop's own */
    const struct qd_vq *owner; /* the loop's own: whose handler added it, for the report of a crash; or NULL */
};

/* How long to poll. As QEMU's iothread: the time adapts between 0 and max_ns. What comes soon after it was over makes
 * it grow, what comes later than max_ns makes it shrink. */
struct qd_polling {
    uint64_t max_ns; /* 0: never */
    uint64_t grow;   /* factor; 0: 2 */
    uint64_t shrink; /* divisor; 0: to 0 at once */
};

/* What polling came to. */
struct qd_loop_stats {
    uint64_t polls_hit;    /* a handler had work while it was polled */
    uint64_t polls_missed; /* the time was over, and the loop slept */
    uint64_t polled_ns;    /* spent on either */
    uint64_t sleeps;
    uint64_t window_ns;    /* how long it would poll now */
};

struct qd_loop *qd_loop_new(const char *name); /* starts the thread; NULL and errno */
void qd_loop_free(struct qd_loop *loop);       /* stops and joins it */
int qd_loop_add(struct qd_loop *loop, struct qd_fd *handler); /* any thread; 0 or -errno */
/* Any thread, never waits: tell the loop that handler->events has changed; ready() may still run once for
 * the old ones. EPOLLHUP and EPOLLERR arrive whatever is asked for. 0 or -errno. */
int qd_loop_mod(struct qd_loop *loop, struct qd_fd *handler);
/* Any thread. On return the handler is not running and will not run again
 * (called on the loop's own thread, it may be the one running). From another thread this waits for the loop:
 * hold no lock that a handler takes (vq->lock!). Harmless where the handler is not in the loop. */
void qd_loop_del(struct qd_loop *loop, struct qd_fd *handler);
/* Run FN(ARG) on the loop's thread and wait for its end; the same rule about locks. On the loop's own thread: at once. */
void qd_loop_call(struct qd_loop *loop, void (*fn)(void *arg), void *arg);
/* Any thread; from now on. A host with one CPU polls never: whom to wait for could not run. */
void qd_loop_set_polling(struct qd_loop *loop, struct qd_polling polling);
struct qd_polling qd_loop_polling(struct qd_loop *loop); /* as it was set, or as one CPU allows */
void qd_loop_get_stats(struct qd_loop *loop, struct qd_loop_stats *stats);
/* For block engines: requests that go to the host in one piece at most; 0: as the engine thinks best. Any thread. */
void qd_loop_set_max_batch(struct qd_loop *loop, uint64_t max_batch);
uint64_t qd_loop_max_batch(struct qd_loop *loop);
/* The thread's id, as ps -L shows it; waits like qd_loop_call(). */
int qd_loop_tid(struct qd_loop *loop);

#endif
