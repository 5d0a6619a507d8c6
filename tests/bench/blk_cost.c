/* SPDX-License-Identifier: Apache-2.0
 *
 * What a virtio-blk request costs from the kick to the interrupt decision, but for the host's storage: the device's
 * own code with engine null, for test_blk_cost.py, which counts the instructions of kick():
 *
 *   blk_cost scattered|adjacent BATCH
 *
 * Reads of a page each, in indirect chains of a split ring, as Linux makes them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blk.h"
#include "core_stub.h"

#define NUM 256
#define REQUESTS 4096
#define PAGE 4096
#define SECTORS (1u << 20)
#define MEMORY (4u << 20)
#define RING 0
#define DRIVER 0x2000
#define DEVICE 0x3000
#define TABLES 0x10000
#define HEADERS 0x20000
#define STATUS 0x28000
#define DATA 0x100000

static uint8_t *memory;
static struct qd_mem mem = {.n = 1};
static uint16_t avail_idx;

/* --- the driver */

static void offer(unsigned slot, uint64_t sector)
{
    struct {
        uint32_t type, ioprio;
        uint64_t sector;
    } *header = (void *)(memory + HEADERS + 16 * slot);
    header->sector = sector;
    struct qd_desc *table = (struct qd_desc *)(memory + TABLES) + 4 * slot;
    table[0] = (struct qd_desc){HEADERS + 16 * slot, 16, QD_DESC_F_NEXT, 1};
    table[1] = (struct qd_desc){DATA + 2 * PAGE * slot, PAGE, QD_DESC_F_NEXT | QD_DESC_F_WRITE, 2};
    table[2] = (struct qd_desc){STATUS + slot, 1, QD_DESC_F_WRITE, 0};
    ((struct qd_desc *)(memory + RING))[slot] = (struct qd_desc){TABLES + 64 * slot, 48, QD_DESC_F_INDIRECT, 0};
    uint16_t *avail = (uint16_t *)(memory + DRIVER);
    avail[2 + avail_idx % NUM] = (uint16_t)slot;
    avail[1] = ++avail_idx;
    avail[2 + NUM] = avail_idx - 1; /* interrupt at the last one */
}

/* --- the device */

__attribute__((noipa)) static bool kick(struct qd_vq *vq)
{
    vq->ops->kick(vq);
    return !vq->ring.error;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    unsigned batch = (unsigned)atoi(argv[2]), step = strcmp(argv[1], "adjacent") ? 16 : 8;
    static struct qd_vdev vdev;
    static struct qd_vq vq;
    struct blk_disk disk = {.aio = BLK_AIO_NULL, .block_size = 512, .mem_align = 1, .merging = 1, .sectors = SECTORS, .no_nowait = 1};
    memory = calloc(1, MEMORY);
    mem.ram[0] = (struct qd_ram){0, MEMORY, memory};
    vdev.mem = &mem;
    vq.api = &api;
    vq.vdev = &vdev;
    vq.ops = blk_queue_ops();
    vq.opaque = blk_queue_new(&disk);
    qd_vring_forget(&vq.ring, &mem);
    uint64_t features = 1ull << QD_F_VERSION_1 | 1ull << QD_F_RING_EVENT_IDX | 1ull << QD_F_RING_INDIRECT_DESC;
    if (qd_vring_setup(&vq.ring, &mem, NUM, RING, DRIVER, DEVICE, features) || vq.ops->start(&vq))
        return 1;
    for (unsigned done = 0; done < REQUESTS; done += batch) {
        for (unsigned i = 0; i < batch; i++)
            offer(i, (done + i) * step % SECTORS);
        if (!kick(&vq))
            return 1;
    }
    vq.ops->stop(&vq);
    printf("requests %u bytes %u merged %u interrupts %u\n", (unsigned)disk.counters[BLK_READ].requests,
           (unsigned)disk.counters[BLK_READ].bytes, (unsigned)disk.counters[BLK_READ].merged, (unsigned)vq.interrupts);
    blk_queue_free(vq.opaque);
    return 0;
}
