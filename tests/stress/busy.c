/* SPDX-License-Identifier: Apache-2.0
 *
 * The core with the handlers of virtio-blk and virtio-net under a load as a benchmark's, built with ThreadSanitizer by
 * test_busy.py; no Python runs. For so many seconds:
 *
 *   two disk queues on two I/O threads, each kept full by a driver; one card that sends to another, each with a driver;
 *   and one who moves queues between the threads, stops and starts them, and changes how long the threads poll.
 *
 * What is lost, or comes twice, ends the program. Guest memory is the drivers' to race on, as in life: what touches it
 * here is not instrumented, and uses no function of libc's that is.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "blk.h"
#include "core.h"
#include "qd_space.h"
#include "qn_api.h"

#define UNSEEN __attribute__((no_sanitize("thread")))

#define NUM 64                /* entries of every ring */
#define DISKS 2
#define SENDER DISKS
#define RECEIVER (DISKS + 1)
#define DRIVERS (DISKS + 2)
#define SLOTS 16              /* requests or frames in flight */
#define SIZE 4096             /* of data */
#define DESC 0x0000           /* within a driver's memory */
#define AVAIL 0x1000
#define USED 0x2000
#define HEADERS 0x4000        /* 32 bytes a slot: header, status */
#define DATA 0x10000
#define RAM_OF_ONE 0x40000
#define PATIENCE_MS 20000
#define SECTORS (SLOTS * SIZE / BLK_SECTOR)

uint64_t qd_py_read(void *handle, uint64_t offset, unsigned size)
{
    (void)handle, (void)offset, (void)size;
    return 0;
}

void qd_py_write(void *handle, uint64_t offset, uint64_t value, unsigned size)
{
    (void)handle, (void)offset, (void)value, (void)size;
}

void qd_py_set_intx(void *handle, int level)
{
    (void)handle, (void)level;
}

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "failed: %s\n", what);
    _exit(1);
}

/* Atomics. Who receives goes on until what was sent has gone, which waits for its buffers. */
static bool ended, all_sent;

struct driver {
    struct qd_vq *vq;
    uint8_t *ram; /* all of the guest's; what is ours starts at base */
    uint64_t base;
    int kick, irq;
    unsigned number;
    bool idle[SLOTS];
    unsigned turn;
    uint16_t avail, seen;
    uint64_t done; /* atomic */
};

static struct driver drivers[DRIVERS];

UNSEEN static uint16_t *word(struct driver *d, unsigned offset, unsigned index)
{
    return (uint16_t *)(d->ram + d->base + offset) + index;
}

UNSEEN static struct qd_desc *desc(struct driver *d, unsigned index)
{
    return (struct qd_desc *)(d->ram + d->base + DESC) + index;
}

/* --- what is in the chains: three descriptors a slot, of which cards use one */

UNSEEN static void fill_disk(struct driver *d, unsigned slot)
{
    struct { uint32_t type, reserved; uint64_t sector; } *header = (void *)(d->ram + d->base + HEADERS + 32 * slot);
    uint64_t at = d->base + HEADERS + 32 * slot, *data = (uint64_t *)(d->ram + d->base + DATA + SIZE * slot);
    bool write = d->turn++ & 1;
    header->type = write;
    header->reserved = 0;
    header->sector = (uint64_t)slot * SIZE / BLK_SECTOR;
    *data = d->turn;
    d->ram[at + 16] = 0xff;
    *desc(d, 3 * slot) = (struct qd_desc){at, 16, QD_DESC_F_NEXT, 3 * slot + 1};
    *desc(d, 3 * slot + 1) = (struct qd_desc){d->base + DATA + SIZE * slot, SIZE, QD_DESC_F_NEXT | (write ? 0 : QD_DESC_F_WRITE),
                                              3 * slot + 2};
    *desc(d, 3 * slot + 2) = (struct qd_desc){at + 16, 1, QD_DESC_F_WRITE, 0};
}

UNSEEN static void fill_frame(struct driver *d, unsigned slot)
{
    uint8_t *data = d->ram + d->base + DATA + SIZE * slot;
    for (unsigned i = 0; i < 12 + 60; i++)
        data[i] = 0;
    for (unsigned i = 0; i < 6; i++)
        data[12 + i] = 0xff; /* to all */
    *desc(d, 3 * slot) = (struct qd_desc){d->base + DATA + SIZE * slot, 12 + 60, 0, 0};
}

UNSEEN static void fill_buffer(struct driver *d, unsigned slot)
{
    *desc(d, 3 * slot) = (struct qd_desc){d->base + DATA + SIZE * slot, SIZE, QD_DESC_F_WRITE, 0};
}

/* --- the driver, as Linux's: offer, kick where it is wanted, take, ask for an interrupt, look again, sleep */

