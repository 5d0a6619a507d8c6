/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a network card. Words: op=send|receive|pair; size=BYTES of a frame; segment=BYTES: the host cuts it into TCP
 * segments of that much; depth=N, in flight.
 *
 * receive counts what somebody else sends; pair sends through one card and counts what another card gets. */
#include "bench.h"

#define F_CSUM (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_GUEST_TSO4 (1ull << 7)
#define F_HOST_TSO4 (1ull << 11)

#define RING_LIMIT 256
#define DEPTH_MAX 128u
#define RECEIVE_BUFFER 2048u
#define RECEIVE_BUFFER_LARGE (65536u + 4096u)
#define FRAME_LIMIT 65535u /* of an IPv4 packet, so that its length fits */

/* 5.1.6: struct virtio_net_hdr, and what stands behind it with VERSION_1 */
struct header {
    u8 flags, gso_type;
    u16 header_length, gso_size, checksum_start, checksum_offset, buffers;
} __attribute__((packed));

#define NEEDS_CHECKSUM 1u
#define GSO_TCPV4 1u

#define ETHERNET 14u
#define IP 20u
#define TCP 20u
#define HEADERS (ETHERNET + IP + TCP)
#define TCP_CHECKSUM 16u

static struct {
    struct vring *tx, *rx;
    unsigned depth, receive_size;
    u32 header_length, frame_length;
    struct header header;
    u8 *frame;
} b;

/* -- frames */

static void put16(u8 *at, u32 value)
{
    at[0] = (u8)(value >> 8);
    at[1] = (u8)value;
}

static u32 sum16(u32 sum, const u8 *data, unsigned length)
{
    for (unsigned i = 0; i < length; i += 2)
        sum += (u32)data[i] << 8 | data[i + 1];
    return sum;
}

