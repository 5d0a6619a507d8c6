/* SPDX-License-Identifier: Apache-2.0 */
#include "blk.h"

#define CONFIG_CAPACITY 0
#define RING_LIMIT 256

bool blk_start(struct blk *b)
{
    struct virtio *v = &b->virtio;
    if (!virtio_negotiate(v, BLK_F_RO | BLK_F_FLUSH | BLK_F_WRITE_ZEROES))
        return false;
    b->read_only = v->features & BLK_F_RO;
    b->sectors = virtio_config64(v, CONFIG_CAPACITY);
    b->requests = allocate(sizeof(struct blk_request) * BLK_DEPTH, 64);
    b->ring = virtio_queue(v, 0, RING_LIMIT);
    if (b->ring == NULL)
        return false;
    virtio_driver_ok(v);
    return true;
}

struct blk_request *blk_offer(struct blk *b, u32 type, u64 sector, void *data, u32 length)
{
    struct blk_request *request = NULL;
    for (unsigned i = 0; i < BLK_DEPTH && request == NULL; i++)
        if (!b->requests[i].busy)
            request = &b->requests[i];
    if (request == NULL)
        return NULL;
    request->header.type = type;
    request->header.reserved = 0;
    request->header.sector = sector;
    request->status = BLK_LOST;
    bool from_device = type == BLK_READ || type == BLK_GET_ID;
    struct segment segments[3] = {{&request->header, sizeof(request->header)}};
    unsigned count = 1;
    if (data != NULL)
        segments[count++] = (struct segment){data, length};
    segments[count++] = (struct segment){(void *)&request->status, 1};
    unsigned in = data != NULL && from_device ? 2 : 1;
    if (!vring_offer(b->ring, segments, count - in, in, request))
        return NULL;
    request->busy = true;
    return request;
}

struct blk_request *blk_take(struct blk *b)
{
    struct blk_request *request = vring_take(b->ring, NULL);
    if (request != NULL)
        request->busy = false;
    return request;
}

u8 blk_do(struct blk *b, u32 type, u64 sector, void *data, u32 length)
{
    struct blk_request *request = blk_offer(b, type, sector, data, length);
    if (request == NULL)
        return BLK_LOST;
    vring_kick(b->ring);
    if (!wait_for(vring_has_used(b->ring)) || blk_take(b) != request)
        return BLK_LOST;
    return request->status;
}
