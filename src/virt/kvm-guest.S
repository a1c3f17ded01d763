/* SPDX-License-Identifier: Apache-2.0 */
/* A boot sector that does what kernels do and hypervisors get wrong: it enters 64-bit mode with
 * paging and SSE, takes timer interrupts, and goes a thousand times to user mode and back. When all
 * of that went well it says "K" on QEMU's debug port and powers q35 off. */

    .section .rodata
    .globl virt_kvm_guest
    .hidden virt_kvm_guest
    .set BASE, 0x7c00
    .set TABLES, 0x1000             /* page tables: three pages */
    .set IDT, 0x4000
    .set STACK, 0x7000
    .set USER_STACK, 0x6000
    .set WORDS, 0x7800              /* 16 bytes for SSE to read back */
    .set ROUNDS, 1000

virt_kvm_guest:
    .code16
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $BASE, %sp

    movw $TABLES, %di               /* tables and IDT, all zero */
    movw $0x1000, %cx
    xorl %eax, %eax
    rep stosl
    movw $0x2007, TABLES            /* present, writable, for user mode too */
    movw $0x3007, TABLES + 0x1000
    movw $0x0087, TABLES + 0x2000   /* the first 2 MiB, as one page */

    lgdtl (gdt_register - virt_kvm_guest + BASE)
    movl %cr4, %eax
    orl $0x620, %eax                /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          /* EFER: long mode, syscall */
    rdmsr
    orl $0x101, %eax
    wrmsr
    movl %cr0, %eax
    andl $~4, %eax
    orl $0x80010003, %eax           /* PG, WP, MP, PE */
    movl %eax, %cr0
    ljmpl $0x08, $(long - virt_kvm_guest + BASE)

    .code64
long:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $STACK, %esp

    /* The timer is interrupt 8, as the firmware left it; nothing else may come. */
    movl $(timer - virt_kvm_guest + BASE), IDT + 8 * 16
    movl $0x8e00, IDT + 8 * 16 + 4
    movw $0x08, IDT + 8 * 16 + 2
    lidt (idt_register - virt_kvm_guest + BASE)
    movb $0xfe, %al
    outb %al, $0x21
    xorl %ebx, %ebx
wait:
    sti
    hlt
    cli
    cmpl $3, %ebx
    jb wait

    movl $0xc0000081, %ecx          /* STAR: selectors of syscall and sysret */
    xorl %eax, %eax
    movl $0x00180008, %edx
    wrmsr
    incl %ecx                       /* LSTAR */
    movl $(back - virt_kvm_guest + BASE), %eax
    xorl %edx, %edx
    wrmsr
    movl $0xc0000084, %ecx          /* FMASK */
    movl $0x200, %eax
    wrmsr

    movl $ROUNDS, %r12d
    xorl %r13d, %r13d
round:
    movq %cr3, %rax                 /* what was translated is forgotten */
    movq %rax, %cr3
    invlpg WORDS
    xorl %eax, %eax
    cpuid
    rdtsc
    movl $(user - virt_kvm_guest + BASE), %ecx
    movl $0x002, %r11d              /* interrupts stay off: there is no TSS to take them on */
    movl $USER_STACK, %esp
    sysretq
user:
    movq %r12, %xmm0
    punpcklqdq %xmm0, %xmm0
    movaps %xmm0, WORDS
    addq WORDS + 8, %r13
    syscall
back:
    movl $STACK, %esp
    decl %r12d
    jnz round

    cmpl $(ROUNDS * (ROUNDS + 1) / 2), %r13d
    jne stop
    movb $'K', %al
    outb %al, $0xe9
    movw $0x604, %dx                /* where q35's firmware puts ACPI's PM1 control */
    movw $0x2000, %ax
    outw %ax, %dx
stop:
    cli
    hlt
    jmp stop

timer:
    pushq %rax
    incl %ebx
    movb $0x20, %al
    outb %al, $0x20
    popq %rax
    iretq

    .balign 8
gdt:
    .quad 0
    .quad 0x00209a0000000000        /* 0x08 kernel code */
    .quad 0x0000920000000000        /* 0x10 kernel data */
    .quad 0                         /* 0x18 sysret counts from here */
    .quad 0x0000f20000000000        /* 0x20 user data */
    .quad 0x0020fa0000000000        /* 0x28 user code */
gdt_register:
    .word . - gdt - 1
    .long gdt - virt_kvm_guest + BASE
idt_register:
    .word 0xfff
    .quad IDT

    .org virt_kvm_guest + 510
    .word 0xaa55
    .section .note.GNU-stack, "", @progbits
