/* SPDX-License-Identifier: Apache-2.0
 *
 * Request merging (QEMU: request-merging): transfers that were popped together and lie behind each other on the
 * disk go to the host as one.
 *
 * A host error, or a short transfer, says nothing about who of them is to blame: what one step did not do for
 * certain, each request tries again on its own, and has its own result.
 */
#include <stdlib.h>

#include "blk.h"

/* Where one more buffer, or one more byte, saves nothing; with an image in memory that is sooner: it saves a system
 * call only, and keeps the driver from what is copied already. */
#define MERGE_SEGMENTS 256
#define MERGE_BYTES (256u << 10)
#define MERGE_BYTES_IN_MEMORY (64u << 10)

void blk_plug(struct blk_req *req)
{
    struct blk_queue *q = req->q;
    if (!q->disk->merging)
        return blk_issue(req);
    q->plug[q->n_plugged++] = req;
    if (q->n_plugged == BLK_PLUG)
        blk_unplug(q);
}

static bool is_before(const struct blk_req *a, const struct blk_req *b)
{
    return a->io.step != b->io.step ? a->io.step < b->io.step : a->offset < b->offset;
}

/* By insertion: they are few, and drivers mostly sorted them already. */
static void sort(struct blk_req **reqs, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        struct blk_req *req = reqs[i];
        unsigned to = i;
        for (; to && is_before(req, reqs[to - 1]); to--)
            reqs[to] = reqs[to - 1];
        reqs[to] = req;
    }
}

/* How many from the first on go in one piece; NIOV and BYTES are their sums. */
static unsigned find_run(struct blk_req **reqs, unsigned n, unsigned *niov, uint64_t *bytes)
{
    const uint64_t limit = reqs[0]->q->disk->in_memory ? MERGE_BYTES_IN_MEMORY : MERGE_BYTES;
    unsigned i = 1;
    *niov = reqs[0]->niov;
    *bytes = reqs[0]->length;
    for (; i < n; i++) {
        const struct blk_req *last = reqs[i - 1], *req = reqs[i];
        if (req->io.step != last->io.step || req->io.flags != last->io.flags || req->offset != last->offset + last->length ||
            *niov + req->niov > MERGE_SEGMENTS || *bytes + req->length > limit)
            break;
        *niov += req->niov;
        *bytes += req->length;
    }
    return i;
}

/* The buffers of all, in IOV; what is contiguous in memory, too, is one. Returns how many. */
static unsigned gather(struct blk_req **reqs, unsigned n, struct iovec *iov)
{
    unsigned to = 0;
    for (unsigned i = 0; i < n; i++)
        for (unsigned from = 0; from < reqs[i]->niov; from++) {
            const struct iovec *part = &reqs[i]->iov[from];
            if (to && (char *)iov[to - 1].iov_base + iov[to - 1].iov_len == part->iov_base)
                iov[to - 1].iov_len += part->iov_len;
            else
                iov[to++] = *part;
        }
    return to;
}

/* Send N requests on their way as the first one's step. False: no memory. */
static bool merge(struct blk_req **reqs, unsigned n, unsigned niov, uint64_t bytes)
{
    struct blk_req *first = reqs[0];
    struct iovec *iov = malloc(niov * sizeof(*iov));
    if (!iov)
        return false;
    first->io.niov = gather(reqs, n, iov);
    first->io.iov = iov;
    first->io.length = bytes;
    for (unsigned i = 0; i + 1 < n; i++)
        reqs[i]->merged = reqs[i + 1];
    __atomic_fetch_add(&first->q->disk->counters[first->op].merged, n - 1, __ATOMIC_RELAXED);
    blk_issue(first);
    return true;
}

/* Steps that go to the engine before it is told to submit them: the I/O thread's aio-max-batch, where it is less. */
static uint64_t max_batch(const struct blk_queue *q)
{
    uint64_t chosen = q->vq->api->loop_max_batch(q->vq->loop);
    return chosen && chosen < BLK_PLUG ? chosen : BLK_PLUG;
}

void blk_unplug(struct blk_queue *q)
{
    struct blk_req **reqs = q->plug, **end = reqs + q->n_plugged;
    uint64_t limit = max_batch(q), issued = 0;
    q->n_plugged = 0; /* what is issued here is not plugged again */
    sort(reqs, (unsigned)(end - reqs));
    while (reqs < end) {
        unsigned niov;
        uint64_t bytes;
        unsigned n = find_run(reqs, (unsigned)(end - reqs), &niov, &bytes);
        if (n == 1 || !merge(reqs, n, niov, bytes)) {
            blk_issue(reqs[0]);
            n = 1;
        }
        reqs += n;
        if (++issued % limit == 0)
            q->engine->submit(q);
    }
}

void blk_merged_done(struct blk_req *first, int64_t result)
{
    free((void *)first->io.iov);
    for (struct blk_req *req = first, *next; req; req = next) {
        next = req->merged;
        req->merged = NULL;
        if (result >= (int64_t)req->length) {
            result -= (int64_t)req->length;
            blk_io_done(req, (int64_t)req->length);
        } else {
            result = 0;
            blk_step_transfer(req);
        }
    }
}
