/* SPDX-License-Identifier: Apache-2.0
 *
 * Polling before sleeping. A wake-up costs several microseconds, half of a request from the page cache; a driver that
 * is not asked to kick while we look saves the exit on its side, too.
 *
 * How long to look follows what QEMU's iothreads do (util/aio-posix.c): an event that came while we polled leaves the
 * time as it is; one that came later, but within max_ns, lets it grow; a longer silence lets it shrink.
 *
 * Polling has to earn its time. Where other threads want this CPU, the one that would bring work cannot run while we
 * look: then every look is in vain, however soon the work comes once we sleep. So a hit brings credit, a look in vain
 * spends it, and who has none left rests before trying again.
 *
 * Where waking a thread takes whoever wakes it longer than max_ns (an inter-processor interrupt of a virtual host), looks of
 * max_ns find nothing, because each comes while the one before is being paid for. One look of a trial is therefore that
 * much longer: if it finds something, nobody was woken, and what follows comes within max_ns.
 *
 * Handlers that have no poll() must not wait for the others' time to end: epoll is asked now and then.
 */
#define _GNU_SOURCE
#include "fault.h"
#include "poller.h"

#include <sched.h>
#include <time.h>

#define FIRST_WINDOW_NS 4000    /* where growing begins */
#define WAKE_NS 100000          /* what waking and waking up take at most, on a busy host or in a virtual machine */
#define SPINS 8                 /* between two looks at the clock */
#define LOOK_NS 2000            /* between two questions to epoll (0.2 us each), where only epoll knows of some handlers */
#define LOOK_SELDOM_NS 50000    /* and where it does not */

#define HIT_NS 10000            /* what a hit is worth: a wake-up */
#define CREDIT 6                /* in longest looks: at most */
#define TRIAL 2                 /* to begin with: the time grows to its limit */
#define REST 16                 /* sleeps, for the first time; twice as many the next time */
#define REST_MAX 1024

#define load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
/* the loop's thread alone writes them */
#define count(p, n) store((p), *(p) + (n))