UNSEEN static void offer(struct driver *d)
{
    uint16_t old = d->avail;
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (!d->idle[slot])
            continue;
        d->idle[slot] = false;
        if (d->number < DISKS)
            fill_disk(d, slot);
        else if (d->number == SENDER)
            fill_frame(d, slot);
        else
            fill_buffer(d, slot);
        *word(d, AVAIL, 2 + d->avail++ % NUM) = 3 * slot;
    }
    if (d->avail == old)
        return;
    __atomic_store_n(word(d, AVAIL, 1), d->avail, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (qd_vring_need_event(__atomic_load_n(word(d, USED, 2 + 4 * NUM), __ATOMIC_RELAXED), d->avail, old)) {
        uint64_t one = 1;
        check(write(d->kick, &one, sizeof(one)) == sizeof(one), "kick");
    }
}

UNSEEN static bool take(struct driver *d)
{
    uint16_t used = __atomic_load_n(word(d, USED, 1), __ATOMIC_ACQUIRE);
    bool some = used != d->seen;
    for (; d->seen != used; d->seen++) {
        volatile uint32_t *elem = (uint32_t *)(d->ram + d->base + USED + 4) + 2 * (d->seen % NUM);
        unsigned slot = elem[0] / 3;
        check(elem[0] % 3 == 0 && slot < SLOTS && !d->idle[slot], "a chain that came back twice, or was never offered");
        check(d->number >= DISKS || d->ram[d->base + HEADERS + 32 * slot + 16] == 0, "a request that failed");
        d->idle[slot] = true;
        __atomic_fetch_add(&d->done, 1, __ATOMIC_RELAXED);
    }
    return some;
}

UNSEEN static bool all_idle(const struct driver *d)
{
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (!d->idle[slot])
            return false;
    return true;
}

UNSEEN static void *drive(void *arg)
{
    struct driver *d = arg;
    for (;;) {
        bool over = __atomic_load_n(d->number == RECEIVER ? &all_sent : &ended, __ATOMIC_RELAXED);
        if (over && (d->number == RECEIVER || all_idle(d)))
            return NULL;
        if (!over)
            offer(d);
        if (take(d))
            continue;
        __atomic_store_n(word(d, AVAIL, 2 + NUM), d->seen, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (take(d))
            continue;
        struct pollfd irq = {.fd = d->irq, .events = POLLIN};
        int n = poll(&irq, 1, d->number == RECEIVER ? 100 : PATIENCE_MS); /* who receives may have to wait */
        check(n == 1 || d->number == RECEIVER, "an interrupt, or the kick before it, was lost");
        uint64_t count;
        if (n == 1)
            check(read(d->irq, &count, sizeof(count)) == sizeof(count), "irq");
    }
}

/* --- devices */

static struct qd_vq *add_queue(struct qd_vdev *vdev, struct qd_loop *loop, const struct qd_queue_ops *ops, void *opaque,
                               unsigned number, uint8_t *ram)
{
    struct driver *d = &drivers[number];
    struct qd_vq *vq = qd_vdev_add_queue(vdev);
    vq->ops = ops;
    vq->loop = loop;
    vq->opaque = opaque;
    *d = (struct driver){.vq = vq, .ram = ram, .base = (uint64_t)number * RAM_OF_ONE, .number = number};
    d->kick = eventfd(0, 0);
    d->irq = eventfd(0, EFD_NONBLOCK);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        d->idle[slot] = true;
    check(qd_vq_setup(vq, NUM, d->base + DESC, d->base + AVAIL, d->base + USED) == 0, "setup");
    qd_vq_set_irq_fd(vq, d->irq);
    return vq;
}

static struct qd_vdev *add_device(const struct qd_mem *mem)
{
    struct qd_vdev *vdev = qd_vdev_new(mem);
    check(vdev != NULL, "a device");
    vdev->features = 1ull << QD_F_VERSION_1 | 1ull << QD_F_RING_EVENT_IDX | 1ull << QN_F_MRG_RXBUF;
    qd_vdev_set_msix(vdev, true);
    return vdev;
}

static uint64_t sum_done(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < DRIVERS; i++)
        sum += __atomic_load_n(&drivers[i].done, __ATOMIC_RELAXED);
    return sum;
}

