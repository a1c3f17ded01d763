# SPDX-License-Identifier: Apache-2.0
# The smallest guest: one boot sector that proves, over the serial port, that it read and wrote its
# disk. It is up in well under a second, without KVM too.
#
#   as --32 -o nano.o nano.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o nano.bin nano.o
#
# Sector 1 of the boot disk holds the word "IMPR" and a counter (0 when the word is missing). The
# guest counts up, writes, reads back, and prints
#
#   NANO up disks=NN boots=XXXXXXXX
#
# with both numbers in hexadecimal. Then it echoes what it receives, except
#   q  power off          r  reset
# and powers off when the ACPI power button is pressed (q35's fixed registers at 0x600).

    .intel_syntax noprefix
    .code16
    .global _start

    .set COM1, 0x3f8
    .set PM_EVENT, 0x600            # status, then enable at +2
    .set PM_CONTROL, 0x604
    .set BUTTON, 0x100
    .set BUFFER, 0x8000

_start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    jmp 0:main

main:
    sti
    cld
    mov [drive], dl
    call serial_init
    mov dx, PM_EVENT + 2
    mov ax, BUTTON
    out dx, ax

    lea si, [text_up]
    call print
    mov al, [0x475]                 # the BIOS's count of hard disks
    call print_byte
    lea si, [text_boots]
    call print

    mov ah, 0x42
    call transfer
    lea di, [BUFFER]
    cmp dword ptr [di], 0x52504d49  # "IMPR"
    je known
    mov dword ptr [di], 0x52504d49
    mov dword ptr [di + 4], 0
known:
    inc dword ptr [di + 4]
    mov ebx, [di + 4]
    mov ah, 0x43
    call transfer
    not dword ptr [di + 4]          # so that only a true read brings it back
    mov ah, 0x42
    call transfer
    cmp ebx, [di + 4]
    jne broken

    mov cx, 4
number:
    rol ebx, 8
    mov al, bl
    call print_byte
    loop number
    lea si, [text_end]
    call print

idle:
    hlt                             # the timer wakes us 18 times a second
    mov dx, PM_EVENT
    in ax, dx
    test ax, BUTTON
    jnz power_off
    mov dx, COM1 + 5
    in al, dx
    test al, 1
    jz idle
    mov dx, COM1
    in al, dx
    cmp al, 'q'
    je power_off
    cmp al, 'r'
    je reset
    call print_char
    jmp idle

power_off:
    lea si, [text_off]
    call print
    mov dx, PM_CONTROL
    mov ax, 0x2000
    out dx, ax
halt:
    cli
    hlt
    jmp halt

reset:
    mov dx, 0xcf9
    mov al, 6
    out dx, al
    jmp halt

broken:
    lea si, [text_broken]
    call print
    jmp idle

# ah = 0x42 reads sector 1 to BUFFER, 0x43 writes it. Keeps ebx and di.
transfer:
    lea si, [packet]
    mov dl, [drive]
    xor al, al
    push ebx
    push di
    int 0x13
    pop di
    pop ebx
    jnc transferred
    pop ax                          # no way back: the caller's address goes
    jmp broken
transferred:
    ret

serial_init:
    lea si, [serial_setup]
    mov cx, 5
setup:
    lodsb
    movzx dx, al
    add dx, COM1
    lodsb
    out dx, al
    loop setup
    ret

print_byte:                         # al, two hexadecimal digits
    push ax
    shr al, 4
    call digit
    pop ax
    and al, 15
digit:
    cmp al, 10
    sbb al, 0x69                    # the old trick: with das it makes '0'-'9', 'A'-'F'
    das
print_char:                         # al
    push dx
    push ax
    mov dx, COM1 + 5
full:
    in al, dx
    test al, 0x20
    jz full
    pop ax
    mov dx, COM1
    out dx, al
    pop dx
    ret

print:                              # text at si
    lodsb
    test al, al
    jz printed
    call print_char
    jmp print
printed:
    ret

# register and value: 115200 baud, 8N1, queues on
serial_setup: .byte 3, 0x80, 0, 1, 1, 0, 3, 3, 2, 7
text_up:      .asciz "NANO up disks="
text_boots:   .asciz " boots="
text_end:     .asciz "\r\n"
text_off:     .asciz "NANO off\r\n"
text_broken:  .asciz "NANO disk error\r\n"
packet:       .byte 16, 0
              .word 1, BUFFER, 0
              .quad 1
drive:        .byte 0

    .org 510
    .word 0xaa55
