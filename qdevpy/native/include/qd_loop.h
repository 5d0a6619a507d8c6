/* SPDX-License-Identifier: Apache-2.0
 *
 * An I/O thread: epoll, no Python.
 */
#ifndef QD_LOOP_H
#define QD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct qd_loop;

/* A file descriptor with its handler; embed it in what it belongs to. */
struct qd_fd {
    int fd;
    uint32_t events;                                  /* EPOLLIN, ...; level-triggered */
    void (*ready)(struct qd_fd *self, uint32_t events); /* on the loop's thread */
    void *opaque;
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
/* The thread's id, as ps -L shows it; waits like qd_loop_call(). */
int qd_loop_tid(struct qd_loop *loop);

#endif
