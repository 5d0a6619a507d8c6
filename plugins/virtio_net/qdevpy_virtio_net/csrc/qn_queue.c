/* SPDX-License-Identifier: Apache-2.0
 *
 * A queue's life: made, bound to its virtqueue, started and stopped by the
 * driver, plugged into and unplugged from the host by Python.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "qn.h"
#include "qn_api.h"

struct qn_dev *qn_dev_new(void)
{
    struct qn_dev *dev = calloc(1, sizeof(*dev));
    if (dev) {
        pthread_mutex_init(&dev->lock, NULL);
        dev->link_up = true;
        dev->filter.promisc = true;
    }
    return dev;
}

void qn_dev_free(struct qn_dev *dev)
{
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

void qn_dev_set_link(struct qn_dev *dev, bool up)
{
    __atomic_store_n(&dev->link_up, up, __ATOMIC_RELAXED);
}

int qn_dev_set_filter(struct qn_dev *dev, const struct qn_filter *filter)
{
    if (filter->n_unicast + filter->n_multicast > QN_MAC_ENTRIES)
        return -EINVAL;
    pthread_mutex_lock(&dev->lock);
    dev->filter = *filter;
    pthread_mutex_unlock(&dev->lock);
    return 0;
}

struct qn_queue *qn_queue_new(struct qn_dev *dev, bool rx)
{
    struct qn_queue *q = calloc(1, sizeof(*q));
    if (!q)
        return NULL;
    q->dev = dev;
    q->fd = q->again.fd = -1;
    q->ask = 1;
    q->msgs = calloc(QN_BATCH, sizeof(*q->msgs));
    if (rx) {
        q->buf = malloc(QN_BATCH * QN_SPILL); /* no page of it is touched before it is needed */
    } else {
        q->tail = malloc(QN_TAIL_MAX);
        q->again.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    if (!q->msgs || (rx ? !q->buf : !q->tail || q->again.fd < 0)) {
        qn_queue_free(q);
        return NULL;
    }
    q->io.opaque = q->again.opaque = q;
    q->io.events = rx ? EPOLLIN : EPOLLOUT;
    q->io.ready = rx ? qn_rx_ready : qn_tx_ready;
    q->again.events = EPOLLOUT;
    q->again.ready = qn_tx_again;
    return q;
}

void qn_queue_free(struct qn_queue *q)
{
    if (q->fd >= 0)
        close(q->fd);
    if (q->again.fd >= 0)
        close(q->again.fd);
    free(q->tail);
    free(q->buf);
    free(q->msgs);
    free(q->controls);
    free(q);
}

void qn_queue_bind(struct qn_queue *q, uintptr_t vq)
{
    q->vq = (struct qd_vq *)vq;
}

void qn_arm(struct qn_queue *q, struct qd_fd *handler, bool *armed)
{
    if (!*armed && q->vq->api->loop_add(q->vq->loop, handler) == 0)
        *armed = true;
}

void qn_disarm(struct qn_queue *q, struct qd_fd *handler, bool *armed)
{
    if (*armed)
        q->vq->api->loop_del(q->vq->loop, handler);
    *armed = false;
}

void qn_peer_gone(struct qn_queue *q)
{
    if (!q->gone)
        q->vq->api->event(q->vq->vdev, QN_EVENT_GONE);
    q->gone = true;
}

/* From Python's thread: take the host's fd out of the loop. Its handler may be waiting for the lock, so that is
 * dropped first; the handler sees that it is no longer armed and returns. A kick that comes meanwhile finds no
 * fd (the caller took it away) and does not arm it again. */
static void quiesce(struct qn_queue *q)
{
    if (!q->armed)
        return;
    q->armed = false;
    pthread_mutex_unlock(&q->vq->lock);
    q->vq->api->loop_del(q->vq->loop, &q->io);
    pthread_mutex_lock(&q->vq->lock);
}

/* Something changed: go on where there is something to do. */
static void resume(struct qn_queue *q)
{
    if (!q->started)
        return;
    if (q->io.events == EPOLLIN)
        qn_rx_resume(q);
    else
        qn_tx_run(q);
}

