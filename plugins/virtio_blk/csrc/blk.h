/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio-blk (virtio 1.2, section 5.2): requests on their way from a queue to
 * the host's file and back.
 *
 *   kick --pop--> blk_req --plug/merge--> at once, or engine --done--> blk_io_done --push--> one flush a batch
 *                    ^                                                     |
 *                    +-------- next step (short transfer, sync) <----------+
 *
 * request.c knows virtio and the steps of a request, merge.c what goes to the host in one piece, at_once.c what
 * needs no waiting, queue.c the queue; an engine knows how to run one step without blocking. Everything but an
 * engine's workers runs with vq->lock held.
 */
#ifndef BLK_H
#define BLK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "qd_queue.h"

#define BLK_SECTOR 512
#define BLK_ID_BYTES 20
#define BLK_FEW_IOV 4   /* buffers of a request that has no memory of its own for them */
#define BLK_PLUG 32     /* transfers that are looked at together, as QEMU's VIRTIO_BLK_MAX_MERGE_REQS */

/* Who runs a disk's steps. */
enum blk_aio { BLK_AIO_THREADS, BLK_AIO_URING, BLK_AIO_NATIVE, BLK_AIO_NULL };

/* What is counted apart, and the number of the event that reports its errors. */
enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZEROES, BLK_OPS };

/* What to do with a request that the host fails (QEMU: rerror, werror). */
enum blk_policy { BLK_REPORT, BLK_IGNORE, BLK_STOP, BLK_STOP_IF_FULL };

struct blk_counter {
    uint64_t requests;  /* finished, whatever the status */
    uint64_t bytes;     /* of those that succeeded */
    uint64_t errors;    /* that the host failed */
    uint64_t last_errno;
    uint64_t merged;    /* went to the host as a part of another */
};

/* One device's disk, shared by its queues; Python owns and fills it. */
struct blk_disk {
    int fd;
    int aio;               /* enum blk_aio; NULL: fd is not used, writes go nowhere */
    int readonly;
    int unmap;             /* discards reach the host */
    int on_read_error, on_write_error; /* enum blk_policy */
    int read_zeroes;       /* AIO_NULL: reads are zeros; else they leave the guest's buffers alone */
    int merging;           /* adjacent requests of a batch become one */
    int in_memory;         /* the file is memory (tmpfs): a transfer waits for nothing but its own copying */
    uint64_t offset;       /* bytes before the disk in the file */
    uint32_t block_size;   /* requests start at, and are, multiples of it */
    uint32_t mem_align;    /* of buffers, for O_DIRECT; 1: any */
    uint32_t max_discard;  /* sectors */
    uint32_t max_zeroes;   /* sectors */
    uint8_t serial[BLK_ID_BYTES];
    /* relaxed atomics from here on */
    uint64_t sectors;      /* capacity */
    int write_through;     /* a write is on stable storage when it completes */
    int no_punch, no_zero_range, no_nowait, no_dsync, no_fixed_file; /* what the host was found not to do */
    uint64_t invalid;      /* requests refused for what they asked */
    struct blk_counter counters[BLK_OPS];
};

/* One step, as the host is asked for it. */
enum blk_step { BLK_STEP_READ, BLK_STEP_WRITE, BLK_STEP_SYNC, BLK_STEP_ALLOCATE };

struct blk_io {
    enum blk_step step;
    int flags;             /* RWF_ or FALLOC_FL_ */
    const struct iovec *iov;
    unsigned niov;
    uint64_t offset;
    uint64_t length;       /* ALLOCATE only */
};

/* Small, since a queue has as many as its ring has entries. */
struct blk_req {
    struct blk_queue *q;
    struct blk_req *next;  /* in whatever list it is */
    struct blk_req *merged; /* the one behind it on the disk, which the same step transfers; NULL: the last, or alone */
    int64_t result;        /* of the step: bytes, 0 or -errno */
    struct blk_io io;
    uint64_t offset, length, done; /* bytes */
    volatile uint8_t *status; /* guest memory */
    uint8_t *bounce;       /* aligned copy of the current part, or NULL */
    struct iovec part;     /* of the bounce buffer, or of the zeros */
    uint32_t in_len;       /* bytes that the driver let us write, for the used ring */
    uint16_t head;         /* of the chain */
    uint8_t op;            /* enum blk_op */
    uint8_t retries;
    bool allow_unmap;      /* write-zeroes with the unmap flag */
    bool sync;             /* a SYNC step comes last */
    unsigned niov;
    struct iovec *iov;     /* the data that is not done: within few or many */
    struct iovec *many;    /* allocated, where few is not enough, or NULL */
    struct iovec few[BLK_FEW_IOV];
};