/* One change, as the VM lock's holder makes it. */
static void disturb(struct qd_space *space, struct qd_loop *loops[2], unsigned round)
{
    struct driver *d = &drivers[round % DRIVERS];
    qd_space_lock(space);
    switch (round / DRIVERS % 4) {
    case 0:
        check(qd_vq_move(d->vq, d->vq->loop == loops[0] ? loops[1] : loops[0]) == 0, "move");
        break;
    case 1:
        qd_vq_detach(d->vq);
        check(qd_vq_attach(d->vq, d->kick) == 0, "attach");
        break;
    case 2:
        qd_vq_stop(d->vq);
        check(qd_vq_start(d->vq) == 0 && qd_vq_attach(d->vq, d->kick) == 0, "start again");
        break;
    case 3:
        qd_loop_set_polling(loops[round & 1], (struct qd_polling){.max_ns = round % 3 * 16384});
        qd_vq_set_irq_fd(d->vq, d->irq);
        break;
    }
    qd_vq_kick(d->vq); /* one may have come while the queue was idle */
    qd_space_unlock(space);
}

int main(int argc, char **argv)
{
    check(argc == 4, "usage: busy SECONDS AIO FILE");
    static struct qd_loop *loops[2];
    struct qd_mem mem = {.n = 1, .ram = {{0, DRIVERS * RAM_OF_ONE, calloc(DRIVERS, RAM_OF_ONE)}}};
    struct qd_space *space = qd_space_new();
    struct blk_disk disk = {.aio = atoi(argv[2]), .block_size = BLK_SECTOR, .mem_align = 1, .sectors = SECTORS, .merging = 1};
    FILE *file = fopen(argv[3], "w+");
    check(file != NULL && ftruncate(fileno(file), SECTORS * BLK_SECTOR) == 0, "the disk's file");
    disk.fd = fileno(file);
    if (blk_probe(disk.aio)) {
        puts("the host has not this engine");
        return 77;
    }
    int wire[2];
    check(socketpair(AF_UNIX, SOCK_DGRAM, 0, wire) == 0, "socketpair");
    for (int i = 0; i < 2; i++) {
        loops[i] = qd_loop_new(i ? "busy-1" : "busy-0");
        check(loops[i] != NULL, "a loop");
        qd_loop_set_polling(loops[i], (struct qd_polling){.max_ns = 32768});
    }

    struct qd_vdev *vdevs[] = {add_device(&mem), add_device(&mem), add_device(&mem)};
    struct blk_queue *blk[DISKS];
    for (unsigned i = 0; i < DISKS; i++) {
        blk[i] = blk_queue_new(&disk);
        add_queue(vdevs[0], loops[i], blk_queue_ops(), blk[i], i, mem.ram[0].hva);
    }
    struct qn_dev *cards[2] = {qn_dev_new(), qn_dev_new()};
    struct qn_queue *qn[2] = {qn_queue_new(cards[0], false), qn_queue_new(cards[1], true)};
    add_queue(vdevs[1], loops[0], (void *)qn_tx_ops(), qn[0], SENDER, mem.ram[0].hva);
    add_queue(vdevs[2], loops[1], (void *)qn_rx_ops(), qn[1], RECEIVER, mem.ram[0].hva);
    for (int i = 0; i < 2; i++) {
        qn_queue_bind(qn[i], (uintptr_t)drivers[SENDER + i].vq);
        check(qn_plug(qn[i], QN_DGRAM, wire[i], false, "", 0) == 0, "plug");
    }
    pthread_t threads[DRIVERS];
    for (unsigned i = 0; i < DRIVERS; i++) {
        check(qd_vq_start(drivers[i].vq) == 0 && qd_vq_attach(drivers[i].vq, drivers[i].kick) == 0, "start");
        check(pthread_create(&threads[i], NULL, drive, &drivers[i]) == 0, "pthread_create");
    }

    time_t end = time(NULL) + atoi(argv[1]);
    unsigned round = 0;
    while (time(NULL) < end) {
        uint64_t before = sum_done();
        disturb(space, loops, round++);
        for (time_t limit = time(NULL) + PATIENCE_MS / 1000; sum_done() < before + 200; usleep(200))
            check(time(NULL) < limit, "nothing goes on");
    }
    __atomic_store_n(&ended, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < DRIVERS; i++) {
        __atomic_store_n(&all_sent, i == RECEIVER, __ATOMIC_RELAXED);
        pthread_join(threads[i], NULL);
    }

    for (unsigned i = 0; i < DRIVERS; i++)
        qd_vq_stop(drivers[i].vq);
    for (unsigned i = 0; i < 3; i++)
        check(!vdevs[i]->error, "a ring broke");
    printf("%u changes; requests %lu %lu, frames %lu %lu\n", round, drivers[0].done, drivers[1].done, drivers[SENDER].done,
           drivers[RECEIVER].done);
    for (int i = 0; i < 2; i++) {
        qn_unplug(qn[i]);
        qn_queue_free(qn[i]);
        qn_dev_free(cards[i]);
        blk_queue_free(blk[i]);
        qd_loop_free(loops[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        qd_vdev_free(vdevs[i]);
    qd_space_free(space);
    free(mem.ram[0].hva);
    return 0;
}
