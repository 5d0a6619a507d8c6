/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is followed, the rings, and the writer's thread; see trace.h.
 */
#define _GNU_SOURCE
#include "trace.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PERIOD_NS 2000000 /* how long the writer sleeps: a ring holds much more than comes meanwhile */
#define PROCESS 1ull      /* the process's track */

struct qd_trace {
    pthread_mutex_t lock; /* all below, but what sources say is atomic */
    pthread_cond_t ended;
    pthread_t thread;
    bool quit;
    uint64_t n_tracks, events;
    struct qd_trace_source *sources;
    struct trace_names names;
    struct trace_file file;
};

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- producers */

static void put(struct qd_trace_source *s, struct trace_event event)
{
    uint64_t head = __atomic_load_n(&s->head, __ATOMIC_RELAXED);
    /* acquire: pairs with the writer's release after it has read the event that was here */
    if (head - __atomic_load_n(&s->tail, __ATOMIC_ACQUIRE) == TRACE_RING) {
        __atomic_store_n(&s->lost, s->lost + 1, __ATOMIC_RELAXED);
        return;
    }
    s->ring[head % TRACE_RING] = event;
    /* release: pairs with the writer's acquire; the event is whole */
    __atomic_store_n(&s->head, head + 1, __ATOMIC_RELEASE);
}

static void kicked(struct qd_tap *tap, struct qd_vq *vq, enum qd_kick way)
{
    (void)vq;
    put(tap->opaque, (struct trace_event){.ns = now(), .kind = TRACE_KICK, .detail = (uint8_t)way});
}

static uint32_t saturated(uint64_t n)
{
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static bool popped(struct qd_tap *tap, struct qd_vq *vq, const struct qd_elem *e)
{
    (void)vq;
    put(tap->opaque, (struct trace_event){
                         .ns = now(), .kind = TRACE_POP, .head = e->head, .value = e->out_len, .extra = saturated(e->in_len)});
    return true;
}

static bool pushed(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, uint32_t *len)
{
    (void)vq;
    put(tap->opaque, (struct trace_event){.ns = now(), .kind = TRACE_PUSH, .head = head, .value = *len});
    return true;
}

static void decided(struct qd_tap *tap, struct qd_vq *vq, bool *interrupt)
{
    (void)vq;
    put(tap->opaque, (struct trace_event){.ns = now(), .kind = *interrupt ? TRACE_INTERRUPT : TRACE_SILENCE});
}

static void marked(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, enum qd_mark stage)
{
    (void)vq;
    uint8_t kind = stage == QD_MARK_SUBMITTED ? TRACE_SUBMIT : TRACE_COMPLETE;
    put(tap->opaque, (struct trace_event){.ns = now(), .kind = kind, .head = head});
}

static void forgotten(struct qd_tap *tap, struct qd_vq *vq)
{
    (void)vq;
    put(tap->opaque, (struct trace_event){.ns = now(), .kind = TRACE_RESET});
}

uint64_t qd_trace_now(void)
{
    return now();
}

void qd_trace_exit(struct qd_trace_source *s, uint64_t began, enum qd_exit_kind kind, uint64_t value, uint32_t region)
{
    put(s, (struct trace_event){.ns = began,
                                .kind = TRACE_EXIT,
                                .detail = (uint8_t)kind,
                                .value = value,
                                .region = region,
                                .extra = saturated(now() - began)});
}

/* --- the writer */

/* With the lock held. */
static void drain(struct qd_trace *trace, struct qd_trace_source *s)
{
    uint64_t head = __atomic_load_n(&s->head, __ATOMIC_ACQUIRE), tail = s->tail, last = 0;
    for (; tail != head; tail++) {
        const struct trace_event *event = &s->ring[tail % TRACE_RING];
        last = event->ns;
        trace_write_event(&trace->file, s, event, &trace->names);
        trace->events++;
        /* release: pairs with put()'s acquire; the place may be written again */
        __atomic_store_n(&s->tail, tail + 1, __ATOMIC_RELEASE);
    }
    uint64_t lost = __atomic_load_n(&s->lost, __ATOMIC_RELAXED);
    if (lost != s->lost_said && last) {
        trace_write_lost(&trace->file, s, last, lost - s->lost_said);
        s->lost_said = lost;
    }
}

static void drain_all(struct qd_trace *trace)
{
    for (struct qd_trace_source *s = trace->sources; s; s = s->next)
        drain(trace, s);
}

static void *writer(void *arg)
{
    struct qd_trace *trace = arg;
    pthread_mutex_lock(&trace->lock);
    while (!trace->quit) {
        drain_all(trace);
        uint64_t until = now() + PERIOD_NS;
        struct timespec at = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};
        pthread_cond_timedwait(&trace->ended, &trace->lock, &at);
    }
    pthread_mutex_unlock(&trace->lock);
    return NULL;
}

/* With all signals blocked, as I/O threads. */
static int start_thread(struct qd_trace *trace)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&trace->thread, NULL, writer, trace);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_setname_np(trace->thread, "trace");
    return error;
}

