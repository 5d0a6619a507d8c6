/* SPDX-License-Identifier: Apache-2.0
 *
 * From the PVH entry (32-bit, paging off, EBX = start info) to 64-bit code at CPL 3, once and for good.
 *
 * Why CPL 3: there are KVMs without hardware help that emulate CPL 0 instruction by instruction and run
 * CPL 3 natively. Everything that is worth its time therefore runs in user mode; the I/O permission bitmap
 * gives it all ports, and the page tables all of the first 4 GiB. Interrupts stay off: drivers poll.
 */

.set KERNEL_CODE, 0x08
.set KERNEL_DATA, 0x10
.set USER_DATA, 0x18 + 3
.set USER_CODE, 0x20 + 3
.set TSS, 0x28
.set SECOND_TSS, 0x38
.set KERNEL_CODE_32, 0x48

.set CR0_PG, 1 << 31
.set CR4_PAE, 1 << 5
.set EFER, 0xc0000080
.set EFER_LME, 1 << 8
.set TSS_LIMIT, 104 + 8192                  /* with the byte of ones that ends the bitmap */
.set EXCEPTIONS, 32
.set STUB_SIZE, 8
.set DEBUG_EXIT, 0x501
.set TRAP_STATUS, 0x40                      /* + vector; the process ends with 129 + 2 * vector */

/* XEN_ELFNOTE_PHYS32_ENTRY: who loads the ELF starts here. QEMU wants the note's alignment to be 4. */
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad start32

    .section .text.start, "ax"
    .code32
    .globl start32
start32:
    cli
    cld
    mov     %ebx, %esi                      /* start info, kept until the C code has it */

    mov     $tss, %eax                      /* addresses that the assembler cannot split into descriptors */
    mov     %ax, gdt_tss + 2
    shr     $16, %eax
    mov     %al, gdt_tss + 4
    mov     %ah, gdt_tss + 7
    mov     $second_tss, %eax
    mov     %ax, gdt_second_tss + 2
    shr     $16, %eax
    mov     %al, gdt_second_tss + 4
    mov     %ah, gdt_second_tss + 7

    mov     $idt, %edi
    mov     $stubs, %eax
    mov     $EXCEPTIONS, %ecx
1:  mov     %ax, (%edi)
    movw    $KERNEL_CODE, 2(%edi)
    movw    $0x8e00, 4(%edi)                /* present, interrupt gate */
    mov     %eax, %edx
    shr     $16, %edx
    mov     %dx, 6(%edi)
    add     $16, %edi
    add     $STUB_SIZE, %eax
    dec     %ecx
    jnz     1b

    lgdt    gdt_pointer
    lidt    idt_pointer
    mov     %cr4, %eax
    or      $CR4_PAE, %eax
    mov     %eax, %cr4
    mov     $pml4, %eax
    mov     %eax, %cr3
    mov     $EFER, %ecx
    rdmsr
    or      $EFER_LME, %eax
    wrmsr
    mov     %cr0, %eax
    or      $CR0_PG, %eax
    mov     %eax, %cr0
    ljmp    $KERNEL_CODE, $start64

    .code64
start64:
    mov     $KERNEL_DATA, %eax
    mov     %eax, %ss
    mov     $TSS, %eax
    ltr     %ax
    mov     $0xff, %al                      /* firmware may have left the timer running: mask both PICs */
    out     %al, $0x21
    out     %al, $0xa1
    mov     $USER_DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     $kernel_stack_top, %esp
    mov     %esi, %edi                      /* first argument */
    push    $USER_DATA
    push    $user_stack_top - 8             /* as after a call: 16 bytes aligned, less a return address */
    push    $2                              /* flags: interrupts off */
    push    $USER_CODE
    push    $demo_main
    iretq

/* The second vCPU, from its SIPI to cpu_second_main() at CPL 3. cpu.c copies what is between the two labels to a page below
 * 1 MiB, where it starts in real mode with CS at that page and IP 0; from start_second on it runs where it was linked. */
    .code16
    .globl second_start, second_end
