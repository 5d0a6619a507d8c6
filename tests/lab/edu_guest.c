/* SPDX-License-Identifier: Apache-2.0
 *
 * Drives the edu device from user space of a stock kernel: registers through sysfs, interrupts through uio_pci_generic,
 * DMA to locked pages of its own. Says "hot: ok STEP" or "hot: FAILED STEP: why".
 *
 *   edu_guest /sys/bus/pci/devices/0000:00:06.0 /dev/uio0
 */
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { IDENTIFICATION = 0x00, LIVENESS = 0x04, FACTORIAL = 0x08, STATUS = 0x20, IRQ_STATUS = 0x24, IRQ_RAISE = 0x60,
       IRQ_ACK = 0x64, DMA_SOURCE = 0x80, DMA_TARGET = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98 };
enum { COMMAND = 0x04, COMMAND_MEMORY_MASTER = 6, CAPABILITIES = 0x34, MSI = 0x05 };
enum { BAR_SIZE = 1 << 20, BUFFER = 0x40000, PAGE = 4096, PATIENCE_MS = 20000 };
/* a vector that the kernel gives to nobody: it complains of what comes there */
enum { APIC = 0xFEE00000, STRAY_VECTOR = 0xA5 };

static volatile uint8_t *bar;
static int config, uio;

static void fail(const char *step, const char *why, ...)
{
    va_list values;

    va_start(values, why);
    printf("hot: FAILED %s: ", step);
    vprintf(why, values);
    printf("\n");
    exit(1);
}

static void expect(const char *step, uint64_t found, uint64_t wanted)
{
    if (found != wanted)
        fail(step, "%#llx, wanted %#llx", (unsigned long long)found, (unsigned long long)wanted);
}

static uint32_t get(unsigned offset)
{
    return *(volatile uint32_t *)(bar + offset);
}

static void set(unsigned offset, uint32_t value)
{
    *(volatile uint32_t *)(bar + offset) = value;
}

static uint32_t get_config(unsigned offset, unsigned size)
{
    uint32_t value = 0;

    if (pread(config, &value, size, offset) != (ssize_t)size)
        fail("config", "read at %#x", offset);
    return value;
}

static void set_config(unsigned offset, uint32_t value, unsigned size)
{
    if (pwrite(config, &value, size, offset) != (ssize_t)size)
        fail("config", "write at %#x", offset);
}

/* uio_pci_generic sets the INTx disable bit when an interrupt comes; clearing it asks for the next one */
static void listen_again(void)
{
    set_config(COMMAND, COMMAND_MEMORY_MASTER, 2);
}

static void take_interrupt(const char *step, uint32_t wanted)
{
    struct pollfd ready = { .fd = uio, .events = POLLIN };
    uint32_t count;

    if (poll(&ready, 1, PATIENCE_MS) != 1 || read(uio, &count, sizeof count) != sizeof count)
        fail(step, "no interrupt");
    expect(step, get(IRQ_STATUS), wanted);
    set(IRQ_ACK, wanted);
    expect(step, get(IRQ_STATUS), 0);
    listen_again();
}

static uint64_t physical(const void *page)
{
    uint64_t entry = 0;
    int pagemap = open("/proc/self/pagemap", O_RDONLY);

    if (pread(pagemap, &entry, sizeof entry, (uintptr_t)page / PAGE * sizeof entry) != sizeof entry || !(entry >> 63))
        fail("dma", "no physical address");
    close(pagemap);
    return (entry & ((1ull << 55) - 1)) * PAGE;
}

static void transfer(uint64_t source, uint64_t target, uint32_t count, uint32_t command)
{
    *(volatile uint64_t *)(bar + DMA_SOURCE) = source;
    *(volatile uint64_t *)(bar + DMA_TARGET) = target;
    *(volatile uint64_t *)(bar + DMA_COUNT) = count;
    *(volatile uint64_t *)(bar + DMA_COMMAND) = command;
    take_interrupt("dma", 0x100);
    expect("dma", get(DMA_COMMAND) & 1, 0);
}

static void check_registers(void)
{
    expect("registers", get(IDENTIFICATION), 0x010000ED);
    set(LIVENESS, 0x12345678);
    expect("registers", get(LIVENESS), 0xEDCBA987);
    set(FACTORIAL, 10);
    for (int tries = 0; get(STATUS) & 1; tries++) {
        if (tries == PATIENCE_MS)
            fail("registers", "it computes for ever");
        usleep(1000);
    }
    expect("registers", get(FACTORIAL), 3628800);
    printf("hot: ok registers\n");
}

static void check_interrupts(void)
{
    for (uint32_t bits = 1; bits < 0x100; bits <<= 2) {
        set(IRQ_RAISE, bits);
        take_interrupt("interrupts", bits);
    }
    set(STATUS, 0x80);
    set(FACTORIAL, 12);
    take_interrupt("interrupts", 1);
    expect("interrupts", get(FACTORIAL), 479001600);
    printf("hot: ok interrupts\n");
}

static void check_dma(void)
{
    uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);

    if (pages == MAP_FAILED)
        fail("dma", "no memory");
    for (int i = 0; i < PAGE; i++)
        pages[i] = (uint8_t)(i * i >> 3);
    memset(pages + PAGE, 0, PAGE);
    transfer(physical(pages), BUFFER, PAGE, 1 | 4);
    transfer(BUFFER + 100, physical(pages + PAGE), PAGE - 100, 1 | 2 | 4);
    if (memcmp(pages + 100, pages + PAGE, PAGE - 100) != 0)
        fail("dma", "other bytes came back");
    for (int i = PAGE - 100; i < PAGE; i++)
        expect("dma", pages[PAGE + i], 0);
    printf("hot: ok dma\n");
}

static void send_message(void)
{
    unsigned at = get_config(CAPABILITIES, 1);

    while (at && get_config(at, 1) != MSI)
        at = get_config(at + 1, 1);
    if (!at)
        fail("message", "no MSI capability");
    set_config(at + 4, APIC, 4);
    set_config(at + 8, 0, 4);
    set_config(at + 12, STRAY_VECTOR, 2);
    set_config(at + 2, 1, 2);
    set(IRQ_RAISE, 1);
    set(IRQ_ACK, 1);
    set_config(at + 2, 0, 2);
    printf("hot: ok message\n");
}

int main(int argc, char **argv)
{
    char path[256];
    int resource;

    if (argc != 3)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    snprintf(path, sizeof path, "%s/resource0", argv[1]);
    resource = open(path, O_RDWR);
    snprintf(path, sizeof path, "%s/config", argv[1]);
    config = open(path, O_RDWR);
    uio = open(argv[2], O_RDWR);
    if (resource < 0 || config < 0 || uio < 0)
        fail("open", "%d %d %d", resource, config, uio);
    set_config(COMMAND, COMMAND_MEMORY_MASTER, 2);
    bar = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, resource, 0);
    if (bar == MAP_FAILED)
        fail("open", "BAR 0 cannot be mapped");
    check_registers();
    check_interrupts();
    check_dma();
    send_message();
    return 0;
}