struct blk_engine {
    int (*start)(struct blk_queue *q);          /* 0 or -errno */
    void (*queue)(struct blk_queue *q, struct blk_req *req); /* take a step; may call blk_io_done() */
    void (*submit)(struct blk_queue *q);        /* all that was queued is on its way; may call blk_io_done() */
    void (*reap)(struct blk_queue *q);          /* blk_io_done() for all that is ready */
    void (*wait)(struct blk_queue *q);          /* until reap() has something to do */
    /* NULL where q->wake is not rung for completions. Any thread, no lock: has reap() something to do? A look at memory */
    bool (*ready)(const struct blk_queue *q);
    void (*stop)(struct blk_queue *q);          /* nothing is in flight */
};

extern const struct blk_engine blk_threads;
extern const struct blk_engine blk_native;
int blk_native_probe(void); /* 0 or -errno */
extern const struct blk_engine blk_null;
#ifdef BLK_HAVE_URING
extern const struct blk_engine blk_uring;
int blk_uring_probe(void);  /* 0 or -errno */
#endif

struct blk_queue {
    struct blk_disk *disk;
    struct qd_vq *vq;
    const struct blk_engine *engine;
    void *engine_state;
    struct qd_fd wake;     /* eventfd in vq->loop: completions, or more to serve */
    struct blk_req *reqs;  /* as many as the ring has entries */
    struct blk_req *free;
    uint32_t fresh;        /* reqs[fresh..] were never used, their memory was never touched */
    uint32_t inflight;
    uint32_t pushed;       /* since the last flush */
    bool more;             /* chains were left in the ring; wake is signalled; atomic */
    bool again;            /* the engine could not take all; wake is signalled; atomic */
    bool polled;           /* the loop looks for itself and need not be woken; atomic */
    bool retry;            /* started again: what is held is tried again by the next kick, which every start brings */
    struct blk_req *held, **held_end; /* failed and wait for the machine to go on, the oldest first */
    unsigned n_held;
    unsigned misses, skip; /* at_once.c: reads in a row that would have waited; how many to pass by */
    uint64_t unseen;       /* at_once.c: bytes copied since the driver was last shown what is done */
    unsigned n_plugged;
    struct blk_req *plug[BLK_PLUG]; /* transfers of the batch that is being popped */
    struct qd_elem elem;   /* the chain that is being taken apart; last: big, and mostly untouched */
};

/* request.c, for queue.c and merge.c */
bool blk_accept(struct blk_queue *q, struct blk_req *req); /* the chain in q->elem is REQ's. False: the ring is broken */
void blk_retry(struct blk_req *req);          /* what was held */
void blk_req_release(struct blk_req *req);    /* its memory */
void blk_step_transfer(struct blk_req *req);  /* what is not done yet, on its own */

/* merge.c */
void blk_plug(struct blk_req *req);       /* a transfer's first step; goes on its way at blk_unplug() at the latest */
void blk_unplug(struct blk_queue *q);     /* merge what is adjacent, and send it on its way */
void blk_merged_done(struct blk_req *first, int64_t result); /* a step for several requests is over */

/* at_once.c */
void blk_issue(struct blk_req *req);      /* a step: now where that needs no waiting, else by the engine */

/* Tell taps how far a request is, and those that the same step transfers. */
static inline void blk_mark(struct blk_req *req, enum qd_mark stage)
{
    if (qd_vring_is_tapped(&req->q->vq->ring))
        for (; req; req = req->merged)
            qd_vring_mark(&req->q->vq->ring, req->head, stage);
}

/* for engines */
void blk_io_done(struct blk_req *req, int64_t result); /* may queue the next step */
int64_t blk_perform(const struct blk_disk *disk, const struct blk_io *io); /* blocks; bytes, 0 or -errno */
void blk_wake(struct blk_queue *q);                    /* any thread: have the loop see what ready() sees */
void blk_come_back(struct blk_queue *q);               /* have the loop reap and submit once more */
void blk_wait_for_wake(struct blk_queue *q);           /* blocks until somebody has rung q->wake */
void blk_resume(struct blk_queue *q);                  /* on the loop, without the lock: reap and go on */

/* for Python */
uint32_t blk_queue_held(const struct blk_queue *q); /* a glance: requests that wait for the machine to go on */
struct blk_queue *blk_queue_new(struct blk_disk *disk); /* NULL: no memory */
void blk_queue_free(struct blk_queue *q);               /* its virtqueue is IDLE */
const struct qd_queue_ops *blk_queue_ops(void);
int blk_in_memory(int fd);  /* for blk_disk */
int blk_probe(int aio);     /* 0, or -errno: -ENOSYS where it was not built in, or the kernel has none */

#endif
