/* SPDX-License-Identifier: Apache-2.0
 *
 * Polling before sleeping, a loop's part (loop.c): which handlers are polled, and for how long.
 */
#ifndef QD_POLLER_H
#define QD_POLLER_H

#include <sys/epoll.h>

#include "qd_loop.h"

struct poller {
    struct qd_fd *first;       /* those that have poll(); atomic: who adds is on another thread */
    struct qd_fd *cursor;      /* the next one of a round that is under way */
    unsigned only_epoll;       /* how many have none; atomic */
    struct qd_polling polling; /* atomics */
    bool interrupted;          /* come out, there are calls; atomic */
    bool newcomers;            /* some handlers were not told that polling has begun; atomic */
    struct qd_loop_stats stats; /* atomics, written by the loop's thread; window_ns: how long to poll, as of now */
    /* the loop's thread's own from here on */
    bool on;                   /* polling(true) was called */
    bool worked;               /* something was done since idle_since was set */
    uint64_t idle_since;       /* ns; since when there has been nothing to do */
    uint64_t looked;           /* ns; when epoll was asked last */
    int64_t credit_ns;         /* what polling has earned and not spent */
    unsigned rest;             /* sleeps until it is tried again */
    unsigned next_rest;
    bool long_look;            /* the next look is the long one of this trial */
    bool looked_long;          /* it has had it */
};

void poller_init(struct poller *poller);
/* With the loop's lock held; poller_remove() on the loop's thread. */
void poller_add(struct poller *poller, struct qd_fd *handler);
void poller_remove(struct poller *poller, struct qd_fd *handler);
/* Any thread: have poller_run() return soon; it goes on after poller_interrupted(). */
void poller_interrupt(struct poller *poller);
void poller_interrupted(struct poller *poller);
void poller_set(struct poller *poller, struct qd_polling polling);
struct qd_polling poller_get(struct poller *poller);
void poller_get_stats(struct poller *poller, struct qd_loop_stats *stats);
/* Poll and serve until the time is over. True: nothing is left to do, sleep; false: see what epoll has, and come back. */
bool poller_run(struct poller *poller);
/* For who has no handlers that could be polled: epoll_wait(), which asks again and again before it sleeps, for as long
 * as poller_run() would poll. */
int poller_epoll(struct poller *poller, int epoll, struct epoll_event *events, int max, int timeout_ms);
/* epoll was asked: whether the loop slept, and whether something was there. */
void poller_waited(struct poller *poller, bool slept, bool found);

#endif