static u16 fold(u32 sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

/* A TCP segment of IPv4 from 10.99.0.2 to 10.99.0.3, to an address that no card has. */
static void make_frame(u32 length)
{
    static const u8 start[ETHERNET] = {2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 2, 8, 0};
    u8 *ip = b.frame + ETHERNET, *tcp = ip + IP;
    memset(b.frame, 0, length);
    memcpy(b.frame, start, ETHERNET);
    if (length < HEADERS)
        return;
    ip[0] = 0x45;
    put16(ip + 2, length - ETHERNET);
    ip[8] = 64;
    ip[9] = 6;
    put16(ip + 12, 10 << 8 | 99);
    put16(ip + 14, 2);
    put16(ip + 16, 10 << 8 | 99);
    put16(ip + 18, 3);
    put16(ip + 10, (u16)~fold(sum16(0, ip, IP)));
    put16(tcp, 9);
    put16(tcp + 2, 9);
    tcp[12] = TCP / 4 << 4;
    tcp[13] = 0x10; /* ACK */
    /* 5.1.6.2: the pseudo header's sum, which whoever cuts the frame completes */
    put16(tcp + TCP_CHECKSUM, fold(sum16(6 + length - ETHERNET - IP, ip + 12, 8)));
}

static void make_header(u32 segment)
{
    b.header = (struct header){0};
    if (segment == 0)
        return;
    b.header.flags = NEEDS_CHECKSUM;
    b.header.gso_type = GSO_TCPV4;
    b.header.header_length = HEADERS;
    b.header.gso_size = (u16)segment;
    b.header.checksum_start = ETHERNET + IP;
    b.header.checksum_offset = TCP_CHECKSUM;
}

/* -- sending and receiving */

static void offer_buffer(u8 *buffer)
{
    struct segment in = {buffer, b.receive_size};
    vring_offer(b.rx, &in, 0, 1, buffer);
}

static unsigned receive(struct meter *m)
{
    unsigned taken = 0;
    u32 written;
    u8 *buffer;
    while (taken < b.depth && (buffer = vring_take(b.rx, &written)) != NULL) {
        m->requests++;
        m->bytes += written > b.header_length ? written - b.header_length : 0;
        m->failed += written <= b.header_length;
        offer_buffer(buffer);
        taken++;
    }
    if (taken > 0)
        vring_kick(b.rx);
    return taken;
}

static void send(unsigned count, struct meter *m)
{
    struct segment out[2] = {{&b.header, b.header_length}, {b.frame, b.frame_length}};
    while (count-- > 0)
        vring_offer(b.tx, out, 2, 0, b.frame);
    if (vring_kick_wanted(b.tx)) {
        vring_notify(b.tx);
        m->kicks++;
    }
}

static unsigned take_sent(void)
{
    unsigned taken = 0;
    while (taken < b.depth && vring_take(b.tx, NULL) != NULL)
        taken++;
    return taken;
}

/* One round: what has moved. Frames that were sent count here unless a second card counts them. */
static unsigned turn(struct meter *m, unsigned *in_flight, bool again)
{
    unsigned moved = b.rx != NULL ? receive(m) : 0;
    if (b.tx == NULL)
        return moved;
    unsigned sent = take_sent();
    if (b.rx == NULL) {
        m->requests += sent;
        m->bytes += (u64)sent * b.frame_length;
    }
    *in_flight -= sent;
    if (again && *in_flight < b.depth) {
        send(b.depth - *in_flight, m);
        *in_flight = b.depth;
    }
    return moved + sent;
}

static void measure(struct meter *m)
{
    unsigned in_flight = 0;
    u64 idle_since = 0, now = cycles(), heard = now;
    bool again = true;
    while ((again || in_flight > 0) && now - heard < PATIENCE) {
        unsigned moved = turn(m, &in_flight, again);
        now = cycles();
        again = bench_time_is_left(m, now) || m->requests == 0; /* who sends may get no CPU for a while */
        if (moved > 0) {
            m->waited += idle_since != 0 ? now - idle_since : 0;
            idle_since = 0;
            heard = now;
        } else {
            idle_since = idle_since != 0 ? idle_since : now;
            pause();
        }
    }
    m->failed += in_flight + (m->requests == 0);
    meter_stop(m);
}

/* -- getting ready */

static bool negotiate(struct virtio *v, bool large)
{
    u64 wanted = large ? F_CSUM | F_HOST_TSO4 | F_GUEST_CSUM | F_GUEST_TSO4 : 0;
    if (!virtio_negotiate(v, wanted))
        return bench_refuse("the card refuses its features");
    if ((v->features & wanted) != wanted)
        return bench_refuse("the card does not offer TCP segmentation");
    /* 5.1.6.1: without VERSION_1 there is no num_buffers, for nothing is merged here */
    b.header_length = v->features & F_VERSION_1 ? 12 : 10;
    return true;
}

static bool start_receiver(struct virtio *v)
{
    for (unsigned i = 0; i < b.depth; i++) {
        u8 *buffer = bench_memory(b.receive_size);
        if (buffer == NULL)
            return false;
        memset(buffer, 0, b.receive_size);
        offer_buffer(buffer);
    }
    virtio_driver_ok(v);
    vring_kick(b.rx);
    return true;
}

static bool start_card(struct virtio *v, bool sends, bool receives, bool large)
{
    if (!negotiate(v, large))
        return false;
    struct vring *rx = virtio_queue(v, 0, RING_LIMIT), *tx = virtio_queue(v, 1, RING_LIMIT);
    if (rx == NULL || tx == NULL || rx->size < b.depth || tx->size < 2 * b.depth)
        return bench_refuse("the card's queues do not hold %u frames", b.depth);
    b.tx = sends ? tx : b.tx;
    b.rx = receives ? rx : b.rx;
    if (receives)
        return start_receiver(v);
    virtio_driver_ok(v);
    return true;
}

static bool start_cards(bool large)
{
    bool pair = word_is("op", "pair");
    struct virtio *v = bench_device(VIRTIO_NET);
    if (v == NULL)
        return false;
    if (!start_card(v, !word_is("op", "receive"), word_is("op", "receive"), large))
        return false;
    if (!pair)
        return true;
    struct virtio *other = bench_second_device(VIRTIO_NET);
    return other != NULL && start_card(other, false, true, large);
}

static bool prepare(void)
{
    u32 segment = (u32)word_number("segment", 0);
    b.tx = b.rx = NULL;
    b.depth = (unsigned)word_number("depth", 64);
    b.frame_length = (u32)word_number("size", 64);
    b.receive_size = segment ? RECEIVE_BUFFER_LARGE : RECEIVE_BUFFER;
    b.frame = bench_memory(FRAME_LIMIT + ETHERNET);
    if (b.frame == NULL || b.depth == 0 || b.depth > DEPTH_MAX || b.frame_length < ETHERNET || b.frame_length > FRAME_LIMIT + ETHERNET)
        return bench_refuse("no sensible depth or size");
    make_frame(b.frame_length);
    make_header(segment);
    if (!start_cards(segment != 0))
        return false;
    /* who sends takes its time to start */
    if (word_is("op", "receive") && !wait_for(vring_has_used(b.rx)))
        return bench_refuse("nobody sends frames");
    return true;
}

const struct bench_sort bench_net = {"net", prepare, measure};
