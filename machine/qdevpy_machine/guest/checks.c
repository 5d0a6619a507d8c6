/* SPDX-License-Identifier: Apache-2.0 */
/* What is checked of each device. */
#include "demo.h"

#define TRIES 16u
#define KICKS 64u

/* Cycles of the fastest kick that finds nothing to do. */
static u64 time_kicks(const struct vring *ring)
{
    u64 fastest = ~0ull;
    for (unsigned i = 0; i < KICKS; i++) {
        u64 start = cycles();
        vring_notify(ring);
        u64 spent = cycles() - start;
        if (spent < fastest)
            fastest = spent;
    }
    return fastest;
}

/* -- console */

void check_console(struct console *c)
{
    if (!c->multiport)
        return;
    unsigned told = 0;
    c->kicks = c->kicks_done_at_once = 0;
    for (unsigned i = 0; i < TRIES; i++)
        told += console_control(c, 0, CONSOLE_PORT_OPEN, 1);
    struct kicks kicks = {.requests = c->kicks, .done_at_once = c->kicks_done_at_once}; /* the lines below are kicks too */
    kicks.fastest = machine.console_kick = time_kicks(c->control_output);
    check(told == TRIES, "console: control messages read: %u of %u", told, TRIES);
    /* 5.3: drivers spin on control messages, so a kick has to be served before the guest goes on */
    if (!word_is("console-kicks", "any"))
        check(kicks.requests > 0 && kicks.done_at_once == kicks.requests,
              "console: synchronous, used index advanced at once %u of %u", kicks.done_at_once, kicks.requests);
    say_kicks("console", 0, &kicks);
}

/* -- disk */

#define PIECE (8 * SECTOR)
#define PIECES 8u

static u8 data[PIECES][PIECE] __attribute__((aligned(4096)));

/* Where piece NUMBER goes: spread over the disk, the last one at its end. */
static u64 place(const struct blk *b, unsigned number)
{
    u64 last = b->sectors - PIECE / SECTOR;
    return number == PIECES - 1 ? last : last / PIECES * number;
}

/* All pieces at once, so that several requests are in flight; how many went well. */
static unsigned transfer(struct blk *b, u32 type)
{
    for (unsigned i = 0; i < PIECES; i++)
        blk_offer(b, type, place(b, i), data[i], PIECE);
    vring_kick(b->ring);
    unsigned good = 0;
    for (unsigned i = 0; i < PIECES; i++) {
        struct blk_request *request;
        if (!wait_for(vring_has_used(b->ring)) || (request = blk_take(b)) == NULL)
            return good;
        good += request->status == BLK_OK;
    }
    return good;
}

static u32 checksum_of_all(void) { return checksum(CHECKSUM_START, data, sizeof(data)); }

static void check_written(struct blk *b, unsigned number)
{
    for (unsigned i = 0; i < PIECES; i++)
        fill_pattern(data[i], PIECE, (u32)cycles() + i);
    u32 wanted = checksum_of_all();
    unsigned written = transfer(b, BLK_WRITE);
    check(written == PIECES, "disk %u: wrote %u of %u pieces of %u bytes", number, written, PIECES, PIECE);
    if (b->virtio.features & BLK_F_FLUSH)
        check(blk_do(b, BLK_FLUSH, 0, NULL, 0) == BLK_OK, "disk %u: flushed", number);
    memset(data, 0, sizeof(data));
    unsigned read = transfer(b, BLK_READ);
    u32 found = checksum_of_all();
    check(read == PIECES && found == wanted, "disk %u: read back, checksum %08x, wanted %08x", number, found, wanted);
}

static void check_zeroes(struct blk *b, unsigned number)
{
    static struct blk_range range;
    range = (struct blk_range){.sector = place(b, 1) + 1, .sectors = 2};
    u8 status = blk_do(b, BLK_WRITE_ZEROES, 0, &range, sizeof(range));
    unsigned read = transfer(b, BLK_READ);
    unsigned zeroes = 0;
    for (unsigned i = 0; i < PIECE; i++)
        zeroes += data[1][i] == 0 && i >= SECTOR && i < 3 * SECTOR;
    check(status == BLK_OK && read == PIECES && zeroes == 2 * SECTOR, "disk %u: wrote zeroes", number);
}

static void check_id(struct blk *b, unsigned number)
{
    static char id[BLK_ID_LENGTH + 1];
    memset(id, 0, sizeof(id));
    bool good = blk_do(b, BLK_GET_ID, 0, id, BLK_ID_LENGTH) == BLK_OK;
    if (number == 0 && word("serial") != NULL)
        good = good && word_is("serial", id);
    check(good, "disk %u: serial '%s'", number, id);
}

static void watch_disk_kicks(struct blk *b, unsigned number)
{
    static u8 id[BLK_ID_LENGTH];
    struct kicks kicks = {.fastest = time_kicks(b->ring)};
    for (; kicks.requests < KICKS; kicks.requests++) {
        if (blk_offer(b, BLK_GET_ID, 0, id, sizeof(id)) == NULL)
            break;
        vring_kick_wanted(b->ring);
        kicks.done_at_once += vring_notify_watched(b->ring);
        if (!wait_for(vring_has_used(b->ring)) || blk_take(b) == NULL)
            break;
    }
    say_kicks("disk", number, &kicks);
}

