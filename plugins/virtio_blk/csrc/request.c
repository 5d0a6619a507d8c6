/* SPDX-License-Identifier: Apache-2.0
 *
 * One request: what it asks for, the steps that it takes, and its status.
 */
#define _GNU_SOURCE
#include "blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* 5.2.6 Device Operation */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_FLUSH_OUT = 5, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
#define F_DISCARD 13
#define F_WRITE_ZEROES 14
#define F_VERSION_1 32
#define WRITE_ZEROES_UNMAP 1u

/* A bounce buffer's size bounds what a guest can make us allocate: this much a request. */
#define BOUNCE_BYTES (128u << 10)
#define ZERO_BYTES (64u << 10)
#define ZERO_PARTS 16

struct header {
    uint32_t type, ioprio;
    uint64_t sector;
};

struct range {
    uint64_t sector;
    uint32_t sectors, flags;
};

static uint8_t zeros[ZERO_BYTES] __attribute__((aligned(4096)));

#define load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define add(p, n) ((void)__atomic_fetch_add(p, n, __ATOMIC_RELAXED))

/* --- the end of a request */

void blk_req_release(struct blk_req *req)
{
    free(req->bounce);
    free(req->many);
    req->bounce = NULL;
    req->many = NULL;
}

static void finish(struct blk_req *req, uint8_t status)
{
    struct blk_queue *q = req->q;
    if (req->bounce || req->many)
        blk_req_release(req);
    *req->status = status;
    /* All of the writable part, as QEMU reports it: the status is its last byte. */
    qd_vring_push(&q->vq->ring, req->head, req->in_len);
    req->next = q->free;
    q->free = req;
    q->inflight--;
    q->pushed++;
}

/* The request waits for the machine to go on, as it is: its chain cannot be read once more, since in a packed ring
 * used descriptors may have overwritten it (2.8). */
static void hold(struct blk_req *req)
{
    struct blk_queue *q = req->q;
    req->next = NULL;
    *q->held_end = req;
    q->held_end = &req->next;
    store(&q->n_held, q->n_held + 1); /* read without the lock by who counts what is in flight */
    q->inflight--;
}

/* The request itself is wrong, or not for this disk. */
static void refuse(struct blk_req *req, uint8_t status)
{
    add(&req->q->disk->invalid, 1);
    finish(req, status);
}

static void succeed(struct blk_req *req)
{
    struct blk_counter *c = &req->q->disk->counters[req->op];
    add(&c->requests, 1);
    add(&c->bytes, req->length);
    finish(req, S_OK);
}

/* Whether the machine stops, so that somebody makes room or repairs the disk, and the request is tried again. */
static bool stops(int policy, int error)
{
    return policy == BLK_STOP || (policy == BLK_STOP_IF_FULL && error == ENOSPC);
}

/* Python hears of what the host refused (many at once are one event), tells who listens, and stops the machine. */
static void count_error(struct blk_req *req, int error)
{
    struct blk_queue *q = req->q;
    struct blk_counter *c = &q->disk->counters[req->op];
    add(&c->errors, 1);
    store(&c->last_errno, (uint64_t)error);
    q->vq->api->event(q->vq->vdev, 1ull << req->op);
}

static void finish_failed(struct blk_req *req, uint8_t status)
{
    add(&req->q->disk->counters[req->op].requests, 1);
    finish(req, status);
}

static void fail(struct blk_req *req, int error)
{
    const struct blk_disk *disk = req->q->disk;
    int policy = req->op == BLK_READ ? disk->on_read_error : disk->on_write_error;
    count_error(req, error);
    if (stops(policy, error))
        hold(req);
    else
        finish_failed(req, policy == BLK_IGNORE ? S_OK : S_IOERR);
}

/* --- the steps of a request */

static void step_sync(struct blk_req *req)
{
    req->io = (struct blk_io){.step = BLK_STEP_SYNC};
    blk_issue(req);
}

/* The request's own work is done; with the write cache off it is not over before that is stable. */
static void complete(struct blk_req *req)
{
    if (req->sync) {
        req->sync = false;
        step_sync(req);
    } else {
        succeed(req);
    }
}

static void step_allocate(struct blk_req *req, int mode)
{
    req->io = (struct blk_io){.step = BLK_STEP_ALLOCATE, .flags = mode, .offset = req->offset, .length = req->length};
    blk_issue(req);
}

