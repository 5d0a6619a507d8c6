/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk (virtio 1.2, 5.2); its first queue. */
#ifndef DEMO_BLK_H
#define DEMO_BLK_H

#include "virtio.h"

#define SECTOR 512u
#define BLK_DEPTH 64u

/* 5.2.6 */
enum {
    BLK_READ = 0,
    BLK_WRITE = 1,
    BLK_FLUSH = 4,
    BLK_GET_ID = 8,
    BLK_DISCARD = 11,
    BLK_WRITE_ZEROES = 13,
};
enum { BLK_OK = 0, BLK_IOERR = 1, BLK_UNSUPPORTED = 2, BLK_LOST = 0xff };

#define BLK_F_RO (1ull << 5)
#define BLK_F_FLUSH (1ull << 9)
#define BLK_F_MQ (1ull << 12)
#define BLK_F_WRITE_ZEROES (1ull << 14)

#define BLK_ID_LENGTH 20u

struct blk_range { /* 5.2.6.2: struct virtio_blk_discard_write_zeroes */
    u64 sector;
    u32 sectors, flags;
};

struct blk_header { /* 5.2.6: struct virtio_blk_req, what the device reads first */
    u32 type, reserved;
    u64 sector;
};

struct blk_request { /* one in flight; the device reads and writes it */
    struct blk_header header;
    volatile u8 status;
    bool busy;
};

struct blk {
    struct virtio virtio;
    struct vring *ring;
    bool read_only;
    u64 sectors;
    struct blk_request *requests; /* BLK_DEPTH of them */
};

bool blk_start(struct blk *b);

/* Offer a request without kicking; DATA may be NULL. NULL: too many in flight. */
struct blk_request *blk_offer(struct blk *b, u32 type, u64 sector, void *data, u32 length);

/* Take a finished request; NULL: none has finished. It is free for the next offer at once. */
struct blk_request *blk_take(struct blk *b);

/* Offer, kick and wait; the request's status, BLK_LOST if it never came back. */
u8 blk_do(struct blk *b, u32 type, u64 sector, void *data, u32 length);

#endif