second_start:
    cli
    mov     %cs, %ax
    mov     %ax, %ds
    lgdtl   second_gdt_pointer - second_start
    mov     $0x11, %eax                     /* PE, and ET, which is always set; caches on */
    mov     %eax, %cr0
    ljmpl   $KERNEL_CODE_32, $start_second
second_gdt_pointer:
    .word   gdt_end - gdt - 1
    .long   gdt
second_end:

    .code32
start_second:
    mov     $KERNEL_DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    lidt    idt_pointer
    mov     $CR4_PAE, %eax
    mov     %eax, %cr4
    mov     $pml4, %eax
    mov     %eax, %cr3
    mov     $EFER, %ecx
    rdmsr
    or      $EFER_LME, %eax
    wrmsr
    mov     %cr0, %eax
    or      $CR0_PG, %eax
    mov     %eax, %cr0
    ljmp    $KERNEL_CODE, $start_second_64

    .code64
start_second_64:
    mov     $SECOND_TSS, %eax
    ltr     %ax
    mov     $USER_DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     $second_kernel_stack_top, %esp
    push    $USER_DATA
    push    $second_user_stack_top - 8
    push    $2
    push    $USER_CODE
    push    $cpu_second_main
    iretq

/* An exception is a bug of this guest or of the machine: end with a status that tells the vector. */
    .balign STUB_SIZE
stubs:
    .set vector, 0
    .rept EXCEPTIONS
    .balign STUB_SIZE
    mov     $TRAP_STATUS + vector, %al
    jmp     trap
    .set vector, vector + 1
    .endr
trap:
    mov     $DEBUG_EXIT, %dx
    out     %al, %dx
1:  hlt
    jmp     1b

    .section .data
    .balign 8
gdt:
    .quad   0
    .quad   0x00af9b000000ffff              /* KERNEL_CODE: 64-bit */
    .quad   0x00cf93000000ffff              /* KERNEL_DATA */
    .quad   0x00cff3000000ffff              /* USER_DATA */
    .quad   0x00affb000000ffff              /* USER_CODE: 64-bit */
gdt_tss:
    .quad   0x0000890000000000 + TSS_LIMIT  /* base filled in above */
    .quad   0
gdt_second_tss:
    .quad   0x0000890000000000 + TSS_LIMIT
    .quad   0
    .quad   0x00cf9b000000ffff              /* KERNEL_CODE_32: only the second vCPU's way up needs it */
gdt_end:
gdt_pointer:
    .word   gdt_end - gdt - 1
    .quad   gdt
    .balign 8
idt_pointer:
    .word   EXCEPTIONS * 16 - 1
    .quad   idt

    .macro task_state rsp0
    .balign 16
    .long   0
    .quad   \rsp0
    .fill   22, 4, 0
    .word   0, 104                          /* where the I/O permission bitmap starts */
    .fill   8192, 1, 0                      /* a zero bit: the port may be used */
    .byte   0xff
    .endm

    .balign 16
tss:
    task_state kernel_stack_top
    .balign 16
second_tss:
    task_state second_kernel_stack_top

/* Addresses 0 to 4 GiB map to themselves in pages of 2 MiB: present, writable, user. */
    .balign 4096
pml4:
    .quad   pdpt + 7
    .fill   511, 8, 0
pdpt:
    .quad   directories + 7, directories + 0x1007, directories + 0x2007, directories + 0x3007
    .fill   508, 8, 0
directories:
    .set page, 0
    .rept 2048
    .quad   page + 0x87
    .set page, page + 0x200000
    .endr

    .section .bss
    .balign 16
idt:
    .skip   EXCEPTIONS * 16
    .skip   4096
kernel_stack_top:
    .skip   32768
user_stack_top:
    .skip   4096
second_kernel_stack_top:
    .skip   32768
second_user_stack_top:

    .section .note.GNU-stack, "", @progbits