static uint64_t now_ns(void)
{
    struct timespec t; /* through the vDSO: no system call */
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

void poller_init(struct poller *poller)
{
    *poller = (struct poller){.idle_since = now_ns(), .next_rest = REST};
}

void poller_add(struct poller *poller, struct qd_fd *handler)
{
    if (!handler->poll) {
        __atomic_fetch_add(&poller->only_epoll, 1, __ATOMIC_RELAXED);
        return;
    }
    handler->next_polled = poller->first;
    /* pairs with the loads of `first` on the loop's thread: the handler is complete before it is seen */
    __atomic_store_n(&poller->first, handler, __ATOMIC_RELEASE);
    __atomic_store_n(&poller->newcomers, true, __ATOMIC_RELEASE); /* pairs with begin() */
}

void poller_remove(struct poller *poller, struct qd_fd *handler)
{
    if (!handler->poll) {
        __atomic_fetch_sub(&poller->only_epoll, 1, __ATOMIC_RELAXED);
        return;
    }
    if (poller->cursor == handler)
        poller->cursor = handler->next_polled;
    struct qd_fd **link = &poller->first;
    while (*link != handler)
        link = &(*link)->next_polled;
    __atomic_store_n(link, handler->next_polled, __ATOMIC_RELEASE);
}

void poller_interrupt(struct poller *poller)
{
    store(&poller->interrupted, true);
}

void poller_interrupted(struct poller *poller)
{
    /* before the calls are looked at, under the loop's lock: one that comes later interrupts anew */
    store(&poller->interrupted, false);
}

void poller_set(struct poller *poller, struct qd_polling polling)
{
    cpu_set_t cpus;
    if (!sched_getaffinity(0, sizeof(cpus), &cpus) && CPU_COUNT(&cpus) < 2)
        polling.max_ns = 0;
    store(&poller->polling.max_ns, polling.max_ns);
    store(&poller->polling.grow, polling.grow);
    store(&poller->polling.shrink, polling.shrink);
}

struct qd_polling poller_get(struct poller *poller)
{
    return (struct qd_polling){
        .max_ns = load(&poller->polling.max_ns),
        .grow = load(&poller->polling.grow),
        .shrink = load(&poller->polling.shrink),
    };
}

void poller_get_stats(struct poller *poller, struct qd_loop_stats *stats)
{
    stats->polls_hit = load(&poller->stats.polls_hit);
    stats->polls_missed = load(&poller->stats.polls_missed);
    stats->polled_ns = load(&poller->stats.polled_ns);
    stats->sleeps = load(&poller->stats.sleeps);
    stats->window_ns = load(&poller->stats.window_ns);
}

/* Each handler once, in a round that bears handlers leaving. True: some had work, and did it. */
static bool serve_round(struct poller *poller)
{
    bool found = false;
    poller->cursor = __atomic_load_n(&poller->first, __ATOMIC_ACQUIRE);
    while (poller->cursor) {
        struct qd_fd *handler = poller->cursor;
        poller->cursor = handler->next_polled;
        if (handler->poll(handler)) {
            found = true;
            qd_fd_ready(handler, 0);
        }
    }
    return found;
}

static void begin(struct poller *poller)
{
    if (poller->on && !load(&poller->newcomers))
        return;
    poller->on = true;
    (void)__atomic_exchange_n(&poller->newcomers, false, __ATOMIC_ACQ_REL);
    for (struct qd_fd *h = __atomic_load_n(&poller->first, __ATOMIC_ACQUIRE); h; h = h->next_polled)
        if (h->polling)
            h->polling(h, true);
}

/* True: some had work, which came while nobody told us; it is done. */
static bool end(struct poller *poller)
{
    bool found = false;
    if (!poller->on)
        return false;
    poller->on = false;
    poller->cursor = __atomic_load_n(&poller->first, __ATOMIC_ACQUIRE);
    while (poller->cursor) {
        struct qd_fd *handler = poller->cursor;
        poller->cursor = handler->next_polled;
        if (handler->polling && handler->polling(handler, false)) {
            found = true;
            qd_fd_ready(handler, 0);
        }
    }
    return found;
}

/* The longest look, in which credit is counted; whoever wants longer ones than a second gets credit for a second. */
static int64_t longest(const struct poller *poller)
{
    uint64_t max = load(&poller->polling.max_ns);
    return max < 1000000000 ? (int64_t)max : 1000000000;
}

static void hit(struct poller *poller, uint64_t polled)
{
    count(&poller->stats.polls_hit, 1);
    count(&poller->stats.polled_ns, polled);
    poller->long_look = false;
    int64_t most = CREDIT * longest(poller);
    poller->credit_ns += HIT_NS;
    if (poller->credit_ns < most)
        return;
    poller->credit_ns = most;
    poller->next_rest = REST;
}

static void missed(struct poller *poller, uint64_t window)
{
    poller->long_look = false;
    count(&poller->stats.polls_missed, 1);
    count(&poller->stats.polled_ns, now_ns() - poller->idle_since);
    poller->credit_ns -= window < (uint64_t)longest(poller) ? (int64_t)window : longest(poller); /* somebody else had the CPU for the rest of the time */
    if (poller->credit_ns >= -TRIAL * longest(poller))
        return;
    poller->credit_ns = 0;
    poller->looked_long = false;
    poller->rest = poller->next_rest;
    if (poller->next_rest < REST_MAX)
        poller->next_rest *= 2;
}

/* Poll on from the time in poller->idle_since. True: the time is over; false: epoll's turn. */
static bool poll_window(struct poller *poller, uint64_t window)
{
    uint64_t now = now_ns();
    uint64_t pause = load(&poller->only_epoll) ? LOOK_NS : LOOK_SELDOM_NS;
    for (;;) {
        for (unsigned spins = 0; spins < SPINS; spins++) {
            if (serve_round(poller)) {
                hit(poller, now - poller->idle_since);
                poller->idle_since = now_ns();
                break;
            }
            relax();
        }
        if (load(&poller->interrupted))
            return false;
        now = now_ns();
        if (now - poller->looked >= pause)
            return false;
        if (now - poller->idle_since >= window)
            return true;
    }
}

/* How long to look now. */
static uint64_t next_look(const struct poller *poller, uint64_t max)
{
    if (poller->long_look && max)
        return max + WAKE_NS;
    return poller->stats.window_ns < max ? poller->stats.window_ns : max;
}

bool poller_run(struct poller *poller)
{
    uint64_t max = load(&poller->polling.max_ns);
    uint64_t window = next_look(poller, max);
    if (load(&poller->interrupted))
        return false;
    if (max && poller->worked)
        poller->idle_since = now_ns();
    poller->worked = false;
    if (!window || !load(&poller->first))
        return !end(poller);
    begin(poller);
    if (!poll_window(poller, window))
        return false;
    missed(poller, window);
    return !end(poller);
}

/* SILENCE: from the end of the last work to the event that the loop slept for. */
static void adapt(struct poller *poller, uint64_t silence)
{
    struct qd_polling polling = poller_get(poller);
    uint64_t max = polling.max_ns, grow = polling.grow, shrink = polling.shrink;
    uint64_t window = poller->stats.window_ns;
    if (poller->rest) {
        poller->rest--;
        store(&poller->stats.window_ns, 0);
        return;
    }
    if (window == max && silence > window && silence <= max + WAKE_NS && !poller->looked_long)
        poller->looked_long = poller->long_look = true;
    /* had we looked, we would have known a wake-up earlier; where that is wrong, credit ends it */
    if (silence > max + WAKE_NS)
        window = shrink ? window / shrink : 0;
    else if (silence > window && window < max)
        window = !window ? FIRST_WINDOW_NS : !grow ? 2 * window : grow < max / window ? grow * window : max;
    store(&poller->stats.window_ns, window < max ? window : max);
}

void poller_waited(struct poller *poller, bool slept, bool found)
{
    if (slept)
        count(&poller->stats.sleeps, 1);
    if (!load(&poller->polling.max_ns)) {
        store(&poller->stats.window_ns, 0);
        return;
    }
    poller->looked = now_ns();
    if (slept)
        adapt(poller, poller->looked - poller->idle_since);
    else if (found && poller->on)
        count(&poller->stats.polled_ns, poller->looked - poller->idle_since);
    poller->worked |= slept || found;
}

int poller_epoll(struct poller *poller, int epoll, struct epoll_event *events, int max, int timeout_ms)
{
    uint64_t limit = load(&poller->polling.max_ns), window = next_look(poller, limit);
    uint64_t timeout = timeout_ms < 0 ? UINT64_MAX : timeout_ms * 1000000ull;
    int found = 0;
    if (!limit || !timeout_ms)
        return epoll_wait(epoll, events, max, timeout_ms);
    poller->idle_since = now_ns();
    for (uint64_t polled = 0; polled < window; polled = now_ns() - poller->idle_since) {
        if (polled >= timeout)
            return 0;
        found = epoll_wait(epoll, events, max, 0);
        if (found) {
            hit(poller, polled);
            return found;
        }
        relax();
    }
    if (window)
        missed(poller, window);
    found = epoll_wait(epoll, events, max, timeout_ms);
    poller_waited(poller, true, found > 0);
    return found;
}
