/* SPDX-License-Identifier: Apache-2.0
 *
 * What a frame costs in virtio-net's own code, for test_net_cost.py, which counts the instructions of the device's
 * handlers:
 *
 *   net_cost send|receive tap|dgram|stream BATCH
 *
 * Frames of 64 bytes: a header and a frame in two descriptors to send, one buffer to receive. The host is what stands
 * here in place of the C library's calls: it takes everything at once, and has BATCH frames to give at a time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "core_stub.h"
#include "qn_api.h"

#define NUM 256
#define WARM 4      /* rounds in which the card learns how many frames come at a time */
#define SLOTS 64    /* chains */
#define FRAMES 4096
#define SIZE 64
#define RAM (1 << 20)
#define DRIVER 0x2000
#define DEVICE 0x3000
#define DATA 0x10000

static uint8_t *ram;
static struct qd_mem mem = {.n = 1};
static unsigned calls, waiting; /* system calls; frames that the host has for us */

/* --- the host */

static size_t bytes(const struct iovec *iov, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    (void)fd, (void)msgs, (void)flags;
    calls++;
    return n;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    (void)fd, (void)flags;
    calls++;
    return bytes(msg->msg_iov, msg->msg_iovlen);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
    (void)fd;
    calls++;
    return bytes(iov, n);
}

static bool has_nothing(void)
{
    calls++;
    errno = EAGAIN;
    return waiting == 0;
}

int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
    (void)fd, (void)flags, (void)timeout;
    if (has_nothing())
        return -1;
    unsigned got = n < waiting ? n : waiting;
    for (unsigned i = 0; i < got; i++)
        msgs[i].msg_len = SIZE;
    waiting -= got;
    return got;
}

ssize_t readv(int fd, const struct iovec *iov, int n)
{
    (void)fd, (void)iov, (void)n;
    if (has_nothing())
        return -1;
    waiting--;
    return SIZE;
}

ssize_t recv(int fd, void *to, size_t room, int flags)
{
    (void)fd, (void)flags;
    if (has_nothing())
        return -1;
    size_t got = 0;
    for (; waiting && got + 4 + SIZE <= room; got += 4 + SIZE, waiting--)
        *(uint32_t *)((uint8_t *)to + got) = htonl(SIZE);
    return got;
}

/* --- the driver */

static void offer(bool rx)
{
    struct qd_desc *desc = (struct qd_desc *)ram;
    uint16_t *avail = (uint16_t *)(ram + DRIVER), slot = avail[1] % SLOTS, first = 2 * slot;
    desc[first] = (struct qd_desc){DATA + slot * 2048, rx ? 1536 : 12, rx ? QD_DESC_F_WRITE : QD_DESC_F_NEXT, first + 1};
    desc[first + 1] = (struct qd_desc){DATA + slot * 2048 + 64, SIZE, 0, 0};
    avail[2 + avail[1] % NUM] = first;
    avail[1]++;
}

static void serve_uncounted(struct qd_vq *vq, struct qn_queue *q, bool rx)
{
    if (rx)
        q->io.ready(&q->io, EPOLLIN);
    else
        vq->ops->kick(vq);
}

__attribute__((noinline)) static void serve(struct qd_vq *vq, struct qn_queue *q, bool rx)
{
    serve_uncounted(vq, q, rx);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    bool rx = !strcmp(argv[1], "receive");
    int kind = !strcmp(argv[2], "tap") ? QN_TAP : !strcmp(argv[2], "dgram") ? QN_DGRAM : QN_STREAM;
    unsigned batch = atoi(argv[3]);
    ram = calloc(1, RAM);
    mem.ram[0] = (struct qd_ram){0, RAM, ram};
    struct qd_vdev vdev = {.mem = &mem, .features = 1ull << QD_F_VERSION_1 | 1ull << QD_F_RING_EVENT_IDX | 1ull << QN_F_MRG_RXBUF};
    struct qn_queue *q = qn_queue_new(qn_dev_new(), rx);
    struct qd_vq vq = {.lock = PTHREAD_MUTEX_INITIALIZER, .api = &api, .vdev = &vdev, .opaque = q, .irq_fd = -1};
    vq.ops = (const struct qd_queue_ops *)(rx ? qn_rx_ops() : qn_tx_ops());
    qn_queue_bind(q, (uintptr_t)&vq);
    qd_vring_forget(&vq.ring, &mem);
    if (qd_vring_setup(&vq.ring, &mem, NUM, 0, DRIVER, DEVICE, vdev.features) || qn_plug(q, kind, 0, kind == QN_TAP, "", 0))
        return 1;
    vq.ops->start(&vq);
    if (rx) /* more than one batch of buffers, as drivers do */
        for (unsigned i = 0; i < SLOTS - batch; i++)
            offer(rx);
    struct qn_counters before, after;
    for (unsigned round = 0; round < WARM + FRAMES / batch; round++) {
        if (round == WARM) {
            qn_get_counters(q, &before);
            calls = vq.interrupts = 0;
        }
        for (unsigned i = 0; i < batch; i++)
            offer(rx);
        if (rx)
            vq.ops->kick(&vq); /* not counted: while there are buffers, drivers do not kick */
        waiting = batch;
        *qd_vring_used_event(&vq.ring) = vq.ring.used_idx + batch - 1; /* an interrupt a batch */
        round < WARM ? serve_uncounted(&vq, q, rx) : serve(&vq, q, rx);
    }
    qn_get_counters(q, &after);
    printf("frames %u calls %u interrupts %u\n", (unsigned)(after.frames - before.frames), calls, (unsigned)vq.interrupts);
    return 0;
}
