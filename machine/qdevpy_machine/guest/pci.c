/* SPDX-License-Identifier: Apache-2.0 */
#include "pci.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc

/* Where BARs go that nobody has placed; away from RAM, the I/O APIC and what firmware hands out first. */
static u32 next_memory = 0xf0000000;
static u32 next_port = 0xd000;

static void select(const struct pci_function *f, unsigned offset)
{
    out32(CONFIG_ADDRESS, 0x80000000u | (u32)f->slot << 11 | (u32)f->function << 8 | (offset & 0xfc));
}

u32 pci_read(const struct pci_function *f, unsigned offset, unsigned size)
{
    select(f, offset);
    u16 port = CONFIG_DATA + (offset & 3);
    return size == 1 ? in8(port) : size == 2 ? in16(port) : in32(port);
}

void pci_write(const struct pci_function *f, unsigned offset, unsigned size, u32 value)
{
    select(f, offset);
    u16 port = CONFIG_DATA + (offset & 3);
    if (size == 1)
        out8(port, (u8)value);
    else if (size == 2)
        out16(port, (u16)value);
    else
        out32(port, value);
}

void pci_scan(void (*visit)(const struct pci_function *f))
{
    for (u8 slot = 0; slot < 32; slot++) {
        unsigned functions = 1;
        for (u8 function = 0; function < functions; function++) {
            struct pci_function f = {.slot = slot, .function = function};
            u32 id = pci_read(&f, 0, 4);
            if ((id & 0xffff) == 0xffff)
                continue;
            f.vendor = (u16)id;
            f.device = (u16)(id >> 16);
            if (function == 0 && (pci_read(&f, PCI_HEADER_TYPE, 1) & 0x80))
                functions = 8;
            visit(&f);
        }
    }
}

static u32 bar_size(const struct pci_function *f, unsigned offset, u32 value, u32 flags)
{
    u32 command = pci_read(f, PCI_COMMAND, 2);
    pci_write(f, PCI_COMMAND, 2, command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
    pci_write(f, offset, 4, 0xffffffff);
    u32 mask = pci_read(f, offset, 4) & ~flags;
    pci_write(f, offset, 4, value);
    pci_write(f, PCI_COMMAND, 2, command);
    return mask & -mask; /* the lowest bit that can be set */
}

u64 pci_bar(const struct pci_function *f, unsigned index, bool *is_io)
{
    unsigned offset = PCI_BAR0 + 4 * index;
    u32 value = pci_read(f, offset, 4);
    *is_io = value & 1;
    u32 flags = *is_io ? 3 : 15;
    bool is_64bit = !*is_io && (value & 6) == 4;
    if (is_64bit && pci_read(f, offset + 4, 4) != 0)
        return 0;
    if ((value & ~flags) == 0) {
        u32 size = bar_size(f, offset, value, flags);
        if (size == 0)
            return 0;
        u32 *next = *is_io ? &next_port : &next_memory;
        *next = (*next + size - 1) & -size;
        value = *next;
        pci_write(f, offset, 4, value);
        *next += size;
    }
    return value & ~flags;
}
