/* SPDX-License-Identifier: Apache-2.0
 *
 * Events as Perfetto's trace packets: protocol buffers, written by hand, since a field's number and a length are all there is
 * to them. Numbers are those of perfetto/trace/trace_packet.proto, track_event/track_event.proto,
 * track_event/track_descriptor.proto and debug_annotation.proto. Times are CLOCK_MONOTONIC's; the viewer sorts by them.
 *
 * A request is a slice on a track of its own, "in flight N" below its queue's, since requests overlap; what was marked on the
 * way are slices inside it. A flow leads from the kick to the first request that was popped for it, and from each request to
 * the interrupt that told the driver.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace.h"

enum { TRACE_PACKET = 1 };
enum { PACKET_TIMESTAMP = 8, PACKET_SEQUENCE = 10, PACKET_EVENT = 11, PACKET_CLOCK = 58, PACKET_TRACK = 60 };
enum { TRACK_UUID = 1, TRACK_NAME = 2, TRACK_PROCESS = 3, TRACK_PARENT = 5, PROCESS_PID = 1, PROCESS_NAME = 6 };
enum { EVENT_ANNOTATION = 4, EVENT_TYPE = 9, EVENT_TRACK = 11, EVENT_NAME = 23, EVENT_FLOW = 47, EVENT_LAST_FLOW = 48 };
enum { ANNOTATION_NAME = 10, ANNOTATION_UINT = 3, ANNOTATION_TEXT = 6 };
enum { SLICE_BEGIN = 1, SLICE_END = 2, INSTANT = 3 };
enum { CLOCK_ID_MONOTONIC = 3 };
enum { VARINT = 0, FIXED64 = 1, BYTES = 2 };

/* A message that is being made; what has no room is left out, which none needs. */
struct message {
    size_t used;
    uint8_t data[2048];
};

static void put_varint(struct message *m, uint64_t n)
{
    if (m->used + 10 > sizeof(m->data))
        return;
    for (; n > 0x7f; n >>= 7)
        m->data[m->used++] = (uint8_t)(n | 0x80);
    m->data[m->used++] = (uint8_t)n;
}

static void put_uint(struct message *m, unsigned field, uint64_t n)
{
    put_varint(m, field << 3 | VARINT);
    put_varint(m, n);
}

static void put_fixed64(struct message *m, unsigned field, uint64_t n)
{
    if (m->used + 12 > sizeof(m->data))
        return;
    put_varint(m, field << 3 | FIXED64);
    memcpy(m->data + m->used, &n, sizeof(n)); /* little-endian, as the host is */
    m->used += sizeof(n);
}

static void put_bytes(struct message *m, unsigned field, const void *data, size_t n)
{
    if (m->used + n + 12 > sizeof(m->data))
        return;
    put_varint(m, field << 3 | BYTES);
    put_varint(m, n);
    memcpy(m->data + m->used, data, n);
    m->used += n;
}

static void put_text(struct message *m, unsigned field, const char *text)
{
    put_bytes(m, field, text, strnlen(text, 200));
}

