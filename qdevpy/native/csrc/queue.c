/* SPDX-License-Identifier: Apache-2.0
 *
 * Virtqueues: who serves them when, and how the guest hears of it.
 *
 * Lock order: VM lock -> vq->lock -> isr_lock -> GIL (the last where INTx belongs to Python). State changes come
 * with the VM lock held; the state itself is written under vq->lock, because kicks look at it there.
 */
#define _GNU_SOURCE
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const struct qd_api core_api = {
    .version = 1,
    .signal = qd_vq_signal,
    .fail = qd_vq_fail,
    .loop_add = qd_loop_add,
    .loop_del = qd_loop_del,
    .event = qd_vdev_event,
    .loop_mod = qd_loop_mod,
    .set_isr = qd_vdev_set_isr,
    .loop_max_batch = qd_loop_max_batch,
    .flush_tapped = qd_taps_flush,
};

static void signal_eventfd(int fd)
{
    uint64_t one = 1;
    /* EAGAIN: the counter is full, so it is signalled already */
    if (write(fd, &one, sizeof(one)) < 0)
        return;
}

/* --- the device --- */

struct qd_vdev *qd_vdev_new(const struct qd_mem *mem)
{
    struct qd_vdev *vdev = calloc(1, sizeof(*vdev));
    if (!vdev)
        return NULL;
    vdev->mem = mem;
    vdev->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vdev->event_fd < 0) {
        free(vdev);
        return NULL;
    }
    pthread_mutex_init(&vdev->isr_lock, NULL);
    return vdev;
}

void qd_vdev_free(struct qd_vdev *vdev)
{
    for (unsigned i = 0; i < vdev->n_queues; i++) {
        pthread_mutex_destroy(&vdev->queues[i]->lock);
        free(vdev->queues[i]->ring.flight);
        qd_taps_free(vdev->queues[i]);
        free(vdev->queues[i]);
    }
    pthread_mutex_destroy(&vdev->isr_lock);
    close(vdev->event_fd);
    free(vdev);
}

struct qd_vq *qd_vdev_add_queue(struct qd_vdev *vdev)
{
    if (vdev->n_queues == QD_VDEV_QUEUES)
        return NULL;
    struct qd_vq *vq = calloc(1, sizeof(*vq));
    if (!vq)
        return NULL;
    pthread_mutex_init(&vq->lock, NULL);
    vq->api = &core_api;
    vq->vdev = vdev;
    vq->index = vdev->n_queues;
    vq->irq_fd = QD_NO_FD;
    qd_vring_forget(&vq->ring, vdev->mem);
    vdev->queues[vdev->n_queues++] = vq;
    return vq;
}

struct qd_vq *qd_vdev_queue(struct qd_vdev *vdev, uint16_t index)
{
    return index < vdev->n_queues ? vdev->queues[index] : NULL;
}

void qd_vdev_event(struct qd_vdev *vdev, uint64_t bits)
{
    /* release: what the bits speak of is visible to whoever takes them */
    __atomic_fetch_or(&vdev->events, bits, __ATOMIC_RELEASE);
    signal_eventfd(vdev->event_fd);
}

uint64_t qd_vdev_take_events(struct qd_vdev *vdev)
{
    uint64_t count;
    /* fd first: an event between the two is in the bits or signals anew, in either case not lost */
    if (read(vdev->event_fd, &count, sizeof(count)) < 0)
        count = 0;
    return __atomic_exchange_n(&vdev->events, 0, __ATOMIC_ACQUIRE);
}

/* With isr_lock held: the line's level is a function of ISR and MSI-X, so no edge can be lost. */
static void update_intx(struct qd_vdev *vdev)
{
    if (vdev->set_intx)
        vdev->set_intx(vdev->intx_opaque, vdev->isr && !vdev->use_msix);
}

void qd_vdev_set_isr(struct qd_vdev *vdev, uint8_t bits)
{
    pthread_mutex_lock(&vdev->isr_lock);
    vdev->isr |= bits;
    update_intx(vdev);
    pthread_mutex_unlock(&vdev->isr_lock);
}

uint8_t qd_vdev_read_isr(struct qd_vdev *vdev)
{
    pthread_mutex_lock(&vdev->isr_lock);
    uint8_t isr = vdev->isr;
    vdev->isr = 0;
    update_intx(vdev);
    pthread_mutex_unlock(&vdev->isr_lock);
    return isr;
}

