/* SPDX-License-Identifier: Apache-2.0 */
#include "console.h"

#define F_MULTIPORT (1ull << 1)
#define CONFIG_MAX_PORTS 4

/* 5.3.6.2 */
enum {
    EVENT_DEVICE_READY = 0,
    EVENT_DEVICE_ADD = 1,
    EVENT_PORT_READY = 3,
    EVENT_CONSOLE_PORT = 4,
    EVENT_PORT_OPEN = CONSOLE_PORT_OPEN,
};

struct control {
    u32 port;
    u16 event, value;
};

#define RING_LIMIT 64
#define CONTROL_BUFFERS 16
#define CONTROL_BUFFER_SIZE 64

bool console_start(struct console *c)
{
    struct virtio *v = &c->virtio;
    if (!virtio_negotiate(v, F_MULTIPORT))
        return false;
    c->multiport = v->features & F_MULTIPORT;
    c->input = virtio_queue(v, 0, RING_LIMIT);
    c->output = virtio_queue(v, 1, RING_LIMIT);
    if (c->input == NULL || c->output == NULL)
        return false;
    if (c->multiport) {
        c->max_ports = virtio_config32(v, CONFIG_MAX_PORTS);
        c->control_input = virtio_queue(v, 2, RING_LIMIT);
        c->control_output = virtio_queue(v, 3, RING_LIMIT);
        if (c->control_input == NULL || c->control_output == NULL)
            return false;
        for (unsigned i = 0; i < CONTROL_BUFFERS; i++) {
            void *buffer = allocate(CONTROL_BUFFER_SIZE, 16);
            struct segment in = {buffer, CONTROL_BUFFER_SIZE};
            vring_offer(c->control_input, &in, 0, 1, buffer);
        }
    }
    virtio_driver_ok(v);
    if (c->multiport)
        vring_kick(c->control_input);
    return true;
}

/* Offer one buffer to be read, kick, and wait until it is back. */
static bool send(struct console *c, struct vring *ring, void *data, u32 length)
{
    struct segment out = {data, length};
    if (!vring_offer(ring, &out, 1, 0, data))
        return false;
    if (vring_kick_wanted(ring)) {
        c->kicks++;
        c->kicks_done_at_once += vring_notify_watched(ring);
    }
    if (!wait_for(vring_has_used(ring)))
        return false;
    return vring_take(ring, NULL) == data;
}

static void heard(struct console *c, const struct control *message)
{
    if (message->port >= CONSOLE_PORTS)
        return;
    u32 bit = 1u << message->port;
    switch (message->event) {
    case EVENT_DEVICE_ADD:
        c->added |= bit;
        console_control(c, message->port, EVENT_PORT_READY, 1);
        break;
    case EVENT_CONSOLE_PORT:
        c->consoles |= bit;
        console_control(c, message->port, EVENT_PORT_OPEN, 1);
        break;
    case EVENT_PORT_OPEN:
        c->open = message->value ? c->open | bit : c->open & ~bit;
        break;
    }
}

/* Take what the device has said, and give the buffers back; true once port 0 is a console. */
static bool listen(struct console *c)
{
    u32 length;
    struct control *buffer;
    while ((buffer = vring_take(c->control_input, &length)) != NULL) {
        struct control message = *buffer;
        struct segment in = {buffer, CONTROL_BUFFER_SIZE};
        vring_offer(c->control_input, &in, 0, 1, buffer);
        vring_kick(c->control_input);
        if (length >= sizeof(message))
            heard(c, &message);
    }
    return c->consoles & 1;
}

bool console_handshake(struct console *c)
{
    if (!c->multiport)
        return true;
    if (!console_control(c, 0, EVENT_DEVICE_READY, 1))
        return false;
    return wait_for(listen(c));
}

bool console_control(struct console *c, u32 port, u16 event, u16 value)
{
    static struct control message;
    message = (struct control){port, event, value};
    return send(c, c->control_output, &message, sizeof(message));
}

bool console_write(struct console *c, const char *text, unsigned length)
{
    return send(c, c->output, (void *)text, length);
}