struct qd_trace *qd_trace_start(int fd, int pid, const char *process)
{
    struct qd_trace *trace = calloc(1, sizeof(*trace));
    if (!trace)
        return NULL;
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&trace->ended, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&trace->lock, NULL);
    trace->file.fd = fd;
    trace->n_tracks = PROCESS;
    trace_write_process(&trace->file, pid, process);
    int error = start_thread(trace);
    if (!error)
        return trace;
    free(trace);
    errno = error;
    return NULL;
}

/* With the lock held. */
static uint64_t new_track(struct qd_trace *trace)
{
    return ++trace->n_tracks << 16; /* room for those of requests */
}

uint64_t qd_trace_track(struct qd_trace *trace, uint64_t parent, const char *name)
{
    pthread_mutex_lock(&trace->lock);
    uint64_t track = new_track(trace);
    trace_write_track(&trace->file, track, parent ? parent : PROCESS, name);
    pthread_mutex_unlock(&trace->lock);
    return track;
}

void qd_trace_name(struct qd_trace *trace, uint32_t id, const char *name)
{
    pthread_mutex_lock(&trace->lock);
    struct trace_names *names = &trace->names;
    if (id >= names->room) {
        uint32_t room = 2 * id + 64;
        char **text = realloc(names->text, room * sizeof(*text));
        if (text) {
            memset(text + names->room, 0, (room - names->room) * sizeof(*text));
            names->text = text;
            names->room = room;
        }
    }
    if (id < names->room) { /* else it stays without a name */
        free(names->text[id]);
        names->text[id] = strdup(name);
    }
    pthread_mutex_unlock(&trace->lock);
}

static void free_source(struct qd_trace_source *s)
{
    free(s->ring);
    free(s->requests);
    free(s->name);
    free(s);
}

static struct qd_trace_source *new_source(struct qd_trace *trace, uint64_t parent, const char *name, bool requests)
{
    struct qd_trace_source *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->trace = trace;
    s->parent = parent ? parent : PROCESS;
    s->name = strdup(name);
    s->ring = calloc(TRACE_RING, sizeof(*s->ring));
    s->requests = requests ? calloc(QD_VRING_MAX, sizeof(*s->requests)) : NULL;
    if (!s->name || !s->ring || (requests && !s->requests)) {
        free_source(s);
        return NULL;
    }
    pthread_mutex_lock(&trace->lock);
    s->track = new_track(trace);
    s->next = trace->sources;
    trace->sources = s;
    pthread_mutex_unlock(&trace->lock);
    return s;
}

static void end_source(struct qd_trace_source *s)
{
    struct qd_trace *trace = s->trace;
    pthread_mutex_lock(&trace->lock);
    drain(trace, s);
    /* it stays until the end, for its numbers; its rings need not */
    free(s->ring);
    free(s->requests);
    s->ring = NULL;
    s->requests = NULL;
    pthread_mutex_unlock(&trace->lock);
}

struct qd_trace_source *qd_trace_queue(struct qd_trace *trace, uint64_t parent, const char *name, struct qd_vq *vq)
{
    struct qd_trace_source *s = new_source(trace, parent, name, true);
    if (!s)
        return NULL;
    s->tap = (struct qd_tap){
        .opaque = s,
        .kicked = kicked,
        .popped = popped,
        .pushed = pushed,
        .decided = decided,
        .marked = marked,
        .forgotten = forgotten,
    };
    if (!qd_vq_add_tap(vq, &s->tap))
        return s;
    end_source(s);
    return NULL;
}

struct qd_trace_source *qd_trace_vcpu(struct qd_trace *trace, const char *name, struct qd_vcpu *vcpu)
{
    struct qd_trace_source *s = new_source(trace, 0, name, false);
    __atomic_store_n(&vcpu->trace, s, __ATOMIC_RELEASE);
    return s;
}

void qd_trace_leave_queue(struct qd_trace_source *source, struct qd_vq *vq)
{
    qd_vq_remove_tap(vq, &source->tap);
    end_source(source);
}

void qd_trace_leave_vcpu(struct qd_trace_source *source, struct qd_vcpu *vcpu)
{
    __atomic_store_n(&vcpu->trace, NULL, __ATOMIC_RELEASE);
    end_source(source);
}

int qd_trace_stop(struct qd_trace *trace, uint64_t *events, uint64_t *lost)
{
    pthread_mutex_lock(&trace->lock);
    trace->quit = true;
    pthread_cond_signal(&trace->ended);
    pthread_mutex_unlock(&trace->lock);
    pthread_join(trace->thread, NULL);
    drain_all(trace); /* of queues that went with their device, too */
    *events = trace->events;
    *lost = 0;
    while (trace->sources) {
        struct qd_trace_source *s = trace->sources;
        trace->sources = s->next;
        *lost += s->lost;
        free_source(s);
    }
    trace_flush(&trace->file);
    int error = trace->file.error;
    for (uint32_t id = 0; id < trace->names.room; id++)
        free(trace->names.text[id]);
    free(trace->names.text);
    pthread_mutex_destroy(&trace->lock);
    pthread_cond_destroy(&trace->ended);
    free(trace);
    return error;
}