void check_disk(struct blk *b, unsigned number)
{
    say("  %lu sectors, %s\n", b->sectors, b->read_only ? "read-only" : "writable");
    check_id(b, number);
    if (!check(b->sectors >= PIECES * PIECE / SECTOR, "disk %u: big enough", number))
        return;
    if (b->read_only) {
        u8 status = blk_do(b, BLK_WRITE, 0, data[0], SECTOR);
        check(status == BLK_IOERR, "disk %u: read-only, refuses to be written", number);
        check(transfer(b, BLK_READ) == PIECES, "disk %u: read", number);
    } else {
        check_written(b, number);
        if (b->virtio.features & BLK_F_WRITE_ZEROES)
            check_zeroes(b, number);
    }
    u8 status = blk_do(b, BLK_READ, b->sectors - 1, data[0], 2 * SECTOR);
    check(status == BLK_IOERR, "disk %u: refuses to read past its end", number);
    if (word("writable") != NULL)
        check(!b->read_only, "disk %u: is writable", number);
    watch_disk_kicks(b, number);
}

/* -- network */

#define ETHERTYPE 0x88b5u /* IEEE 802: local experimental */
#define FRAMES 64u
#define BURST 8u
#define FRAME_MIN 60u

struct frame {
    u8 to[6], from[6], ethertype[2];
    u32 sequence, sum;
    u8 payload[NET_FRAME_MAX - 22];
} __attribute__((packed));

static struct frame sent[BURST], received;

static u32 frame_length(u32 sequence) { return FRAME_MIN + sequence * 97 % (NET_FRAME_MAX - FRAME_MIN + 1); }

static void make_frame(struct frame *frame, const struct net *a, const struct net *b, u32 sequence)
{
    u32 payload = frame_length(sequence) - offsetof(struct frame, payload);
    memcpy(frame->to, b->mac, 6);
    memcpy(frame->from, a->mac, 6);
    frame->ethertype[0] = ETHERTYPE >> 8;
    frame->ethertype[1] = ETHERTYPE & 0xff;
    frame->sequence = sequence;
    fill_pattern(frame->payload, payload, sequence);
    frame->sum = checksum(CHECKSUM_START, frame->payload, payload);
}

static bool is_ours(u32 length)
{
    return length >= FRAME_MIN && received.ethertype[0] == ETHERTYPE >> 8 && received.ethertype[1] == (ETHERTYPE & 0xff);
}

/* Receive until frame SEQUENCE is there, in one piece; other people's frames are passed over. */
static bool expect_frame(struct net *b, u32 sequence)
{
    u32 length;
    do {
        if (!wait_for(vring_has_used(b->rx)))
            return false;
        length = net_receive(b, &received);
    } while (!is_ours(length));
    u32 payload = length - offsetof(struct frame, payload);
    return received.sequence == sequence && length == frame_length(sequence) &&
           received.sum == checksum(CHECKSUM_START, received.payload, payload);
}

void check_frames(struct net *a, struct net *b, const char *way)
{
    unsigned good = 0;
    u32 bytes = 0;
    u64 start = cycles();
    for (u32 first = 0; first < FRAMES; first += BURST) {
        for (u32 i = 0; i < BURST; i++) {
            make_frame(&sent[i], a, b, first + i);
            net_offer(a, &sent[i], frame_length(first + i));
            bytes += frame_length(first + i);
        }
        vring_kick(a->tx);
        for (u32 i = 0; i < BURST && good == first + i; i++)
            good += expect_frame(b, first + i);
        for (u32 i = 0; i < BURST; i++)
            if (!wait_for(vring_has_used(a->tx)) || net_take_sent(a) == NULL)
                good = 0;
        if (good != first + BURST)
            break;
    }
    u64 spent = (cycles() - start) / FRAMES;
    check(good == FRAMES, "%s: %u of %u frames, %u bytes, %lu cycles a frame", way, good, FRAMES, bytes, spent);
}

/* Frames to nobody: an address that no card has. */
static void watch_nic_kicks(struct net *n, unsigned number)
{
    static struct net nobody = {.mac = {2, 0, 0, 0, 0, 1}};
    struct kicks kicks = {.fastest = time_kicks(n->tx)};
    make_frame(&sent[0], n, &nobody, 0);
    sent[0].ethertype[1]++;
    for (; kicks.requests < TRIES; kicks.requests++) {
        if (!net_offer(n, &sent[0], FRAME_MIN))
            break;
        vring_kick_wanted(n->tx);
        kicks.done_at_once += vring_notify_watched(n->tx);
        if (!wait_for(vring_has_used(n->tx)) || net_take_sent(n) == NULL)
            break;
    }
    say_kicks("nic", number, &kicks);
}

void check_nic(struct net *n, unsigned number)
{
    const u8 *m = n->mac;
    say("  %02x:%02x:%02x:%02x:%02x:%02x, link %s\n", m[0], m[1], m[2], m[3], m[4], m[5], n->link_up ? "up" : "down");
    check(!(m[0] & 1) && (m[0] | m[1] | m[2] | m[3] | m[4] | m[5]), "nic %u: has an address of its own", number);
    check(n->link_up, "nic %u: link is up", number);
    watch_nic_kicks(n, number);
}
