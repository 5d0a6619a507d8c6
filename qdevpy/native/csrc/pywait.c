/* SPDX-License-Identifier: Apache-2.0
 *
 * How the main loop waits where queues of devices in Python are on it: as an I/O thread, polling before it sleeps. Who
 * writes an eventfd that nobody sleeps on wakes nobody, which is most of what a kick costs.
 */
#include <stdlib.h>

#include "core.h"
#include "poller.h"

struct qd_wait {
    struct poller poller;
};

struct qd_wait *qd_wait_new(uint64_t max_ns)
{
    struct qd_wait *wait = calloc(1, sizeof(*wait));
    if (!wait)
        return NULL;
    poller_init(&wait->poller);
    poller_set(&wait->poller, (struct qd_polling){.max_ns = max_ns});
    return wait;
}

void qd_wait_free(struct qd_wait *wait)
{
    free(wait);
}

int qd_wait(struct qd_wait *wait, int epoll, int timeout_ms, uint64_t *found)
{
    struct epoll_event events[QD_WAIT_MAX];
    int n = poller_epoll(&wait->poller, epoll, events, QD_WAIT_MAX, timeout_ms);
    if (n < 0) /* a signal, which Python looks after */
        return 0;
    for (int i = 0; i < n; i++) {
        *found++ = (uint32_t)events[i].data.fd;
        *found++ = events[i].events;
    }
    return 2 * n;
}
