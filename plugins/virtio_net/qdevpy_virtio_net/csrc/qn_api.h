/* SPDX-License-Identifier: Apache-2.0
 *
 * What Python calls. One thread at a time, with the VM lock held.
 */
#ifndef QN_API_H
#define QN_API_H

#include "qn.h"

struct qn_dev *qn_dev_new(void);
void qn_dev_free(struct qn_dev *dev); /* after its queues */
void qn_dev_set_link(struct qn_dev *dev, bool up);
int qn_dev_set_filter(struct qn_dev *dev, const struct qn_filter *filter); /* 0 or -EINVAL */

struct qn_queue *qn_queue_new(struct qn_dev *dev, bool rx); /* NULL: out of memory or descriptors */
void qn_queue_free(struct qn_queue *q);                     /* stopped */
void qn_queue_bind(struct qn_queue *q, uintptr_t vq);       /* struct qd_vq *; before everything below */

/* Connect with the host: a duplicate of FD is kept. DEST: where datagrams go, or "" for a connected socket.
 * The queue is unplugged. 0 or -errno. */
int qn_plug(struct qn_queue *q, int kind, int fd, bool vnet_header, const char *dest, size_t dest_len);
/* Synchronous: on return nothing of the old fd is in use. */
void qn_unplug(struct qn_queue *q);
bool qn_is_gone(struct qn_queue *q);
/* tx: send a frame of LEN bytes to the host's side; false: dropped. */
bool qn_send(struct qn_queue *q, const uint8_t *frame, size_t len);
void qn_get_counters(struct qn_queue *q, struct qn_counters *to);

/* struct qd_queue_ops * for NativeHandler; opaque is the struct qn_queue *. */
uintptr_t qn_rx_ops(void);
uintptr_t qn_tx_ops(void);

#endif
