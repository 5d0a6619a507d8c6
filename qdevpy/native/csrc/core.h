/* SPDX-License-Identifier: Apache-2.0
 *
 * What the core's files share and plugins do not see: Python's callbacks (cffi `extern "Python+C"`) and what
 * Python calls beside the public headers.
 */
#ifndef QD_CORE_H
#define QD_CORE_H

#include "fault.h"
#include "qd_queue.h"
#include "qd_tap.h"

/* Take the GIL; the VM lock is held. HANDLE: the Mapping. */
uint64_t qd_py_read(void *handle, uint64_t offset, unsigned size);
void qd_py_write(void *handle, uint64_t offset, uint64_t value, unsigned size);
/* With isr_lock held. HANDLE: the VDev. */
void qd_py_set_intx(void *handle, int level);

/* qd_vring_setup() for a queue. 0, or -1 with vq->ring.error set. */
int qd_vq_setup(struct qd_vq *vq, uint16_t num, uint64_t desc, uint64_t avail, uint64_t used);
/* Forget ring positions and a device's error: reset. */
void qd_vq_forget(struct qd_vq *vq);
void qd_vdev_set_error(struct qd_vdev *vdev, const char *why);
/* For queues that Python serves: pop one chain, keeping the driver's kicks on where KICKS. As qd_vring_pop(). */
int qd_vq_pop(struct qd_vq *vq, struct qd_elem *elem, bool kicks);
/* ELEM as numbers, which Python takes over in one piece: head, out_num, out_len, in_len, then address and length of each
 * buffer; how many. WORDS has room for QD_ELEM_WORDS and two for each of QD_VRING_MAX buffers. */
#define QD_ELEM_WORDS 4
uint32_t qd_elem_words(const struct qd_elem *elem, uint64_t *words);
void qd_vq_push(struct qd_vq *vq, uint16_t head, uint32_t len);
bool qd_vq_publish(struct qd_vq *vq); /* true: the driver wants an interrupt */
bool qd_vq_set_kicks(struct qd_vq *vq, bool enabled); /* true: entries are there already */

/* A kick that Python serves, for the counter and the taps. */
void qd_vq_count_kick(struct qd_vq *vq, enum qd_kick way);

/* queue.c, for tap.c: have the C handler serve what there is; with vq->lock held. */
void qd_vq_serve(struct qd_vq *vq);

/* tap.c, for queue.c and pyqueue.c. With vq->lock held: */
void qd_taps_kicked(struct qd_vq *vq, enum qd_kick way);
bool qd_taps_publish(struct qd_vq *vq); /* as qd_vq_publish(), of a tapped queue */
void qd_taps_flush(struct qd_vq *vq);   /* as qd_vq_flush() */
/* Without it: */
void qd_taps_forget(struct qd_vq *vq);
void qd_taps_free(struct qd_vq *vq);

/* Taps in Python (tap.py); with vq->lock held. TAP->opaque: a cffi handle of the QueueTap. */
void qd_py_kicked(struct qd_tap *tap, struct qd_vq *vq, enum qd_kick way);
bool qd_py_popped(struct qd_tap *tap, struct qd_vq *vq, const struct qd_elem *e);
bool qd_py_pushed(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, uint32_t *len);
void qd_py_decided(struct qd_tap *tap, struct qd_vq *vq, bool *interrupt);
void qd_py_marked(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, enum qd_mark stage);
void qd_py_forgotten(struct qd_tap *tap, struct qd_vq *vq);

/* For the main loop, where queues that Python serves are on it (pywait.c): epoll_wait() that polls for up to MAX_NS before
 * it sleeps. FOUND gets descriptor and events of up to QD_WAIT_MAX; how many numbers that is. */
#define QD_WAIT_MAX 64
struct qd_wait;
struct qd_wait *qd_wait_new(uint64_t max_ns); /* NULL: no memory */
void qd_wait_free(struct qd_wait *wait);
int qd_wait(struct qd_wait *wait, int epoll, int timeout_ms, uint64_t *found);

/* A handler that completes everything at once with length 0: for tests and benchmarks. */
extern const struct qd_queue_ops *const qd_null_ops;

#endif
