/* SPDX-License-Identifier: Apache-2.0 */
/* PCI bus 0 through configuration mechanism 1 (ports 0xCF8 and 0xCFC). */
#ifndef DEMO_PCI_H
#define DEMO_PCI_H

#include "base.h"

#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO 1u
#define PCI_COMMAND_MEMORY 2u
#define PCI_COMMAND_MASTER 4u
#define PCI_STATUS 0x06
#define PCI_STATUS_CAPABILITIES 0x10u
#define PCI_REVISION 0x08
#define PCI_HEADER_TYPE 0x0e
#define PCI_BAR0 0x10
#define PCI_SUBSYSTEM_ID 0x2e
#define PCI_CAPABILITIES 0x34
#define PCI_CAP_VENDOR 0x09

struct pci_function {
    u8 slot, function;
    u16 vendor, device;
};

u32 pci_read(const struct pci_function *f, unsigned offset, unsigned size);
void pci_write(const struct pci_function *f, unsigned offset, unsigned size, u32 value);

/* Call VISIT for every function on bus 0, in the order of slots. */
void pci_scan(void (*visit)(const struct pci_function *f));

/* Where a BAR lies; assigns an address if it has none. 0: not implemented, or out of reach (beyond 4 GiB).
 * *IS_IO tells ports from memory. */
u64 pci_bar(const struct pci_function *f, unsigned index, bool *is_io);

#endif
