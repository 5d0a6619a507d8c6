/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of a disk. Words: op=read|write; order=random|sequential; size=BYTES; depth=N, in flight over all queues;
 * queues=N; vcpus=1|2, each with every second queue; interrupts=on: ask for them, and take none.
 *
 * Every block of 4096 bytes of the disk begins with its number, which is written and compared: what comes back from
 * somewhere else counts as failed. */
#include "bench.h"
#include "blk.h"
#include "cpu.h"

#define RING_LIMIT 1024
#define QUEUES_MAX 4u
#define DEPTH_MAX 512u
#define STAMP_BLOCK 4096u
#define CONFIG_CAPACITY 0
#define CONFIG_NUM_QUEUES 34
#define WARM_UP 8u /* this part of the time, before the clock starts */

struct request {
    struct blk_header header;
    volatile u8 status;
    u64 started;
    u64 *data;
};

static struct {
    struct virtio *virtio;
    struct vring *rings[QUEUES_MAX];
    unsigned queue_count, depth; /* depth: of a queue */
    struct request *requests;    /* of all queues */
    u32 type, size;
    bool random, interrupts;
    u64 places; /* of SIZE bytes on the disk */
} b;

/* What one vCPU does: queues FIRST, FIRST + STEP, ... */
struct worker {
    struct meter *meter;
    unsigned first, step, part;
    u64 next;   /* place of a sequence */
    u64 chance; /* state of the random numbers */
};

static struct worker workers[2];

/* -- one request */

/* xorshift64* (Vigna 2016, "An experimental exploration of Marsaglia's xorshift generators") */
static u64 next_random(struct worker *w)
{
    w->chance ^= w->chance >> 12;
    w->chance ^= w->chance << 25;
    w->chance ^= w->chance >> 27;
    return w->chance * 0x2545f4914f6cdd1dull;
}

static u64 next_place(struct worker *w)
{
    if (b.random)
        return ((next_random(w) >> 32) * b.places) >> 32;
    u64 place = w->next++;
    if (w->next == b.places)
        w->next = 0;
    return place;
}

static u64 stamp_of(const struct request *r) { return r->header.sector * SECTOR / STAMP_BLOCK; }

static void offer(struct worker *w, struct vring *ring, struct request *r, u64 now)
{
    r->header.sector = next_place(w) * (b.size / SECTOR);
    r->status = BLK_LOST;
    r->started = now;
    if (b.type == BLK_WRITE)
        for (u32 at = 0; at < b.size; at += STAMP_BLOCK)
            r->data[at / sizeof(u64)] = stamp_of(r) + at / STAMP_BLOCK;
    struct segment segments[3] = {{&r->header, sizeof(r->header)}, {r->data, b.size}, {(void *)&r->status, 1}};
    unsigned in = b.type == BLK_READ ? 2 : 1;
    vring_offer(ring, segments, 3 - in, in, r);
}

static void account(struct meter *m, const struct request *r, u64 now)
{
    m->requests++;
    m->bytes += b.size;
    m->failed += r->status != BLK_OK || *(volatile u64 *)r->data != stamp_of(r);
    meter_note(m, now - r->started);
}

/* -- the loop */

static void kick(struct vring *ring, struct meter *m)
{
    if (!vring_kick_wanted(ring))
        return;
    vring_notify(ring);
    m->kicks++;
}

/* Take what one queue has, one round of its depth at most, and offer as many anew; how many there were. */
static unsigned turn(struct worker *w, struct vring *ring, bool again)
{
    if (!vring_has_used(ring))
        return 0;
    u64 now = cycles(); /* behind the look: a request is never taken to be faster than it was */
    struct meter *m = w->meter;
    unsigned taken = 0;
    struct request *r;
    while (taken < b.depth && (r = vring_take(ring, NULL)) != NULL) {
        account(m, r, now);
        if (again)
            offer(w, ring, r, now);
        taken++;
    }
    if (taken > 0 && b.interrupts)
        vring_ask(ring);
    if (taken > 0 && again)
        kick(ring, m);
    return taken;
}

/* Offer what every queue holds; how much that is. */
static unsigned fill(struct worker *w)
{
    unsigned in_flight = 0;
    for (unsigned q = w->first; q < b.queue_count; q += w->step) {
        if (b.interrupts)
            vring_ask(b.rings[q]);
        for (unsigned i = 0; i < b.depth; i++)
            offer(w, b.rings[q], &b.requests[q * b.depth + i], cycles());
        kick(b.rings[q], w->meter);
        in_flight += b.depth;
    }
    return in_flight;
}