int qn_plug(struct qn_queue *q, int kind, int fd, bool vnet_header, const char *dest, size_t dest_len)
{
    if (dest_len >= sizeof(q->dest.sun_path))
        return -ENAMETOOLONG;
    if (kind == QN_STREAM && vnet_header) /* nobody's framing; what is received has no room for one */
        return -EINVAL;
    int own = kind == QN_NONE ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (kind != QN_NONE && own < 0)
        return -errno;
    if (own >= 0)
        fcntl(own, F_SETFL, fcntl(own, F_GETFL) | O_NONBLOCK);
    pthread_mutex_lock(&q->vq->lock);
    q->kind = kind;
    q->fd = q->io.fd = own;
    q->vnet_header = vnet_header;
    q->gone = q->connected = false;
    q->segment_max = kind == QN_DGRAM && !vnet_header ? qn_segment_max(own) : 0;
    memset(&q->dest, 0, sizeof(q->dest));
    q->dest.sun_family = AF_UNIX;
    memcpy(q->dest.sun_path, dest, dest_len);
    q->dest_len = dest_len ? offsetof(struct sockaddr_un, sun_path) + dest_len + 1 : 0;
    resume(q);
    pthread_mutex_unlock(&q->vq->lock);
    return 0;
}

void qn_unplug(struct qn_queue *q)
{
    pthread_mutex_lock(&q->vq->lock);
    int fd = q->fd;
    q->fd = -1;
    q->kind = QN_NONE;
    q->gone = false;
    quiesce(q); /* io.fd is still there to be taken out */
    /* bytes of this connection mean nothing to the next one */
    q->held_next = q->held_n = 0;
    q->have = q->pos = q->tail_len = q->tail_pos = 0;
    q->partial = q->refused = false;
    resume(q); /* waiting tx chains go the way of all frames without a peer */
    pthread_mutex_unlock(&q->vq->lock);
    if (fd >= 0)
        close(fd);
}

bool qn_is_gone(struct qn_queue *q)
{
    pthread_mutex_lock(&q->vq->lock);
    bool gone = q->gone;
    pthread_mutex_unlock(&q->vq->lock);
    return gone;
}

void qn_get_counters(struct qn_queue *q, struct qn_counters *to)
{
    pthread_mutex_lock(&q->vq->lock);
    *to = q->counters;
    pthread_mutex_unlock(&q->vq->lock);
}

/* --- the core's operations: vq->lock is held */

static int queue_start(struct qd_vq *vq)
{
    struct qn_queue *q = vq->opaque;
    uint64_t features = vq->vdev->features;
    q->vq = vq;
    if (q->features != features)
        q->held_next = q->held_n = 0; /* their header is what another driver negotiated */
    q->features = features;
    q->span = 0;
    q->mergeable = features >> QN_F_MRG_RXBUF & 1;
    /* 5.1.6.1: the legacy header has num_buffers only with mergeable buffers */
    q->hdr_len = q->mergeable || features >> QN_F_VERSION_1 & 1 ? 12 : 10;
    q->started = true;
    return 0;
}

static void rx_kick(struct qd_vq *vq)
{
    struct qn_queue *q = vq->opaque;
    if (q->started)
        qn_rx_resume(q);
}

static void rx_stop(struct qd_vq *vq)
{
    struct qn_queue *q = vq->opaque;
    qn_disarm(q, &q->io, &q->armed);
    q->started = false;
}

static void tx_kick(struct qd_vq *vq)
{
    struct qn_queue *q = vq->opaque;
    if (q->started)
        qn_tx_run(q);
}

static void tx_stop(struct qd_vq *vq)
{
    struct qn_queue *q = vq->opaque;
    qn_disarm(q, &q->io, &q->armed);
    qn_disarm(q, &q->again, &q->again_armed);
    qn_tx_abandon(q);
    q->started = false;
}

static const struct qd_queue_ops rx_ops = {.kick = rx_kick, .start = queue_start, .stop = rx_stop};
static const struct qd_queue_ops tx_ops = {.kick = tx_kick, .start = queue_start, .stop = tx_stop};

uintptr_t qn_rx_ops(void)
{
    return (uintptr_t)&rx_ops;
}

uintptr_t qn_tx_ops(void)
{
    return (uintptr_t)&tx_ops;
}
