/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request costs in the ring code alone, for test_ring_cost.py, which counts the instructions of serve():
 *
 *   ring_cost split|packed|in-order|packed-in-order direct|indirect BATCH
 *
 * Requests as a disk's: a header, a page to read into, a status byte. The device takes BATCH of them, gives all back,
 * and shows them at once. Guest memory has two regions, and the rings are in the second one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qd_vring.h"

#define NUM 256
#define REQUESTS 4096
#define BUFFERS 3
#define RAM (1ull << 32) /* where the second region begins */
#define RING RAM
#define DRIVER (RAM + 0x2000)
#define DEVICE (RAM + 0x3000)
#define TABLES (RAM + 0x10000)
#define DATA (RAM + 0x40000)

static uint8_t *ram;
static struct qd_mem mem = {.n = 2};
static struct qd_vring ring;
static struct qd_elem elem;
static const struct {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
} buffers[BUFFERS] = {
    {DATA, 16, QD_DESC_F_NEXT}, {DATA + 4096, 4096, QD_DESC_F_NEXT | QD_DESC_F_WRITE}, {DATA + 64, 1, QD_DESC_F_WRITE}};

static void *at(uint64_t gpa)
{
    return ram + (gpa - RAM);
}

/* --- the driver */

static uint16_t avail_idx;           /* split */
static uint16_t next_desc, next_used; /* packed */
static bool wrap = true, used_wrap = true;

static void offer_split(unsigned slot, bool indirect)
{
    uint64_t table = indirect ? TABLES + 64 * slot : RING;
    unsigned first = indirect ? 0 : BUFFERS * slot;
    for (unsigned i = 0; i < BUFFERS; i++)
        ((struct qd_desc *)at(table))[first + i] =
            (struct qd_desc){buffers[i].addr, buffers[i].len, buffers[i].flags, first + i + 1};
    if (indirect)
        ((struct qd_desc *)at(RING))[slot] = (struct qd_desc){table, 16 * BUFFERS, QD_DESC_F_INDIRECT, 0};
    uint16_t *avail = at(DRIVER);
    avail[2 + avail_idx % NUM] = indirect ? slot : first;
    avail[1] = ++avail_idx;
}

static void place_packed(uint64_t addr, uint32_t len, uint16_t id, uint16_t flags)
{
    flags |= qd_packed_avail_flags(wrap);
    ((struct qd_packed_desc *)at(RING))[next_desc] = (struct qd_packed_desc){addr, len, id, flags};
    if (++next_desc == NUM) {
        next_desc = 0;
        wrap = !wrap;
    }
}

static void offer_packed(unsigned slot, bool indirect)
{
    if (!indirect) {
        for (unsigned i = 0; i < BUFFERS; i++)
            place_packed(buffers[i].addr, buffers[i].len, slot, buffers[i].flags);
        return;
    }
    struct qd_packed_desc *table = at(TABLES + 64 * slot);
    for (unsigned i = 0; i < BUFFERS; i++)
        table[i] = (struct qd_packed_desc){buffers[i].addr, buffers[i].len, 0, buffers[i].flags & QD_DESC_F_WRITE};
    place_packed(TABLES + 64 * slot, 16 * BUFFERS, slot, QD_DESC_F_INDIRECT);
}

/* Ask for an interrupt at the last one of N chains of COUNT descriptors. */
static void ask_for_interrupt(unsigned n, unsigned count)
{
    if (!ring.packed) {
        *qd_vring_used_event(&ring) = avail_idx - 1;
        return;
    }
    unsigned last = next_used + (n - 1) * count;
    bool last_wrap = used_wrap ^ (last >= NUM);
    *(uint32_t *)at(DRIVER) = QD_EVENT_DESC << 16 | qd_packed_position(last % NUM, last_wrap);
    next_used += n * count;
    used_wrap ^= next_used >= NUM;
    next_used %= NUM;
}

/* --- the device */

__attribute__((noinline)) static unsigned serve(void)
{
    unsigned interrupts = 0;
    do {
        qd_vring_disable_kicks(&ring);
        while (qd_vring_pop(&ring, &elem) > 0)
            qd_vring_push(&ring, elem.head, elem.in_len);
        qd_vring_publish(&ring);
        interrupts += qd_vring_should_interrupt(&ring);
    } while (qd_vring_enable_kicks(&ring));
    return interrupts;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    bool packed = strstr(argv[1], "packed"), in_order = strstr(argv[1], "in-order"), indirect = !strcmp(argv[2], "indirect");
    unsigned batch = atoi(argv[3]), interrupts = 0;
    ram = calloc(1, 1 << 20);
    mem.ram[0] = (struct qd_ram){0, 1 << 20, calloc(1, 1 << 20)};
    mem.ram[1] = (struct qd_ram){RAM, 1 << 20, ram};
    qd_vring_forget(&ring, &mem);
    uint64_t features = 1ull << QD_F_VERSION_1 | 1ull << QD_F_RING_EVENT_IDX | 1ull << QD_F_RING_INDIRECT_DESC |
                        (uint64_t)packed << QD_F_RING_PACKED | (uint64_t)in_order << QD_F_IN_ORDER;
    ring.flight = qd_vring_needs_flight(features) ? calloc(1, sizeof(*ring.flight)) : NULL;
    if (qd_vring_setup(&ring, &mem, NUM, RING, DRIVER, DEVICE, features))
        return 1;
    for (unsigned done = 0; done < REQUESTS; done += batch) {
        for (unsigned i = 0; i < batch; i++)
            packed ? offer_packed(i, indirect) : offer_split(i, indirect);
        ask_for_interrupt(batch, indirect ? 1 : BUFFERS);
        interrupts += serve();
    }
    printf("requests %u interrupts %u error %s\n", (unsigned)ring.popped, interrupts, ring.error ? ring.error : "none");
    return 0;
}
