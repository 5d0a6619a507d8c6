/* SPDX-License-Identifier: Apache-2.0
 *
 * A virtqueue with the thread that serves it and the way it interrupts.
 *
 *            kick (ioeventfd, vCPU exit, or by hand)
 *                 |
 *   guest ---> qd_vq ---> ops->kick(vq)  --pop--> device --push/publish--> qd_vq_interrupt()
 *                 |  under vq->lock, on the loop's thread or the vCPU's
 *
 * States, moved by Python under the VM lock only:
 *
 *   IDLE --qd_vq_start--> STARTED --qd_vq_attach(fd)--> ATTACHED
 *   ATTACHED --qd_vq_detach--> STARTED --qd_vq_stop--> IDLE
 *
 *   STARTED: a kick is served by whoever calls qd_vq_kick() (synchronous notify).
 *   ATTACHED: besides, the loop serves it when the host notifier fd is signalled, or when it polls (qd_loop.h)
 *   and finds something in the ring; meanwhile the driver is asked for no kicks.
 *
 * A plugin's module does not link against the core: the functions it calls
 * reach it through vq->api.
 */
#ifndef QD_QUEUE_H
#define QD_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "qd_loop.h"
#include "qd_vring.h"

struct qd_vq;
struct qd_vdev;
struct qd_taps;

/* What a native device does with a queue. All run with vq->lock held. */
struct qd_queue_ops {
    /* Serve everything that is available. Must not block on the guest. */
    void (*kick)(struct qd_vq *vq);
    /* Optional. Before the first kick, on the caller's thread: acquire what the queue needs,
     * qd_loop_add() completion fds to vq->loop. 0 or -errno (the queue stays IDLE). */
    int (*start)(struct qd_vq *vq);
    /* Optional. On return no request is in flight and no fd of the device is in vq->loop.
     * Runs on the loop's thread. A signalled kick has been handled before. */
    void (*stop)(struct qd_vq *vq);
};

/* Functions of the core for plugins' modules. */
struct qd_api {
    uint32_t version;
    /* interrupt the guest for this queue, no questions asked */
    void (*signal)(struct qd_vq *vq);
    /* the ring is broken or the driver misbehaves: device NEEDS_RESET, VM goes on */
    void (*fail)(struct qd_vq *vq, const char *why);
    int (*loop_add)(struct qd_loop *loop, struct qd_fd *handler);
    void (*loop_del)(struct qd_loop *loop, struct qd_fd *handler);
    /* Tell Python something happened (vdev->event_fd): the main loop calls the device's native_event(bits). */
    void (*event)(struct qd_vdev *vdev, uint64_t bits);
    /* Any thread, never waits: handler->events has changed. ready() may still run once for the old ones. */
    int (*loop_mod)(struct qd_loop *loop, struct qd_fd *handler);
    /* QD_ISR_CONFIG or QD_ISR_QUEUE, and the INTx line with it */
    void (*set_isr)(struct qd_vdev *vdev, uint8_t bits);
    /* the user's aio-max-batch of the I/O thread; 0: none */
    uint64_t (*loop_max_batch)(struct qd_loop *loop);
    /* qd_vq_flush() where somebody looks on (qd_tap.h) */
    void (*flush_tapped)(struct qd_vq *vq);
};

enum qd_vq_state { QD_VQ_IDLE, QD_VQ_STARTED, QD_VQ_ATTACHED };

struct qd_vq {
    struct qd_vring ring;
    pthread_mutex_t lock;         /* ring and handler: held by whoever serves the queue */
    const struct qd_api *api;
    struct qd_vdev *vdev;
    struct qd_loop *loop;         /* serves it when attached; completions go there always */
    const struct qd_queue_ops *ops; /* NULL: a Python handler serves it */
    void *opaque;                 /* the device's state of this queue */
    uint16_t index;
    enum qd_vq_state state;
    int irq_fd;                   /* eventfd of the queue's MSI-X vector; -1: none; read atomically */
    struct qd_fd notifier;        /* the host notifier while attached */
    uint64_t left_at;             /* ring.popped + 1 where the loop's last call of kick() left all there was; else 0 */
    /* counters for the user's eyes, written under the lock; requests are in ring.popped */
    uint64_t kicks_ioeventfd, kicks_sync, kicks_polled, interrupts;
    struct qd_taps *taps;         /* who looks on, and what they keep (qd_tap.h); NULL: nobody ever did */
};