/* Read or write what is not done yet. */
static void prepare_transfer(struct blk_req *req)
{
    struct blk_io *io = &req->io;
    io->offset = req->offset + req->done;
    io->length = req->length - req->done;
    io->iov = req->iov;
    io->niov = req->niov;
    if (req->bounce) {
        if (io->length > BOUNCE_BYTES)
            io->length = BOUNCE_BYTES;
        req->part = (struct iovec){req->bounce, io->length};
        if (req->op == BLK_WRITE)
            qd_iov_read(req->iov, req->niov, req->done, req->bounce, io->length);
        io->iov = &req->part;
        io->niov = 1;
    }
}

void blk_step_transfer(struct blk_req *req)
{
    prepare_transfer(req);
    blk_issue(req);
}

/* Zeros from a buffer, where the file system has no better way. */
static void step_write_zeros(struct blk_req *req)
{
    static const struct iovec parts[ZERO_PARTS] = {[0 ... ZERO_PARTS - 1] = {zeros, ZERO_BYTES}};
    uint64_t left = req->length - req->done;
    struct blk_io *io = &req->io;
    *io = (struct blk_io){.step = BLK_STEP_WRITE, .iov = parts, .offset = req->offset + req->done};
    io->niov = left / ZERO_BYTES < ZERO_PARTS ? (unsigned)(left / ZERO_BYTES) : ZERO_PARTS;
    io->length = (uint64_t)io->niov * ZERO_BYTES;
    if (!io->niov) {
        req->part = (struct iovec){zeros, left};
        io->iov = &req->part;
        io->niov = 1;
        io->length = left;
    }
    req->q->engine->queue(req->q, req);
}