void qd_vdev_set_msix(struct qd_vdev *vdev, bool use_msix)
{
    pthread_mutex_lock(&vdev->isr_lock);
    __atomic_store_n(&vdev->use_msix, use_msix, __ATOMIC_RELEASE);
    update_intx(vdev);
    pthread_mutex_unlock(&vdev->isr_lock);
}

void qd_vdev_set_intx(struct qd_vdev *vdev, void (*set_intx)(void *opaque, int level), void *opaque)
{
    pthread_mutex_lock(&vdev->isr_lock);
    vdev->set_intx = set_intx;
    vdev->intx_opaque = opaque;
    pthread_mutex_unlock(&vdev->isr_lock);
}

/* --- serving --- */

/* A device that needs a reset serves nothing (2.1.1). */
void qd_vq_serve(struct qd_vq *vq)
{
    if (__atomic_load_n(&vq->vdev->error, __ATOMIC_ACQUIRE))
        return;
    qd_enter(vq, "serving a kick of");
    vq->ops->kick(vq);
    qd_leave();
}

/* With vq->lock held. */
static void count_kick(struct qd_vq *vq, enum qd_kick way)
{
    uint64_t *counters[] = {&vq->kicks_ioeventfd, &vq->kicks_sync, &vq->kicks_polled};
    ++*counters[way];
    if (vq->ring.tapped)
        qd_taps_kicked(vq, way);
}

void qd_vq_count_kick(struct qd_vq *vq, enum qd_kick way)
{
    pthread_mutex_lock(&vq->lock);
    count_kick(vq, way);
    pthread_mutex_unlock(&vq->lock);
}

bool qd_vq_kick(struct qd_vq *vq)
{
    if (!vq->ops)
        return false;
    pthread_mutex_lock(&vq->lock);
    bool mine = vq->state != QD_VQ_IDLE;
    if (mine) {
        count_kick(vq, QD_KICK_SYNC);
        qd_vq_serve(vq);
    }
    pthread_mutex_unlock(&vq->lock);
    return mine;
}

/* With vq->lock held. What the handler leaves in the ring (it waits for something else) is no reason for one who polls
 * to call it again: it has to move first, or be kicked. */
static void serve_and_note(struct qd_vq *vq)
{
    uint64_t before = vq->ring.popped;
    bool had_some = qd_vring_has_new(&vq->ring); /* looked at before: what comes later is new to the handler, too */
    qd_vq_serve(vq);
    vq->left_at = had_some && vq->ring.popped == before ? before + 1 : 0;
}

/* With vq->lock held, on the loop's thread: serve a kick that came through the host notifier. */
static void serve_notifier(struct qd_vq *vq)
{
    uint64_t count;
    /* Cleared before the ring is looked at: a kick from now on signals again. */
    if (read(vq->notifier.fd, &count, sizeof(count)) != sizeof(count))
        return;
    count_kick(vq, QD_KICK_IOEVENTFD);
    serve_and_note(vq);
}

static void notifier_ready(struct qd_fd *self, uint32_t events)
{
    struct qd_vq *vq = self->opaque;
    pthread_mutex_lock(&vq->lock);
    if (events) {
        serve_notifier(vq);
    } else { /* a kick that was not needed */
        count_kick(vq, QD_KICK_POLLED);
        serve_and_note(vq);
    }
    pthread_mutex_unlock(&vq->lock);
}

/* With vq->lock held. */
static bool is_left(const struct qd_vq *vq)
{
    return vq->left_at == vq->ring.popped + 1 || __atomic_load_n(&vq->vdev->error, __ATOMIC_ACQUIRE);
}

static bool notifier_poll(struct qd_fd *self)
{
    struct qd_vq *vq = self->opaque;
    if (pthread_mutex_trylock(&vq->lock)) /* somebody serves it right now; we come back */
        return false;
    bool found = qd_vring_has_new(&vq->ring) && !is_left(vq);
    pthread_mutex_unlock(&vq->lock);
    return found;
}

static bool notifier_polling(struct qd_fd *self, bool on)
{
    struct qd_vq *vq = self->opaque;
    pthread_mutex_lock(&vq->lock);
    bool found = qd_vring_set_polled(&vq->ring, on) && !is_left(vq);
    pthread_mutex_unlock(&vq->lock);
    return found;
}

int qd_vq_start(struct qd_vq *vq)
{
    int error = 0;
    pthread_mutex_lock(&vq->lock);
    qd_enter(vq, "starting");
    if (vq->ops && vq->ops->start)
        error = vq->ops->start(vq);
    qd_leave();
    if (!error)
        vq->state = QD_VQ_STARTED;
    pthread_mutex_unlock(&vq->lock);
    return error;
}

