/* SPDX-License-Identifier: Apache-2.0
 *
 * The core under threads that really run at the same time, built with ThreadSanitizer by test_races.py:
 *
 *   races space   two vCPUs access ports while a third thread maps and unmaps what they access
 *   races ring    two drivers and an I/O thread with EVENT_IDX, while queues are detached, attached, stopped, started
 *   races kicks   the same, undisturbed and for longer: a kick or an interrupt that is lost ends the program
 *   races polled-ring, polled-kicks   the same with an I/O thread that polls, now and then
 *   races packed-ring, packed-kicks, packed-polled-ring, packed-polled-kicks   the same with packed rings
 *   races stop    a vCPU is told to stop wherever it is; what is lost ends the program by its alarm
 *   races lock    who asks for the VM lock gets it, however busy vCPUs are
 *
 * Guest memory is the driver's side's to race on, as in life: what touches it here is not instrumented.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "qd_intx.h"
#include "qd_kvm.h"

#define UNSEEN __attribute__((no_sanitize("thread")))

static int done; /* atomic */

static bool go_on(void)
{
    return !__atomic_load_n(&done, __ATOMIC_RELAXED);
}

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "failed: %s\n", what);
    _exit(1);
}

static pthread_t start(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, fn, arg) == 0, "pthread_create");
    return thread;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* --- what Python would answer: plain variables, that only the VM lock protects */

static uint64_t python_state;

uint64_t qd_py_read(void *handle, uint64_t offset, unsigned size)
{
    (void)handle, (void)offset, (void)size;
    return ++python_state;
}

void qd_py_write(void *handle, uint64_t offset, uint64_t value, unsigned size)
{
    (void)handle, (void)offset, (void)size;
    python_state += value;
}

void qd_py_set_intx(void *handle, int level)
{
    (void)handle, (void)level;
}

/* --- space */

static struct qd_space *space;

static uint64_t native_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)offset, (void)size;
    return ++*(uint64_t *)opaque;
}

static void native_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset, (void)size;
    *(uint64_t *)opaque += value;
}

static const struct qd_region_ops native = {native_read, native_write};
static uint64_t native_state;

static void *access_ports(void *arg)
{
    uint64_t seed = (uintptr_t)arg;
    while (go_on()) {
        seed = seed * 6364136223846793005ull + 1;
        uint64_t value = 1;
        qd_space_access(space, seed >> 33 & 1, 0x100 + (seed >> 40 & 0x3f), &value, 1u << (seed >> 50 & 3), seed >> 60 & 1);
    }
    return NULL;
}

static void race_space(void)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    pthread_t threads[] = {start(access_ports, (void *)1), start(access_ports, (void *)2)};
    for (int round = 0; round < 3000; round++) {
        qd_space_lock(space);
        int a = qd_space_map(space, round & 1, 0x100 + (round & 31), 16, 0, &native, &native_state);
        int b = qd_space_map_python(space, round & 1, 0x108, 8, round & 3, NULL);
        check(a > 0 && b > 0, "map");
        check(qd_space_add_eventfd(space, round & 1, 0x110, 1, false, 0, fd) == 0, "add_eventfd");
        qd_space_unlock(space);
        qd_space_lock(space);
        qd_space_unmap(space, a);
        qd_space_unmap(space, b);
        check(qd_space_del_eventfd(space, round & 1, 0x110, 1, false, 0, fd) == 0, "del_eventfd");
        qd_space_unlock(space);
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    close(fd);
}

/* --- ring */

#define NUM 16
#define DESC 0x1000
#define AVAIL 0x2000
#define USED 0x3000
#define RING_SIZE 0x4000

struct driver {
    struct qd_vq *vq;
    uint8_t *ram;
    int kick, irq;
    int rounds;
    bool by_access; /* kick with a write to the notify register */
};

static uint16_t *word(struct driver *d, unsigned offset, unsigned index)
{
    return (uint16_t *)(d->ram + d->vq->index * RING_SIZE + offset) + index;
}

UNSEEN static void kick(struct driver *d)
{
    uint64_t value = d->by_access ? d->vq->index : 1;
    if (d->by_access)
        qd_space_access(space, QD_PIO, 0x200, &value, 2, true);
    else
        check(write(d->kick, &value, sizeof(value)) == sizeof(value), "kick");
}