static void step_zeroes(struct blk_req *req)
{
    struct blk_disk *disk = req->q->disk;
    if (req->allow_unmap && disk->unmap && !load(&disk->no_punch))
        step_allocate(req, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    else if (!load(&disk->no_zero_range))
        step_allocate(req, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    else
        step_write_zeros(req);
}

/* Drop the first N bytes of the data, which are done. */
static void advance(struct blk_req *req, uint64_t n)
{
    while (n && n >= req->iov->iov_len) {
        n -= req->iov->iov_len;
        req->iov++;
        req->niov--;
    }
    if (n) {
        req->iov->iov_base = (char *)req->iov->iov_base + n;
        req->iov->iov_len -= n;
    }
}

/* The file ends inside the disk's last sectors, or shrank below us: what is not there reads as zeros. */
static void read_past_end(struct blk_req *req)
{
    size_t skip = req->bounce ? req->done : 0;
    for (unsigned i = 0; i < req->niov; i++) {
        size_t from = skip < req->iov[i].iov_len ? skip : req->iov[i].iov_len;
        memset((char *)req->iov[i].iov_base + from, 0, req->iov[i].iov_len - from);
        skip -= from;
    }
    succeed(req);
}

static void transfer_done(struct blk_req *req, uint64_t n)
{
    if (n == 0) {
        if (req->op == BLK_READ)
            read_past_end(req);
        else
            fail(req, EIO);
        return;
    }
    if (req->bounce && req->op == BLK_READ)
        qd_iov_write(req->iov, req->niov, req->done, req->bounce, n);
    req->done += n;
    if (req->done >= req->length) {
        complete(req);
        return;
    }
    if (!req->bounce)
        advance(req, n);
    /* O_DIRECT returns an odd count at the end of the file only, and would refuse to go on from there */
    if (req->op == BLK_READ && n % req->q->disk->mem_align)
        read_past_end(req);
    else
        blk_step_transfer(req);
}

static bool unsupported(int64_t result)
{
    return result == -EOPNOTSUPP || result == -ENODEV || result == -ENOSYS || result == -ENOTTY;
}

static void discard_done(struct blk_req *req, int64_t result)
{
    if (unsupported(result))
        store(&req->q->disk->no_punch, 1); /* a discard is a hint (5.2.6): doing nothing is fine */
    else if (result < 0)
        return fail(req, (int)-result);
    complete(req);
}

static void zeroes_done(struct blk_req *req, int64_t result)
{
    struct blk_disk *disk = req->q->disk;
    if (req->io.step == BLK_STEP_ALLOCATE && unsupported(result)) {
        store(req->io.flags & FALLOC_FL_PUNCH_HOLE ? &disk->no_punch : &disk->no_zero_range, 1);
        return step_zeroes(req);
    }
    if (result < 0)
        return fail(req, (int)-result);
    if (req->io.step == BLK_STEP_WRITE) {
        if (result == 0)
            return fail(req, EIO);
        req->done += (uint64_t)result;
        if (req->done < req->length)
            return step_write_zeros(req);
    }
    complete(req);
}

static void write_done(struct blk_req *req, int64_t result)
{
    if (unsupported(result) && req->io.flags & RWF_DSYNC) {
        /* FUSE and others: write and sync instead */
        store(&req->q->disk->no_dsync, 1);
        req->io.flags = 0;
        req->sync = true;
        return req->q->engine->queue(req->q, req);
    }
    if (result < 0)
        fail(req, (int)-result);
    else
        transfer_done(req, (uint64_t)result);
}

void blk_io_done(struct blk_req *req, int64_t result)
{
    if (req->merged)
        return blk_merged_done(req, result);
    blk_mark(req, QD_MARK_COMPLETED);
    if ((result == -EINTR || result == -EAGAIN) && req->retries < 16) {
        req->retries++;
        req->q->engine->queue(req->q, req);
        return;
    }
    if (req->io.step == BLK_STEP_SYNC)
        result < 0 ? fail(req, (int)-result) : succeed(req);
    else if (req->op == BLK_DISCARD)
        discard_done(req, result);
    else if (req->op == BLK_ZEROES)
        zeroes_done(req, result);
    else if (req->op == BLK_WRITE)
        write_done(req, result);
    else if (result < 0)
        fail(req, (int)-result);
    else
        transfer_done(req, (uint64_t)result);
}

/* --- the start of a request */

/* Inside the disk, in whole blocks (5.2.6.2), with no sum that could wrap. */
static bool range_ok(const struct blk_disk *disk, uint64_t sector, uint64_t bytes)
{
    uint64_t capacity = load(&disk->sectors);
    return bytes % disk->block_size == 0 && sector <= capacity && bytes / BLK_SECTOR <= capacity - sector &&
           sector * BLK_SECTOR % disk->block_size == 0;
}

static bool aligned(const struct blk_req *req)
{
    uintptr_t bits = 0;
    for (unsigned i = 0; i < req->niov; i++)
        bits |= (uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len;
    return !(bits & (req->q->disk->mem_align - 1));
}

static void begin_transfer(struct blk_req *req)
{
    if (!req->bounce && req->q->disk->mem_align > 1 && !aligned(req)) {
        /* off the fast path: a guest that uses such buffers with O_DIRECT pays for a copy anyway */
        void *bounce;
        int error = posix_memalign(&bounce, 4096, BOUNCE_BYTES);
        if (error)
            return fail(req, error);
        req->bounce = bounce;
    }
    prepare_transfer(req);
    if (req->bounce || req->done)
        blk_issue(req);
    else
        blk_plug(req);
}

/* Keep LENGTH bytes of IOV from SKIP on, which are the data. False: no memory. */
static bool keep_data(struct blk_req *req, const struct iovec *iov, unsigned n, size_t skip)
{
    for (; n && skip >= iov->iov_len; iov++, n--)
        skip -= iov->iov_len;
    req->iov = req->few;
    if (n > BLK_FEW_IOV) {
        req->iov = req->many = malloc(n * sizeof(*iov));
        if (!req->many)
            return false;
    }
    req->niov = qd_iov_slice(iov, n, skip, req->length, req->iov);
    return true;
}

static void start_transfer(struct blk_req *req, const struct header *h)
{
    struct blk_disk *disk = req->q->disk;
    const struct qd_elem *e = &req->q->elem;
    bool write = req->op == BLK_WRITE;
    req->length = write ? e->out_len - sizeof(*h) : e->in_len - 1; /* less the status byte */
    if ((write && disk->readonly) || !range_ok(disk, h->sector, req->length))
        return refuse(req, S_IOERR);
    if (!req->length)
        return succeed(req);
    if (!(write ? keep_data(req, e->iov, e->out_num, sizeof(*h)) : keep_data(req, e->iov + e->out_num, e->in_num, 0))) {
        /* whatever the policy says: without its data it cannot be tried again */
        count_error(req, ENOMEM);
        return finish_failed(req, S_IOERR);
    }
    req->offset = disk->offset + h->sector * BLK_SECTOR;
    req->io.step = write ? BLK_STEP_WRITE : BLK_STEP_READ;
    bool stable = write && load(&disk->write_through);
    req->sync = stable && load(&disk->no_dsync);
    req->io.flags = stable && !req->sync ? RWF_DSYNC : 0;
    begin_transfer(req);
}

/* The step at which a held request failed, once more; the disk may have another size by now. */
void blk_retry(struct blk_req *req)
{
    struct blk_disk *disk = req->q->disk;
    req->q->inflight++;
    req->retries = 0;
    if (req->length && !range_ok(disk, (req->offset - disk->offset) / BLK_SECTOR, req->length))
        refuse(req, S_IOERR);
    else if (req->io.step != BLK_STEP_SYNC && (req->op == BLK_READ || req->op == BLK_WRITE))
        begin_transfer(req);
    else
        req->q->engine->queue(req->q, req);
}

/* DISCARD and WRITE_ZEROES: one segment a request, as the config space says. */
static void start_range(struct blk_req *req, bool negotiated, uint32_t max_sectors)
{
    struct blk_disk *disk = req->q->disk;
    const struct qd_elem *e = &req->q->elem;
    struct range r;
    if (disk->readonly)
        return refuse(req, S_IOERR);
    size_t data = e->out_len - sizeof(struct header);
    if (!negotiated || data > sizeof(r))
        return refuse(req, S_UNSUPP);
    if (qd_iov_read(e->iov, e->out_num, sizeof(struct header), &r, sizeof(r)) != sizeof(r))
        return refuse(req, S_IOERR);
    /* 5.2.6.2: unknown flags, and unmap with DISCARD, are not supported */
    if (r.flags & ~(req->op == BLK_ZEROES ? WRITE_ZEROES_UNMAP : 0))
        return refuse(req, S_UNSUPP);
    req->length = (uint64_t)r.sectors * BLK_SECTOR;
    if (r.sectors > max_sectors || !range_ok(disk, r.sector, req->length))
        return refuse(req, S_IOERR);
    req->offset = disk->offset + r.sector * BLK_SECTOR;
    req->allow_unmap = r.flags & WRITE_ZEROES_UNMAP;
    req->sync = load(&disk->write_through);
    if (!req->length)
        succeed(req);
    else if (req->op == BLK_ZEROES)
        step_zeroes(req);
    else if (disk->unmap && !load(&disk->no_punch))
        step_allocate(req, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    else
        succeed(req);
}

static void get_id(struct blk_req *req)
{
    const struct qd_elem *e = &req->q->elem;
    size_t room = e->in_len - 1;
    qd_iov_write(e->iov + e->out_num, e->in_num, 0, req->q->disk->serial, room < BLK_ID_BYTES ? room : BLK_ID_BYTES);
    finish(req, S_OK);
}

static void start_request(struct blk_req *req, const struct header *h)
{
    struct blk_disk *disk = req->q->disk;
    uint64_t features = req->q->vq->vdev->features;
    switch (h->type) {
    case T_IN:
        req->op = BLK_READ;
        return start_transfer(req, h);
    case T_OUT:
        req->op = BLK_WRITE;
        return start_transfer(req, h);
    case T_FLUSH_OUT: /* 5.2.6.3: a legacy driver's */
        if (features >> F_VERSION_1 & 1)
            break;
        /* fall through */
    case T_FLUSH:
        req->op = BLK_FLUSH;
        return step_sync(req);
    case T_GET_ID:
        return get_id(req);
    case T_DISCARD:
        req->op = BLK_DISCARD;
        return start_range(req, features >> F_DISCARD & 1, disk->max_discard);
    case T_WRITE_ZEROES:
        req->op = BLK_ZEROES;
        return start_range(req, features >> F_WRITE_ZEROES & 1, disk->max_zeroes);
    }
    refuse(req, S_UNSUPP);
}

/* Take the popped chain for a request: header in front, status behind, in any layout (2.7.4.2).
 * False: it has no room for them, and there is no way to tell the driver but NEEDS_RESET. */
bool blk_accept(struct blk_queue *q, struct blk_req *req)
{
    struct qd_elem *e = &q->elem;
    struct header h;
    if (e->out_len < sizeof(h))
        return qd_vring_break(&q->vq->ring, "request without a complete header"), false;
    if (!e->in_len)
        return qd_vring_break(&q->vq->ring, "request without a status byte"), false;
    if (e->iov->iov_len >= sizeof(h)) /* as all drivers lay it out */
        memcpy(&h, e->iov->iov_base, sizeof(h));
    else
        qd_iov_read(e->iov, e->out_num, 0, &h, sizeof(h));
    const struct iovec *last = &e->iov[e->out_num + e->in_num - 1];
    req->q = q;
    req->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    req->head = e->head;
    req->in_len = (uint32_t)e->in_len;
    req->retries = 0;
    req->sync = false;
    req->bounce = NULL;
    req->many = NULL;
    req->merged = NULL;
    req->length = req->done = 0;
    q->inflight++;
    start_request(req, &h);
    return true;
}
