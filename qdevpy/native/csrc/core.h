/* SPDX-License-Identifier: Apache-2.0
 *
 * What the core's files share and plugins do not see: Python's callbacks (cffi `extern "Python+C"`) and what
 * Python calls beside the public headers.
 */
#ifndef QD_CORE_H
#define QD_CORE_H

#include "qd_queue.h"

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