static void sleep_until_interrupt(struct driver *d)
{
    struct pollfd irq = {.fd = d->irq, .events = POLLIN};
    check(poll(&irq, 1, 10000) == 1, "an interrupt, or the kick before it, was lost");
    uint64_t count;
    check(read(d->irq, &count, sizeof(count)) == sizeof(count), "irq");
}

/* As Linux: chains, idx, full barrier, kick where avail_event asks for it; used_event, full barrier, look, sleep. */
UNSEEN static void *drive(void *arg)
{
    struct driver *d = arg;
    uint16_t avail = 0, seen = 0;
    for (int round = 0; round < d->rounds; round++) {
        unsigned n = 1 + round % 5;
        uint16_t old = avail;
        for (volatile unsigned delay = round % 97; delay > 0; delay--) /* meets the other side at all its points */
            ;
        for (unsigned i = 0; i < n; i++)
            *word(d, AVAIL, 2 + avail++ % NUM) = i;
        __atomic_store_n(word(d, AVAIL, 1), avail, __ATOMIC_SEQ_CST);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        uint16_t event = __atomic_load_n(word(d, USED, 2 + 4 * NUM), __ATOMIC_RELAXED);
        if (qd_vring_need_event(event, avail, old))
            kick(d);
        for (;;) {
            __atomic_store_n(word(d, AVAIL, 2 + NUM), avail - 1, __ATOMIC_RELAXED);
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            seen = __atomic_load_n(word(d, USED, 1), __ATOMIC_ACQUIRE);
            for (unsigned spins = 0; seen != avail && spins < (unsigned)round % 512; spins++) /* a driver that is quick at times */
                seen = __atomic_load_n(word(d, USED, 1), __ATOMIC_ACQUIRE);
            if (seen == avail)
                break;
            sleep_until_interrupt(d);
        }
    }
    return NULL;
}

/* Where the driver of a packed ring is: a descriptor, and the wrap counter. */
struct place {
    unsigned index;
    bool wrap;
};

static void step(struct place *place)
{
    if (++place->index == NUM) {
        place->index = 0;
        place->wrap = !place->wrap;
    }
}

UNSEEN static uint16_t *flags_at(struct driver *d, struct place place)
{
    return &((struct qd_packed_desc *)word(d, DESC, 0))[place.index].flags;
}

UNSEEN static bool is_used(struct driver *d, struct place place)
{
    uint16_t both = QD_PACKED_F_AVAIL | QD_PACKED_F_USED;
    return (__atomic_load_n(flags_at(d, place), __ATOMIC_ACQUIRE) & both) == (place.wrap ? both : 0);
}

/* The same with a packed ring: a batch becomes available with its first descriptor, a kick where one of it is asked for. */
UNSEEN static void *drive_packed(void *arg)
{
    struct driver *d = arg;
    struct place next = {.wrap = true}, seen = next;
    struct qd_packed_desc *desc = (void *)word(d, DESC, 0);
    for (int round = 0; round < d->rounds; round++) {
        unsigned n = 1 + round % 5;
        struct place first = next, last = next;
        bool wanted = false;
        for (volatile unsigned delay = round % 97; delay > 0; delay--)
            ;
        for (unsigned i = 0; i < n; i++, step(&next)) {
            desc[next.index].id = i;
            desc[next.index].len = 64;
            if (i)
                __atomic_store_n(flags_at(d, next), qd_packed_avail_flags(next.wrap), __ATOMIC_RELAXED);
            last = next;
        }
        __atomic_store_n(flags_at(d, first), qd_packed_avail_flags(first.wrap), __ATOMIC_RELEASE);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        uint32_t event = __atomic_load_n((uint32_t *)word(d, USED, 0), __ATOMIC_RELAXED);
        for (struct place p = first; p.index != next.index; step(&p))
            wanted |= (event & 0xffff) == qd_packed_position(p.index, p.wrap);
        if (wanted || event >> 16 == QD_EVENT_ENABLE)
            kick(d);
        for (;;) {
            uint32_t ask = QD_EVENT_DESC << 16 | qd_packed_position(last.index, last.wrap);
            __atomic_store_n((uint32_t *)word(d, AVAIL, 0), ask, __ATOMIC_RELAXED);
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            for (unsigned spins = 0; spins <= (unsigned)round % 512; spins++)
                while (seen.index != next.index && is_used(d, seen))
                    step(&seen);
            if (seen.index == next.index)
                break;
            sleep_until_interrupt(d);
        }
    }
    return NULL;
}

