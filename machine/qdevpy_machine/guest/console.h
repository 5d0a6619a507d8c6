/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console (virtio 1.2, 5.3): the control queue's handshake and port 0. */
#ifndef DEMO_CONSOLE_H
#define DEMO_CONSOLE_H

#include "virtio.h"

#define CONSOLE_PORTS 8u

struct console {
    struct virtio virtio;
    bool multiport;
    u32 max_ports;
    struct vring *input, *output;                 /* of port 0 */
    struct vring *control_input, *control_output; /* with multiport */
    u32 added, consoles, open;                    /* ports, a bit each, by what the device has said */
    unsigned kicks, kicks_done_at_once;           /* of output and control_output */
};

bool console_start(struct console *c);

/* Introduce ourselves and wait until port 0 is announced as a console; true where there is nothing to say. */
bool console_handshake(struct console *c);

/* Send a control message and wait until the device has read it. */
bool console_control(struct console *c, u32 port, u16 event, u16 value);

/* Write to port 0 and wait until the device has taken it. */
bool console_write(struct console *c, const char *text, unsigned length);

#define CONSOLE_PORT_OPEN 6u /* 5.3.6.2 */

#endif