int qd_vq_attach(struct qd_vq *vq, int fd)
{
    if (!vq->ops || !vq->loop || vq->state != QD_VQ_STARTED)
        return -EINVAL;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    pthread_mutex_lock(&vq->lock);
    vq->notifier = (struct qd_fd){
        .fd = fd,
        .events = EPOLLIN,
        .ready = notifier_ready,
        .opaque = vq,
        .poll = notifier_poll,
        .polling = notifier_polling,
    };
    vq->left_at = 0;
    int error = qd_loop_add(vq->loop, &vq->notifier);
    if (!error)
        vq->state = QD_VQ_ATTACHED;
    pthread_mutex_unlock(&vq->lock);
    return error;
}

static void detach_on_loop(void *arg)
{
    struct qd_vq *vq = arg;
    qd_loop_del(vq->loop, &vq->notifier);
    pthread_mutex_lock(&vq->lock);
    if (vq->ring.polled && qd_vring_set_polled(&vq->ring, false)) /* the driver was asked not to signal */
        qd_vq_serve(vq);
    serve_notifier(vq);
    vq->state = QD_VQ_STARTED;
    pthread_mutex_unlock(&vq->lock);
}

void qd_vq_detach(struct qd_vq *vq)
{
    if (vq->state == QD_VQ_ATTACHED)
        qd_loop_call(vq->loop, detach_on_loop, vq);
}

static void stop_on_loop(void *arg)
{
    struct qd_vq *vq = arg;
    pthread_mutex_lock(&vq->lock);
    qd_enter(vq, "stopping");
    if (vq->ops && vq->ops->stop)
        vq->ops->stop(vq);
    qd_leave();
    vq->state = QD_VQ_IDLE;
    pthread_mutex_unlock(&vq->lock);
}

void qd_vq_stop(struct qd_vq *vq)
{
    qd_vq_detach(vq);
    if (vq->state == QD_VQ_IDLE)
        return;
    if (vq->ops && vq->loop)
        qd_loop_call(vq->loop, stop_on_loop, vq);
    else
        stop_on_loop(vq);
}

/* Start on vq->loop, and wait for kicks through FD where that is one. */
static int start_and_attach(struct qd_vq *vq, int fd)
{
    int error = qd_vq_start(vq);
    if (error || fd < 0)
        return error;
    error = qd_vq_attach(vq, fd);
    if (error)
        qd_vq_stop(vq);
    return error;
}

int qd_vq_move(struct qd_vq *vq, struct qd_loop *loop)
{
    struct qd_loop *before = vq->loop;
    bool started = vq->state != QD_VQ_IDLE;
    int fd = vq->state == QD_VQ_ATTACHED ? vq->notifier.fd : QD_NO_FD;
    if (loop == before)
        return 0;
    /* A kick that was signalled is served by the old loop. One that comes from here on stays in the eventfd, where
     * the new loop finds it. */
    qd_vq_stop(vq);
    vq->loop = loop; /* nobody serves the queue, so nobody looks */
    if (!started)
        return 0;
    int error = start_and_attach(vq, fd);
    if (error) {
        vq->loop = before;
        if (start_and_attach(vq, fd))
            return error;
    }
    qd_vq_kick(vq); /* as after every start */
    return error;
}

/* --- the way back to the guest --- */

void qd_vq_set_irq_fd(struct qd_vq *vq, int fd)
{
    /* signals are sent under this lock: once it is ours, nobody is about to write the old fd */
    pthread_mutex_lock(&vq->lock);
    vq->irq_fd = fd;
    pthread_mutex_unlock(&vq->lock);
}

void qd_vq_signal(struct qd_vq *vq)
{
    vq->interrupts++;
    if (!__atomic_load_n(&vq->vdev->use_msix, __ATOMIC_ACQUIRE))
        qd_vdev_set_isr(vq->vdev, QD_ISR_QUEUE);
    else if (vq->irq_fd >= 0)
        signal_eventfd(vq->irq_fd);
}

void qd_vq_fail(struct qd_vq *vq, const char *why)
{
    qd_vring_break(&vq->ring, why);
    const char *none = NULL;
    /* the first reason wins; release: pairs with qd_vq_serve() and with the reader of the event */
    if (__atomic_compare_exchange_n(&vq->vdev->error, &none, why, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        qd_vdev_event(vq->vdev, QD_VDEV_EVENT_ERROR);
}