static void set_gsi(void *opaque, int gsi, int level)
{
    (void)gsi;
    *(int *)opaque = level;
}

static void race_ring(int rounds, int disturbances, bool packed, bool polled)
{
    struct qd_mem mem = {.n = 1, .ram = {{0, 0x10000, calloc(1, 0x10000)}}};
    struct qd_vdev *vdev = qd_vdev_new(&mem);
    struct qd_loop *loop = qd_loop_new("races");
    struct qd_polling polling = {.max_ns = polled ? 20000 : 0};
    qd_loop_set_polling(loop, polling);
    struct driver drivers[2];
    static struct qd_lines lines;
    struct qd_intx intx = {.lines = &lines, .gsi = 10};
    int level = 0;
    qd_lines_init(&lines, set_gsi, &level);
    qd_vdev_set_intx(vdev, qd_intx_set, &intx);
    qd_vdev_set_msix(vdev, true);
    vdev->features = 1ull << QD_F_VERSION_1 | 1ull << QD_F_RING_EVENT_IDX | (uint64_t)packed << QD_F_RING_PACKED;
    for (int i = 0; i < 2; i++) {
        struct qd_vq *vq = qd_vdev_add_queue(vdev);
        struct qd_desc *desc = (void *)(mem.ram[0].hva + i * RING_SIZE + DESC);
        vq->ops = qd_null_ops;
        vq->loop = loop;
        drivers[i] = (struct driver){.vq = vq, .ram = mem.ram[0].hva, .kick = eventfd(0, 0), .irq = eventfd(0, EFD_NONBLOCK)};
        drivers[i].by_access = i;
        drivers[i].rounds = rounds;
        for (int n = 0; n < NUM; n++)
            desc[n] = (struct qd_desc){.addr = 0x8000, .len = 64}; /* of either form */
        uint64_t base = i * RING_SIZE;
        check(qd_vq_setup(vq, NUM, base + DESC, base + AVAIL, base + USED) == 0, "setup");
        qd_vq_set_irq_fd(vq, drivers[i].irq);
        check(qd_vq_start(vq) == 0 && qd_vq_attach(vq, drivers[i].kick) == 0, "start");
    }
    qd_space_lock(space);
    check(qd_space_map_notify(space, QD_PIO, 0x200, 2, 10, vdev, QD_QUEUE_BY_VALUE, 0, NULL) > 0, "map_notify");
    qd_space_unlock(space);
    void *(*fn)(void *) = packed ? drive_packed : drive;
    pthread_t threads[] = {start(fn, &drivers[0]), start(fn, &drivers[1])};
    for (int round = 0; round < disturbances; round++) { /* as a VM that is paused and goes on, under traffic */
        struct driver *d = &drivers[round & 1];
        qd_space_lock(space);
        qd_vq_detach(d->vq);
        if (round % 3 == 0) {
            qd_vq_stop(d->vq);
            check(qd_vq_start(d->vq) == 0, "start again");
        }
        qd_vq_set_irq_fd(d->vq, d->irq);
        qd_vdev_set_isr(vdev, QD_ISR_CONFIG);
        qd_intx_route(&intx, 10 + (round & 1));
        qd_vdev_read_isr(vdev);
        check(qd_vq_attach(d->vq, d->kick) == 0, "attach");
        qd_vq_kick(d->vq); /* one may have come while the queue was idle */
        qd_space_unlock(space);
        if (polled && round % 16 == 0)
            qd_loop_set_polling(loop, (struct qd_polling){.max_ns = round % 32 ? polling.max_ns : 0});
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    check(!vdev->error && !level, "a ring broke, or the line stayed up");
    struct qd_loop_stats stats;
    qd_loop_get_stats(loop, &stats);
    check(polled == (stats.polls_hit + stats.polls_missed > 0), "polled where it should not, or not where it should");
    printf("%lu polls hit, %lu missed, %lu sleeps\n", stats.polls_hit, stats.polls_missed, stats.sleeps);
    for (int i = 0; i < 2; i++)
        qd_vq_stop(drivers[i].vq);
    qd_loop_free(loop);
    qd_vdev_free(vdev);
    free(mem.ram[0].hva);
}

/* --- stop: vcpu.c is built with ioctl() defined as fake_ioctl() */

static struct kvm_run *run;
static sigset_t unblocked;

int fake_ioctl(int fd, unsigned long request, ...)
{
    static unsigned calls;
    (void)fd;
    if (request != KVM_RUN)
        return 0;
    if (__atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST)) {
        errno = EINTR;
        return -1;
    }
    if (++calls % 3 == 0) { /* halted, until a signal: looked for with the signal blocked, so none is missed */
        struct timespec long_time = {.tv_sec = 60};
        ppoll(NULL, 0, &long_time, &unblocked);
        errno = EINTR;
        return -1;
    }
    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = calls & 1;
    run->io.size = run->io.count = 1;
    run->io.port = 0x100;
    run->io.data_offset = sizeof(*run);
    return 0;
}

