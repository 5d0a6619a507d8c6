/* SPDX-License-Identifier: Apache-2.0
 *
 * Chains that are popped together, so that one system call can serve them all.
 *
 * tx: | length | frame ... | length | frame ... |      the length for streams only
 * rx: | header | frame ... | spill | header | ... |    the header apart where the host has none; the spill is set
 *                                                      when a frame is read, and empty in the middle of one
 */
#include <arpa/inet.h>

#include "qn.h"

bool qn_has_room(const struct qn_batch *batch)
{
    return batch->n < QN_BATCH && batch->iovs + QD_VRING_MAX + 3 <= QN_BATCH_IOV;
}

int qn_pop_readable(struct qn_queue *q)
{
    struct qn_batch *b = &q->batch;
    struct qd_elem *e = &q->elem;

    int r = qd_vring_pop(&q->vq->ring, e);
    if (r <= 0)
        return r;
    if (e->out_len < q->hdr_len)
        return qd_vring_break(&q->vq->ring, "transmit buffer shorter than its header");
    size_t skip = q->vnet_header ? 0 : q->hdr_len;
    struct qn_chain *c = &b->chain[b->n++];
    *c = (struct qn_chain){.head = e->head, .first = b->iovs, .len = e->out_len - q->hdr_len};
    if (c->len < QN_FRAME_MIN)
        c->drop = &q->counters.too_short;
    else if (c->len > QN_FRAME_MAX)
        c->drop = &q->counters.too_long;
    c->wire_len = htonl(c->len);
    b->iov[c->first] = (struct iovec){&c->wire_len, q->kind == QN_STREAM ? sizeof(c->wire_len) : 0};
    c->n = 1 + qd_iov_slice(e->iov, e->out_num, skip, e->out_len - skip, b->iov + c->first + 1);
    b->iovs += c->n;
    return 1;
}

int qn_pop_for_frame(struct qn_queue *q)
{
    int r = qd_vring_pop(&q->vq->ring, &q->elem);
    if (r == 1 && q->elem.in_len < q->hdr_len)
        return qd_vring_break(&q->vq->ring, "receive buffer shorter than a header");
    return r;
}

int qn_pop_writable(struct qn_queue *q)
{
    struct qn_batch *b = &q->batch;
    struct qd_elem *e = &q->elem;

    int r = qn_pop_for_frame(q);
    if (r <= 0)
        return r;
    size_t start = q->vnet_header ? 0 : q->hdr_len;
    const struct iovec *iov = e->iov + e->out_num;
    struct qn_chain *c = &b->chain[b->n++];
    *c = (struct qn_chain){.head = e->head, .first = b->iovs, .len = e->in_len};
    c->cut = qd_iov_slice(iov, e->in_num, 0, start, b->iov + c->first);
    c->n = c->cut + qd_iov_slice(iov, e->in_num, start, e->in_len - start, b->iov + c->first + c->cut);
    if (c->n - c->cut >= QN_IOV_MAX)
        c->len = start; /* too many pieces for one call: all of the frame goes by way of the spill */
    b->iov[c->first + c->n] = (struct iovec){NULL, 0};
    b->iovs += c->n + 1;
    return 1;
}

/* An empty batch starts from the front again. */
static void rewind_empty(struct qn_batch *b)
{
    if (b->next == b->n)
        b->next = b->n = b->iovs = 0;
}

void qn_push_next(struct qn_queue *q, uint32_t len)
{
    qd_vring_push(&q->vq->ring, q->batch.chain[q->batch.next++].head, len);
    rewind_empty(&q->batch);
}

void qn_give_back(struct qn_queue *q, unsigned keep)
{
    struct qn_batch *b = &q->batch;
    for (; b->n > b->next + keep; b->n--)
        qd_vring_unpop(&q->vq->ring);
    rewind_empty(b);
}