#define QD_VDEV_QUEUES 1024 /* as QEMU's VIRTIO_QUEUE_MAX */
#define QD_NO_FD (-1)

struct qd_vdev {
    const struct qd_mem *mem;
    uint16_t n_queues;
    struct qd_vq *queues[QD_VDEV_QUEUES]; /* never move: handlers keep pointers to them */
    uint64_t features;            /* negotiated; stable while any queue is STARTED */
    pthread_mutex_t isr_lock;     /* orders ISR bits and the INTx level between I/O threads and vCPUs */
    uint8_t isr;
    bool use_msix;                /* false: INTx and ISR; read atomically */
    /* raise or lower the INTx line; called with isr_lock held */
    void (*set_intx)(void *opaque, int level);
    void *intx_opaque;
    int event_fd;                 /* eventfd: see events */
    uint64_t events;              /* device bits; bit 63: error is set */
    const char *error;            /* why NEEDS_RESET, first one wins */
    const char *label;            /* the device as its user knows it, and where its code is from; or NULL */
};

#define QD_VDEV_EVENT_ERROR (1ull << 63)
#define QD_ISR_QUEUE 1
#define QD_ISR_CONFIG 2

/* Publish what was pushed and interrupt if the driver wants it. */
static inline void qd_vq_flush(struct qd_vq *vq)
{
    if (qd_vring_is_tapped(&vq->ring)) {
        vq->api->flush_tapped(vq);
        return;
    }
    qd_vring_publish(&vq->ring);
    if (qd_vring_should_interrupt(&vq->ring))
        vq->api->signal(vq);
}

/* Report a broken ring, once. */
static inline void qd_vq_check(struct qd_vq *vq)
{
    if (vq->ring.error)
        vq->api->fail(vq, vq->ring.error);
}

/* --- core only (a plugin reaches what it needs through qd_api) --- */
struct qd_vdev *qd_vdev_new(const struct qd_mem *mem); /* NULL and errno */
void qd_vdev_free(struct qd_vdev *vdev); /* all queues IDLE */
/* The next queue; NULL where there are QD_VDEV_QUEUES. Before the device is realized. */
struct qd_vq *qd_vdev_add_queue(struct qd_vdev *vdev);
struct qd_vq *qd_vdev_queue(struct qd_vdev *vdev, uint16_t index); /* NULL beyond the last */

int qd_vq_start(struct qd_vq *vq);             /* ring must be set up; 0 or -errno */
int qd_vq_attach(struct qd_vq *vq, int fd);    /* native queues only; 0 or -errno; makes FD non-blocking */
void qd_vq_detach(struct qd_vq *vq);           /* synchronous; a signalled kick is served before it returns */
void qd_vq_stop(struct qd_vq *vq);             /* synchronous; drains */
/* Another loop serves the queue from now on, also while the driver uses it: what is in flight is drained, no kick is
 * lost, and the handler's own fds go along (ops->stop, ops->start). 0, or -errno: it is where it was, or IDLE. */
int qd_vq_move(struct qd_vq *vq, struct qd_loop *loop);
/* Serve now, on this thread. true: done natively; false: the queue is Python's, or not STARTED */
bool qd_vq_kick(struct qd_vq *vq);
/* On return nobody writes the old fd any more. Not with vq->lock held. */
void qd_vq_set_irq_fd(struct qd_vq *vq, int fd);
void qd_vq_signal(struct qd_vq *vq);
void qd_vq_fail(struct qd_vq *vq, const char *why);
void qd_vdev_event(struct qd_vdev *vdev, uint64_t bits);
uint64_t qd_vdev_take_events(struct qd_vdev *vdev);         /* drains event_fd; bits since the last call */
void qd_vdev_set_isr(struct qd_vdev *vdev, uint8_t bits);   /* raise: sets bits, asserts INTx */
uint8_t qd_vdev_read_isr(struct qd_vdev *vdev);             /* read-to-clear: deasserts INTx */
/* MSI-X in use or not; INTx follows: its level is ISR != 0 && !use_msix */
void qd_vdev_set_msix(struct qd_vdev *vdev, bool use_msix);
void qd_vdev_set_intx(struct qd_vdev *vdev, void (*set_intx)(void *opaque, int level), void *opaque);

#endif