static struct qd_vcpu vcpu;
static int stops; /* atomic */

static void *run_vcpu(void *arg)
{
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, SIGRTMIN + 1);
    pthread_sigmask(SIG_BLOCK, &kick, &unblocked);
    while (go_on()) {
        check(qd_vcpu_run(&vcpu) == QD_STOP_REQUESTED, "stopped for another reason");
        __atomic_add_fetch(&stops, 1, __ATOMIC_SEQ_CST);
    }
    return arg;
}

static void race_stop(void)
{
    run = calloc(1, sizeof(*run) + 16);
    vcpu = (struct qd_vcpu){.fd = -1, .run = run, .space = space};
    check(qd_vcpu_init() == 0, "qd_vcpu_init");
    alarm(20);
    pthread_t thread = start(run_vcpu, NULL);
    for (int round = 0; round < 20000; round++) {
        int before = __atomic_load_n(&stops, __ATOMIC_SEQ_CST);
        __atomic_store_n(&done, round == 19999, __ATOMIC_RELAXED);
        qd_vcpu_kick(&vcpu);
        while (__atomic_load_n(&stops, __ATOMIC_SEQ_CST) == before)
            sched_yield();
    }
    pthread_join(thread, NULL);
    free(run);
}

/* --- lock */

static uint64_t slow_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    double end = now() + 200e-6;
    while (now() < end)
        ;
    return 0;
}

static void *hammer(void *arg)
{
    while (go_on()) {
        uint64_t value;
        qd_space_access(space, QD_MMIO, 0x1000, &value, 4, false);
        ++*(unsigned long *)arg;
    }
    return NULL;
}

/* Four vCPUs whose every access takes 200 us. Waiting for one access of each makes 1 ms; unfair locks made seconds. */
static void race_lock(void)
{
    static const struct qd_region_ops slow = {slow_read, native_write};
    unsigned long counts[4] = {0};
    pthread_t threads[4];
    double longest = 0, total = 0;
    qd_space_lock(space);
    check(qd_space_map(space, QD_MMIO, 0x1000, 4, 0, &slow, NULL) > 0, "map");
    qd_space_unlock(space);
    for (int i = 0; i < 4; i++)
        threads[i] = start(hammer, &counts[i]);
    for (int round = 0; round < 200; round++) {
        double begin = now();
        qd_space_lock(space);
        double waited = now() - begin;
        longest = waited > longest ? waited : longest;
        total += waited;
        qd_space_unlock(space);
        usleep(1000);
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("waited %.0f us on average, %.0f at most; accesses %lu %lu %lu %lu\n", total / 200 * 1e6, longest * 1e6, counts[0],
           counts[1], counts[2], counts[3]);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    space = qd_space_new();
    if (!strcmp(what, "space"))
        race_space();
    else if (strstr(what, "ring"))
        race_ring(20000, 1000, strstr(what, "packed"), strstr(what, "polled"));
    else if (strstr(what, "kicks"))
        race_ring(400000, 0, strstr(what, "packed"), strstr(what, "polled"));
    else if (!strcmp(what, "stop"))
        race_stop();
    else if (!strcmp(what, "lock"))
        race_lock();
    else
        return 2;
    qd_space_free(space);
    return 0;
}
