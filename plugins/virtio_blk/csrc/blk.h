/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio-blk (virtio 1.2, section 5.2): requests on their way from a queue to
 * the host's file and back.
 *
 *   kick --pop--> blk_req --queue/submit--> engine --done--> blk_io_done --push--> one flush a batch
 *                    ^                                            |
 *                    +---- next step (short transfer, sync) <-----+
 *
 * request.c knows virtio and the steps of a request, queue.c the queue; an engine knows how to run
 * one step without blocking. Everything but an engine's workers runs with
 * vq->lock held.
 */
#ifndef BLK_H
#define BLK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "qd_queue.h"

#define BLK_SECTOR 512
#define BLK_ID_BYTES 20

/* What is counted apart, and the number of the event that reports its errors. */
enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZEROES, BLK_OPS };

/* What to do with a request that the host fails (QEMU: rerror, werror). */
enum blk_policy { BLK_REPORT, BLK_IGNORE, BLK_STOP, BLK_STOP_IF_FULL };

struct blk_counter {
    uint64_t requests;  /* finished, whatever the status */
    uint64_t bytes;     /* of those that succeeded */
    uint64_t errors;    /* that the host failed */
    uint64_t last_errno;
};

/* One device's disk, shared by its queues; Python owns and fills it. */
struct blk_disk {
    int fd;
    int use_uring;
    int readonly;
    int unmap;             /* discards reach the host */
    int on_read_error, on_write_error; /* enum blk_policy */
    int null;              /* no file: fd is not used, writes go nowhere */
    int read_zeroes;       /* null: reads are zeros; else they leave the guest's buffers alone */
    uint64_t offset;       /* bytes before the disk in the file */
    uint32_t block_size;   /* requests start at, and are, multiples of it */
    uint32_t mem_align;    /* of buffers, for O_DIRECT; 1: any */
    uint32_t max_discard;  /* sectors */
    uint32_t max_zeroes;   /* sectors */
    uint8_t serial[BLK_ID_BYTES];
    /* relaxed atomics from here on */
    uint64_t sectors;      /* capacity */
    int write_through;     /* a write is on stable storage when it completes */
    int no_punch, no_zero_range, no_nowait, no_dsync; /* what the host was found not to do */
    uint64_t invalid;      /* requests refused for what they asked */
    struct blk_counter counters[BLK_OPS];
};

/* One step, as the host is asked for it. */
enum blk_step { BLK_STEP_READ, BLK_STEP_WRITE, BLK_STEP_SYNC, BLK_STEP_ALLOCATE };

struct blk_io {
    enum blk_step step;
    int flags;             /* RWF_ or FALLOC_FL_ */
    struct iovec *iov;
    unsigned niov;
    uint64_t offset;
    uint64_t length;       /* ALLOCATE only */
};

struct blk_req {
    struct blk_queue *q;
    struct blk_req *next;  /* in whatever list it is */
    int64_t result;        /* of the step: bytes, 0 or -errno */
    struct blk_io io;
    enum blk_op op;
    uint8_t retries;
    bool allow_unmap;      /* write-zeroes with the unmap flag */
    bool sync;             /* a SYNC step comes last */
    uint64_t offset, length, done; /* bytes */
    volatile uint8_t *status; /* guest memory */
    uint8_t *bounce;       /* aligned copy of the current part, or NULL */
    struct iovec part;     /* of the bounce buffer */
    struct iovec *iov;     /* the data, within elem */
    unsigned niov;
    struct qd_elem elem;   /* last: big, and mostly untouched */
};

struct blk_engine {
    int (*start)(struct blk_queue *q);          /* 0 or -errno */
    void (*queue)(struct blk_queue *q, struct blk_req *req); /* take a step; may call blk_io_done() */
    void (*submit)(struct blk_queue *q);        /* all that was queued is on its way; may call blk_io_done() */
    void (*reap)(struct blk_queue *q);          /* blk_io_done() for all that is ready */
    void (*wait)(struct blk_queue *q);          /* until reap() has something to do */
    void (*stop)(struct blk_queue *q);          /* nothing is in flight */
};

extern const struct blk_engine blk_threads;
extern const struct blk_engine blk_null;
#ifdef BLK_HAVE_URING
extern const struct blk_engine blk_uring;
#endif

struct blk_queue {
    struct blk_disk *disk;
    struct qd_vq *vq;
    const struct blk_engine *engine;
    void *engine_state;
    struct qd_fd wake;     /* eventfd in vq->loop: completions, or more to serve */
    struct blk_req *reqs;  /* as many as the ring has entries, and one */
    struct blk_req *free;
    uint32_t fresh;        /* reqs[fresh..] were never used, their memory was never touched */
    uint32_t inflight;
    uint32_t pushed;       /* since the last flush */
    bool more;             /* chains were left in the ring; wake is signalled */
    bool retry;            /* started again: what is held is tried again by the next kick, which every start brings */
    struct blk_req *held, **held_end; /* failed and wait for the machine to go on, the oldest first */
    unsigned n_held;
};

/* request.c for queue.c: take a popped chain for a request. False: the ring is broken */
bool blk_accept(struct blk_queue *q, struct blk_req *req);
void blk_retry(struct blk_req *req); /* request.c for queue.c: what was held */

/* for engines */
void blk_io_done(struct blk_req *req, int64_t result); /* may queue the next step */
void blk_wake(struct blk_queue *q);                    /* any thread: have the loop come back */
void blk_resume(struct blk_queue *q);                  /* on the loop, without the lock: reap and go on */

/* for Python */
uint32_t blk_queue_held(const struct blk_queue *q); /* a glance: requests that wait for the machine to go on */
struct blk_queue *blk_queue_new(struct blk_disk *disk); /* NULL: no memory */
void blk_queue_free(struct blk_queue *q);               /* its virtqueue is IDLE */
const struct qd_queue_ops *blk_queue_ops(void);
int blk_uring_probe(void); /* 0, or -errno: -ENOSYS where it was not built in */

#endif
