/* SPDX-License-Identifier: Apache-2.0 */
/* Round trips of a byte to whoever is at the other end of console port 0 and sends it back. */
#include "bench.h"

#define RING_LIMIT 64
#define INPUT_SIZE 64u

static struct vring *input, *output;
static u8 *heard;

static void listen(void)
{
    struct segment in = {heard, INPUT_SIZE};
    vring_offer(input, &in, 0, 1, heard);
    vring_kick(input);
}

/* Whether the byte came back; the time of it. */
static bool echo(struct meter *m)
{
    static u8 byte;
    struct segment out = {&byte, 1};
    byte = (u8)('a' + m->requests % 26);
    u64 started = cycles();
    vring_offer(output, &out, 1, 0, &byte);
    vring_kick(output);
    if (!wait_for(vring_has_used(input)))
        return false;
    m->waited += cycles() - started;
    u32 length = 0;
    vring_take(input, &length);
    meter_note(m, cycles() - started);
    bool good = length == 1 && heard[0] == byte;
    listen();
    return wait_for(vring_take(output, NULL) != NULL) && good;
}

static void measure(struct meter *m)
{
    while (bench_time_is_left(m, cycles())) {
        if (!echo(m)) {
            m->failed++;
            return;
        }
        m->requests++;
        m->bytes++;
    }
}

static bool prepare(void)
{
    static struct meter warm_up;
    struct virtio *v = bench_device(VIRTIO_CONSOLE);
    if (v == NULL)
        return false;
    if (!virtio_negotiate(v, 0))
        return bench_refuse("the console refuses its features");
    input = virtio_queue(v, 0, RING_LIMIT);
    output = virtio_queue(v, 1, RING_LIMIT);
    if (input == NULL || output == NULL)
        return bench_refuse("the console lacks a queue");
    virtio_driver_ok(v);
    heard = bench_memory(INPUT_SIZE);
    listen();
    return echo(&warm_up) || bench_refuse("nobody sends a byte back");
}

const struct bench_sort bench_echo = {"echo", prepare, measure};