/* Keep that much in flight until the time is over, and wait for the last. */
static void transfer(void *worker)
{
    struct worker *w = worker;
    struct meter *m = w->meter;
    meter_start(m);
    unsigned in_flight = fill(w);
    u64 limit = word_number("cycles", BENCH_CYCLES) / w->part, idle_since = 0, now = cycles(), heard = now;
    while (in_flight > 0 && now - heard < PATIENCE) {
        bool again = now - m->start < limit;
        unsigned taken = 0;
        for (unsigned q = w->first; q < b.queue_count; q += w->step)
            taken += turn(w, b.rings[q], again);
        if (!again)
            in_flight -= taken;
        if (taken > 0 && idle_since != 0) {
            m->waited += now - idle_since;
            idle_since = 0;
        } else if (taken == 0 && idle_since == 0) {
            idle_since = now;
        }
        if (taken > 0)
            heard = now;
        else
            pause();
        now = cycles();
    }
    m->failed += in_flight;
    meter_stop(m);
}

/* On one vCPU, or on two at the same time. */
static void work(struct meter *m, unsigned part)
{
    static struct meter second;
    for (unsigned i = 0; i < COUNT(workers); i++) {
        workers[i].meter = i == 0 ? m : &second;
        workers[i].part = part;
    }
    bool both = workers[0].step == 2;
    if (both)
        cpu_run(transfer, &workers[1]);
    transfer(&workers[0]);
    if (both) {
        cpu_wait();
        meter_add(m, &second);
    }
}

/* -- getting ready */

static bool start_queues(void)
{
    struct virtio *v = b.virtio;
    if (!virtio_negotiate(v, BLK_F_FLUSH | BLK_F_MQ))
        return bench_refuse("the disk refuses its features");
    b.queue_count = (unsigned)word_number("queues", 1);
    unsigned offered = v->features & BLK_F_MQ ? virtio_config16(v, CONFIG_NUM_QUEUES) : 1;
    if (b.queue_count == 0 || b.queue_count > QUEUES_MAX || b.queue_count > offered)
        return bench_refuse("%u queues wanted, the disk has %u", b.queue_count, offered);
    b.depth = (unsigned)word_number("depth", 1) / b.queue_count;
    u64 needed = b.depth * (v->features & F_INDIRECT_DESC ? 1 : 3);
    for (unsigned q = 0; q < b.queue_count; q++) {
        b.rings[q] = virtio_queue(v, q, RING_LIMIT);
        if (b.rings[q] == NULL || b.rings[q]->size < needed)
            return bench_refuse("queue %u does not hold %u requests", q, b.depth);
    }
    virtio_driver_ok(v);
    return true;
}

static bool make_requests(void)
{
    unsigned count = b.depth * b.queue_count;
    if (count == 0 || count > DEPTH_MAX || b.size == 0 || b.size % STAMP_BLOCK || b.places == 0)
        return bench_refuse("no sensible depth or size");
    b.requests = allocate(sizeof(struct request) * count, 64);
    for (unsigned i = 0; i < count; i++) {
        b.requests[i].header.type = b.type;
        b.requests[i].data = bench_memory(b.size);
        if (b.requests[i].data == NULL)
            return false;
        memset(b.requests[i].data, 0, b.size); /* a page's first touch costs, and is not what is measured */
    }
    return true;
}

static void nothing(void *argument) { (void)argument; }

static bool start_workers(void)
{
    unsigned count = (unsigned)word_number("vcpus", 1);
    if (count == 0 || count > COUNT(workers) || count > b.queue_count)
        return bench_refuse("%u vCPUs for %u queues; at most %u", count, b.queue_count, (unsigned)COUNT(workers));
    for (unsigned i = 0; i < COUNT(workers); i++)
        workers[i] = (struct worker){.first = i, .step = count, .chance = 0x9e3779b97f4a7c15ull + i};
    if (count == 1)
        return true;
    if (!cpu_run(nothing, NULL))
        return bench_refuse("there is no second vCPU");
    cpu_wait();
    return true;
}

static bool prepare(void)
{
    static struct meter warm_up;
    b.virtio = bench_device(VIRTIO_BLOCK);
    if (b.virtio == NULL || !start_queues())
        return false;
    b.type = word_is("op", "write") ? BLK_WRITE : BLK_READ;
    b.random = !word_is("order", "sequential");
    b.interrupts = word_is("interrupts", "on");
    b.size = (u32)word_number("size", 4096);
    b.places = b.size == 0 ? 0 : virtio_config64(b.virtio, CONFIG_CAPACITY) * SECTOR / b.size;
    if (!make_requests() || !start_workers())
        return false;
    work(&warm_up, WARM_UP);
    return warm_up.failed == 0 || bench_refuse("%lu requests failed before anything was measured", warm_up.failed);
}

static void measure(struct meter *m) { work(m, 1); }

const struct bench_sort bench_blk = {"blk", prepare, measure};
