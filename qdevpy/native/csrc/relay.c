/* SPDX-License-Identifier: Apache-2.0
 *
 * See relay.h. All of it runs with the queue's lock held.
 */
#define _GNU_SOURCE
#include "relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static uint16_t *avail(struct qd_relay *r) { return (uint16_t *)r->shadow; }
static uint16_t *used(struct qd_relay *r) { return (uint16_t *)(r->shadow + QD_RELAY_USED); }

static void signal_fd(int fd)
{
    uint64_t one = 1;
    /* EAGAIN: the counter is full, so it is signalled already */
    if (write(fd, &one, sizeof(one)) < 0)
        return;
}

/* Put a head into the shadow available ring; offer() shows it. */
static void put(struct qd_relay *r, uint16_t head)
{
    qd_store16(&avail(r)[2 + r->avail_idx % r->num], head);
    r->avail_idx++;
}

static void offer(struct qd_relay *r)
{
    /* release: pairs with the back end's barrier between reading idx and the entries below it (2.7.13.3.1) */
    __atomic_store_n(&avail(r)[1], r->avail_idx, __ATOMIC_RELEASE);
    if (r->connected)
        signal_fd(r->kick_fd);
}

static void kick(struct qd_vq *vq)
{
    struct qd_relay *r = vq->opaque;
    uint16_t before = r->avail_idx;
    do {
        qd_vring_disable_kicks(&vq->ring);
        /* at most NUM are in flight, so this ends, and no entry of the shadow ring is overwritten before its time */
        while (qd_vring_pop(&vq->ring, &r->elem) > 0) {
            if (r->began[r->elem.head]) {
                vq->api->fail(vq, "a descriptor is offered that the device has already");
                return;
            }
            r->began[r->elem.head] = ++r->count;
            put(r, r->elem.head);
        }
    } while (qd_vring_enable_kicks(&vq->ring));
    qd_vq_check(vq);
    if (r->avail_idx != before)
        offer(r);
}

/* Give back what the back end has used. */
static void collect(struct qd_relay *r)
{
    /* acquire: pairs with the back end's barrier between filling entries and raising idx (2.7.8.2) */
    uint16_t idx = __atomic_load_n(&used(r)[1], __ATOMIC_ACQUIRE);
    if (r->wrong || idx == r->used_seen)
        return;
    for (; r->used_seen != idx; r->used_seen++) {
        const uint32_t *entry = (const uint32_t *)&used(r)[2 + 4 * (r->used_seen % r->num)];
        uint32_t head = __atomic_load_n(&entry[0], __ATOMIC_RELAXED), len = __atomic_load_n(&entry[1], __ATOMIC_RELAXED);
        if (head >= r->num || !r->began[head]) {
            r->wrong = true;
            signal_fd(r->err_fd);
            break;
        }
        r->began[head] = 0;
        qd_vring_push(&r->vq->ring, (uint16_t)head, len);
    }
    qd_vq_flush(r->vq);
    qd_vq_check(r->vq);
}

static void called(struct qd_fd *self, uint32_t events)
{
    (void)events;
    struct qd_relay *r = self->opaque;
    uint64_t count;
    pthread_mutex_lock(&r->vq->lock);
    if (read(self->fd, &count, sizeof(count)) == sizeof(count) && r->vq->ring.num)
        collect(r);
    pthread_mutex_unlock(&r->vq->lock);
}

static int start(struct qd_vq *vq)
{
    struct qd_relay *r = vq->opaque;
    r->num = vq->ring.num;
    signal_fd(r->call.fd); /* what was used while the queue stood still */
    return vq->api->loop_add(vq->loop, &r->call);
}

static void stop(struct qd_vq *vq)
{
    struct qd_relay *r = vq->opaque;
    vq->api->loop_del(vq->loop, &r->call);
}

static const struct qd_queue_ops relay_ops = {.kick = kick, .start = start, .stop = stop};

const struct qd_queue_ops *qd_relay_ops(void)
{
    return &relay_ops;
}

struct qd_relay *qd_relay_new(uint8_t *shadow, int err_fd)
{
    struct qd_relay *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->shadow = shadow;
    r->err_fd = err_fd;
    r->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->call = (struct qd_fd){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = EPOLLIN, .ready = called, .opaque = r};
    if (r->kick_fd >= 0 && r->call.fd >= 0)
        return r;
    int error = errno;
    qd_relay_free(r);
    errno = error;
    return NULL;
}

void qd_relay_free(struct qd_relay *r)
{
    if (r->kick_fd >= 0)
        close(r->kick_fd);
    if (r->call.fd >= 0)
        close(r->call.fd);
    free(r);
}

void qd_relay_bind(struct qd_relay *r, struct qd_vq *vq)
{
    r->vq = vq;
}

struct begun {
    uint64_t number;
    uint16_t head;
};

static int by_number(const void *left, const void *right)
{
    uint64_t a = ((const struct begun *)left)->number, b = ((const struct begun *)right)->number;
    return (a > b) - (a < b);
}

/* Offer all that is in flight once more, in the order in which the guest did. */
static void offer_again(struct qd_relay *r)
{
    struct begun begun[QD_VRING_MAX];
    unsigned n = 0;
    for (unsigned head = 0; head < QD_VRING_MAX; head++)
        if (r->began[head])
            begun[n++] = (struct begun){r->began[head], (uint16_t)head};
    qsort(begun, n, sizeof(*begun), by_number);
    memset(r->shadow, 0, QD_RELAY_BYTES);
    r->avail_idx = r->used_seen = 0;
    for (unsigned i = 0; i < n; i++)
        put(r, begun[i].head);
    offer(r);
}

uint16_t qd_relay_connect(struct qd_relay *r, uint16_t num, bool fresh)
{
    pthread_mutex_lock(&r->vq->lock);
    if (r->num && r->vq->ring.num)
        collect(r);
    r->num = num;
    r->connected = true;
    uint16_t base = r->avail_idx;
    if (fresh) {
        r->wrong = false;
        offer_again(r);
        base = 0;
    }
    pthread_mutex_unlock(&r->vq->lock);
    return base;
}

void qd_relay_disconnect(struct qd_relay *r)
{
    pthread_mutex_lock(&r->vq->lock);
    r->connected = false;
    pthread_mutex_unlock(&r->vq->lock);
}

void qd_relay_forget(struct qd_relay *r)
{
    pthread_mutex_lock(&r->vq->lock);
    memset(r->began, 0, sizeof(r->began));
    memset(r->shadow, 0, QD_RELAY_BYTES);
    r->num = r->avail_idx = r->used_seen = 0;
    r->wrong = false;
    pthread_mutex_unlock(&r->vq->lock);
}

unsigned qd_relay_inflight(struct qd_relay *r)
{
    unsigned n = 0;
    pthread_mutex_lock(&r->vq->lock);
    for (unsigned head = 0; head < QD_VRING_MAX; head++)
        n += r->began[head] != 0;
    pthread_mutex_unlock(&r->vq->lock);
    return n;
}
