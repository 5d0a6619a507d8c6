/* SPDX-License-Identifier: Apache-2.0
 *
 * A queue's own threads that run steps with plain, blocking calls. Made when there is work and nobody idle, they
 * stay until the queue stops. A finished step rings q->wake.
 */
#ifndef BLK_POOL_H
#define BLK_POOL_H

#include "blk.h"

struct blk_pool;

struct blk_pool *blk_pool_new(struct blk_queue *q); /* NULL: no memory. No thread yet */
void blk_pool_free(struct blk_pool *p);             /* nothing is in flight */
/* With vq->lock held: */
void blk_pool_queue(struct blk_pool *p, struct blk_req *req);
void blk_pool_submit(struct blk_pool *p); /* what was queued is on its way */
void blk_pool_reap(struct blk_pool *p);   /* blk_io_done() for all that is ready */
/* Any thread, no lock: has blk_pool_reap() something to do? */
bool blk_pool_ready(const struct blk_pool *p);

#endif