void trace_flush(struct trace_file *file)
{
    size_t done = 0;
    while (done < file->used && !file->error) {
        ssize_t n = write(file->fd, file->data + done, file->used - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            file->error = -errno;
    }
    file->used = 0;
}

static void write_packet(struct trace_file *file, const struct message *packet)
{
    struct message head = {0};
    put_varint(&head, TRACE_PACKET << 3 | BYTES);
    put_varint(&head, packet->used);
    if (file->used + head.used + packet->used > sizeof(file->data))
        trace_flush(file);
    memcpy(file->data + file->used, head.data, head.used);
    memcpy(file->data + file->used + head.used, packet->data, packet->used);
    file->used += head.used + packet->used;
}

static void write_track(struct trace_file *file, const struct message *track)
{
    struct message packet;
    packet.used = 0;
    put_uint(&packet, PACKET_SEQUENCE, 1);
    put_bytes(&packet, PACKET_TRACK, track->data, track->used);
    write_packet(file, &packet);
}

void trace_write_process(struct trace_file *file, int pid, const char *name)
{
    struct message track, process;
    track.used = process.used = 0;
    put_uint(&process, PROCESS_PID, (uint64_t)pid);
    put_text(&process, PROCESS_NAME, name);
    put_uint(&track, TRACK_UUID, 1);
    put_bytes(&track, TRACK_PROCESS, process.data, process.used);
    write_track(file, &track);
}

void trace_write_track(struct trace_file *file, uint64_t track, uint64_t parent, const char *name)
{
    struct message m;
    m.used = 0;
    put_uint(&m, TRACK_UUID, track);
    put_uint(&m, TRACK_PARENT, parent);
    put_text(&m, TRACK_NAME, name);
    write_track(file, &m);
}

/* --- events */

static void begin(struct message *m, int type, uint64_t track, const char *name)
{
    m->used = 0;
    put_uint(m, EVENT_TYPE, (uint64_t)type);
    put_uint(m, EVENT_TRACK, track);
    if (name)
        put_text(m, EVENT_NAME, name);
}

static void annotate(struct message *m, const char *name, uint64_t n)
{
    struct message annotation;
    annotation.used = 0;
    put_text(&annotation, ANNOTATION_NAME, name);
    put_uint(&annotation, ANNOTATION_UINT, n);
    put_bytes(m, EVENT_ANNOTATION, annotation.data, annotation.used);
}

static void annotate_text(struct message *m, const char *name, const char *text)
{
    struct message annotation;
    annotation.used = 0;
    put_text(&annotation, ANNOTATION_NAME, name);
    put_text(&annotation, ANNOTATION_TEXT, text);
    put_bytes(m, EVENT_ANNOTATION, annotation.data, annotation.used);
}

static void end(struct trace_file *file, const struct message *m, uint64_t ns)
{
    struct message packet;
    packet.used = 0;
    put_uint(&packet, PACKET_TIMESTAMP, ns);
    put_uint(&packet, PACKET_SEQUENCE, 1);
    put_uint(&packet, PACKET_CLOCK, CLOCK_ID_MONOTONIC);
    put_bytes(&packet, PACKET_EVENT, m->data, m->used);
    write_packet(file, &packet);
}

static void write_begin(struct trace_file *file, uint64_t track, const char *name, uint64_t ns)
{
    struct message m;
    begin(&m, SLICE_BEGIN, track, name);
    end(file, &m, ns);
}

static void write_end(struct trace_file *file, uint64_t track, uint64_t ns)
{
    struct message m;
    begin(&m, SLICE_END, track, NULL);
    end(file, &m, ns);
}

void trace_write_lost(struct trace_file *file, struct qd_trace_source *source, uint64_t ns, uint64_t lost)
{
    struct message m;
    begin(&m, INSTANT, source->track, "events lost");
    annotate(&m, "count", lost);
    end(file, &m, ns);
}

static void write_kick(struct trace_file *file, struct qd_trace_source *s, const struct trace_event *event)
{
    static const char *const ways[] = {"ioeventfd", "synchronous", "polled"};
    struct message m;
    s->kick = s->track << 32 | 1ull << 31 | (++s->n_kicks & 0x7fffffff);
    begin(&m, INSTANT, s->track, "kick");
    annotate_text(&m, "way", ways[event->detail]);
    put_fixed64(&m, EVENT_FLOW, s->kick);
    end(file, &m, event->ns);
}

static uint64_t track_of(const struct qd_trace_source *s, const struct trace_request *r)
{
    return s->track + r->slot + 1u;
}

static void end_request(struct trace_file *file, struct qd_trace_source *s, struct trace_request *r, uint64_t ns)
{
    if (r->stage)
        write_end(file, track_of(s, r), ns);
    write_end(file, track_of(s, r), ns);
    s->slots[r->slot] = 0;
    r->flow = 0;
}

/* The first track without a request. There are as many as a queue may have chains. */
static void take_slot(struct trace_file *file, struct qd_trace_source *s, struct trace_request *r)
{
    uint16_t slot = 0;
    while (slot < QD_VRING_MAX - 1 && s->slots[slot])
        slot++;
    r->slot = slot;
    s->slots[slot] = 1;
    if (slot < s->n_slots)
        return;
    char name[32];
    snprintf(name, sizeof(name), "in flight %u", slot);
    s->n_slots = slot + 1;
    trace_write_track(file, track_of(s, r), s->track, name);
}

static void write_pop(struct trace_file *file, struct qd_trace_source *s, const struct trace_event *event)
{
    struct trace_request *r = &s->requests[event->head % QD_VRING_MAX];
    struct message m;
    if (r->flow) /* its end was lost */
        end_request(file, s, r, event->ns);
    take_slot(file, s, r);
    r->flow = s->track << 32 | (++s->n_requests & 0x7fffffff);
    r->popped_ns = event->ns;
    r->stage = 0;
    begin(&m, SLICE_BEGIN, track_of(s, r), "request");
    annotate(&m, "request", s->n_requests);
    annotate(&m, "head", event->head);
    annotate(&m, "readable", event->value);
    annotate(&m, "writable", event->extra);
    put_fixed64(&m, EVENT_FLOW, r->flow);
    if (s->kick)
        put_fixed64(&m, EVENT_LAST_FLOW, s->kick);
    s->kick = 0;
    end(file, &m, event->ns);
}

/* A request may go to the host several times: what it does in between is the device's. */
static void write_stage(struct trace_file *file, struct qd_trace_source *s, const struct trace_event *event)
{
    struct trace_request *r = &s->requests[event->head % QD_VRING_MAX];
    if (!r->flow || r->stage == event->kind)
        return;
    if (!r->stage)
        write_begin(file, track_of(s, r), "device", r->popped_ns);
    write_end(file, track_of(s, r), event->ns);
    write_begin(file, track_of(s, r), event->kind == TRACE_SUBMIT ? "host" : "device", event->ns);
    r->stage = event->kind;
}

static void write_push(struct trace_file *file, struct qd_trace_source *s, const struct trace_event *event)
{
    struct trace_request *r = &s->requests[event->head % QD_VRING_MAX];
    struct message m;
    if (!r->flow) { /* popped before, or a second time */
        begin(&m, INSTANT, s->track, "push");
        annotate(&m, "head", event->head);
        annotate(&m, "written", event->value);
        end(file, &m, event->ns);
        return;
    }
    if (s->n_shown < TRACE_FLOWS)
        s->shown[s->n_shown++] = r->flow;
    end_request(file, s, r, event->ns);
}

static void write_interrupt(struct trace_file *file, struct qd_trace_source *s, const struct trace_event *event)
{
    struct message m;
    begin(&m, INSTANT, s->track, "interrupt");
    for (unsigned i = 0; i < s->n_shown; i++)
        put_fixed64(&m, EVENT_LAST_FLOW, s->shown[i]);
    s->n_shown = 0;
    end(file, &m, event->ns);
}

static void write_reset(struct trace_file *file, struct qd_trace_source *s, const struct trace_event *event)
{
    struct message m;
    for (unsigned head = 0; head < QD_VRING_MAX; head++)
        if (s->requests[head].flow)
            end_request(file, s, &s->requests[head], event->ns);
    s->kick = s->n_shown = 0;
    begin(&m, INSTANT, s->track, "reset");
    end(file, &m, event->ns);
}

static void write_exit(struct trace_file *file, struct qd_trace_source *s, const struct trace_event *event,
                       const struct trace_names *names)
{
    static const char *const kinds[] = {"pio read", "pio write", "mmio read", "mmio write", "other"};
    const char *owner = event->region < names->room ? names->text[event->region] : NULL;
    struct message m;
    char name[256];
    bool access = event->detail != QD_EXIT_OTHER;
    snprintf(name, sizeof(name), "%s%s%.200s", kinds[event->detail], access ? " " : "", !access ? "" : owner ? owner : "nobody");
    begin(&m, SLICE_BEGIN, s->track, name);
    annotate_text(&m, "exit", kinds[event->detail]);
    if (access)
        annotate_text(&m, "owner", owner ? owner : "nobody");
    annotate(&m, access ? "address" : "reason", event->value);
    end(file, &m, event->ns);
    write_end(file, s->track, event->ns + event->extra);
}

void trace_write_event(struct trace_file *file, struct qd_trace_source *source, const struct trace_event *event,
                       const struct trace_names *names)
{
    if (source->name) { /* the first event there; that a queue was reset which nobody has used yet is none */
        if (event->kind == TRACE_RESET)
            return;
        trace_write_track(file, source->track, source->parent, source->name);
        free(source->name);
        source->name = NULL;
    }
    switch (event->kind) {
    case TRACE_KICK:
        return write_kick(file, source, event);
    case TRACE_POP:
        return write_pop(file, source, event);
    case TRACE_SUBMIT:
    case TRACE_COMPLETE:
        return write_stage(file, source, event);
    case TRACE_PUSH:
        return write_push(file, source, event);
    case TRACE_INTERRUPT:
        return write_interrupt(file, source, event);
    case TRACE_SILENCE: /* the driver looks for itself */
        source->n_shown = 0;
        return;
    case TRACE_RESET:
        return write_reset(file, source, event);
    case TRACE_EXIT:
        return write_exit(file, source, event, names);
    }
}
