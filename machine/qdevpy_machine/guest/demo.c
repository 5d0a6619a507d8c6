/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's life: find devices, check each, say how it went, power off with a status. Or: measure what it is told to. */
#include "bench.h"
#include "demo.h"

#define START_INFO_MAGIC 0x336ec578u
#define POWER_OFF_PORT 0x604    /* PIIX4: PM1a control */
#define POWER_OFF_VALUE 0x2000  /* SLP_EN, sleep type 0: S5 */
#define DEBUG_EXIT_PORT 0x501
#define STATUS_FAILED 1u

struct start_info { /* Xen's hvm_start_info, as far as we read it */
    u32 magic, version, flags, modules;
    u64 modules_address, command_line;
};

struct machine machine;
static unsigned passed, failed;

bool check(bool good, const char *format, ...)
{
    __builtin_va_list list;
    __builtin_va_start(list, format);
    say(good ? "  ok: " : "  FAILED: ");
    say_list(format, list);
    say("\n");
    __builtin_va_end(list);
    *(good ? &passed : &failed) += 1;
    return good;
}

/* A console's kick always leaves the kernel and comes back when it is served; a kick that takes less than half
 * of that ended in the kernel. What a kick wakes may run at once and make it look slow, so the fastest counts. */
void say_kicks(const char *name, unsigned number, const struct kicks *kicks)
{
    bool fast = machine.console_kick != 0 && kicks->fastest < machine.console_kick / 2;
    say("  kicks: %s %u: %lu cycles%s; requests done by the next instruction: %u of %u\n", name, number, kicks->fastest,
        fast ? ", much less than an exit takes: by ioeventfd" : "", kicks->done_at_once, kicks->requests);
}

/* -- finding and starting devices */

static bool start(struct virtio *v)
{
    switch (v->type) {
    case VIRTIO_CONSOLE:
        if (machine.console_count == DEVICES)
            return false;
        machine.consoles[machine.console_count].virtio = *v;
        return console_start(&machine.consoles[machine.console_count]) && ++machine.console_count;
    case VIRTIO_BLOCK:
        if (machine.disk_count == DEVICES)
            return false;
        machine.disks[machine.disk_count].virtio = *v;
        return blk_start(&machine.disks[machine.disk_count]) && ++machine.disk_count;
    case VIRTIO_NET:
        if (machine.nic_count == DEVICES)
            return false;
        machine.nics[machine.nic_count].virtio = *v;
        return net_start(&machine.nics[machine.nic_count]) && ++machine.nic_count;
    default:
        say("00:%02x.%u: virtio device of type %u: no driver\n", v->pci.slot, v->pci.function, v->type);
        return true;
    }
}

static void visit(const struct pci_function *f)
{
    say("00:%02x.%u: %04x:%04x\n", f->slot, f->function, f->vendor, f->device);
    if (f->vendor != VIRTIO_VENDOR)
        return;
    struct virtio v;
    const char *transport = word("transport");
    if (virtio_probe(&v, f, transport ? transport : "auto") && start(&v))
        return;
    say("00:%02x.%u: cannot be used\n", f->slot, f->function);
    machine.broken++;
}

static void introduce(const char *name, const char *sort, unsigned number, const struct virtio *v)
{
    say("%s %u: virtio-%s at 00:%02x.%u, %s, offers 0x%lx, uses 0x%lx, %u queues\n", name, number, sort, v->pci.slot,
        v->pci.function, v->modern ? "modern" : "legacy", v->offered, v->features, v->queue_count);
}

/* -- the console takes what is said */

static void write_console(const char *text, unsigned length) { console_write(&machine.consoles[0], text, length); }

static void open_console(void)
{
    bool ready = machine.console_count > 0 && console_handshake(&machine.consoles[0]);
    say_to(ready ? write_console : serial_write);
    check(ready, "console 0: port 0 is a console and takes text");
}

/* -- all checks */

static void expect_count(const char *key, unsigned found)
{
    if (word(key) != NULL)
        check(found == word_number(key, ~0ull), "%s found: %u", key, found);
}

static void check_devices(void)
{
    check(machine.broken == 0, "every virtio device can be used");
    expect_count("disks", machine.disk_count);
    expect_count("nics", machine.nic_count);
    for (unsigned i = 0; i < machine.console_count; i++) {
        introduce("console", "console", i, &machine.consoles[i].virtio);
        if (i == 0)
            check_console(&machine.consoles[i]);
    }
    for (unsigned i = 0; i < machine.disk_count; i++) {
        introduce("disk", "blk", i, &machine.disks[i].virtio);
        check_disk(&machine.disks[i], i);
    }
    for (unsigned i = 0; i < machine.nic_count; i++) {
        introduce("nic", "net", i, &machine.nics[i].virtio);
        check_nic(&machine.nics[i], i);
    }
    if (machine.nic_count >= 2) {
        check_frames(&machine.nics[0], &machine.nics[1], "nic 0 to nic 1");
        check_frames(&machine.nics[1], &machine.nics[0], "nic 1 to nic 0");
    } else if (machine.nic_count == 1 && word_is("net", "loop")) {
        check_frames(&machine.nics[0], &machine.nics[0], "nic 0 to itself");
    }
}

static _Noreturn void end(void)
{
    for (unsigned i = 0; i < machine.console_count; i++)
        virtio_reset(&machine.consoles[i].virtio);
    for (unsigned i = 0; i < machine.disk_count; i++)
        virtio_reset(&machine.disks[i].virtio);
    for (unsigned i = 0; i < machine.nic_count; i++)
        virtio_reset(&machine.nics[i].virtio);
    if (failed > 0)
        out8((u16)word_number("debug-exit", DEBUG_EXIT_PORT), STATUS_FAILED);
    out16((u16)word_number("power-off", POWER_OFF_PORT), POWER_OFF_VALUE);
    for (;;)
        pause();
}

_Noreturn void demo_main(const struct start_info *info);

_Noreturn void demo_main(const struct start_info *info)
{
    if (info->magic == START_INFO_MAGIC && info->command_line != 0)
        words_set((const char *)info->command_line);
    if (word("bench") != NULL) {
        bench();
    } else if (word("exit") == NULL) {
        pci_scan(visit);
        open_console();
        check_devices();
        if (failed > 0)
            say("demo: FAILED: %u of %u checks\n", failed, passed + failed);
        else
            say("demo: %u checks passed\n", passed);
    }
    end();
}
