# Data in code: constants behind a return, read relative to the instruction; strings and bytes that look like code.
    .text
    .type scale, @function
scale:
    .cfi_startproc
    cvtsi2sd %edi, %xmm0
    mulsd .Lfactor(%rip), %xmm0
    addsd .Lfactor+8(%rip), %xmm0
    cvttsd2si %xmm0, %eax
    ret
    .balign 8
.Lfactor:
    .double 2.5, 100.0
    .cfi_endproc
    .size scale, . - scale

    .type shuffle, @function
shuffle:
    .cfi_startproc
    movd %edi, %xmm0
    pshufb .Lmask(%rip), %xmm0
    movd %xmm0, %eax
    ret
    .balign 16
.Lmask:
    .byte 3, 2, 1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80
    .cfi_endproc
    .size shuffle, . - shuffle

    .type letter, @function
letter:
    .cfi_startproc
    leaq .Ltext(%rip), %rax
    movzbl (%rax,%rdi), %eax
    ret
.Ltext:
    .ascii "\xe8\xff\xff\xff\xff\x0f\x0b\xc3\xeb\xfe"
    .cfi_endproc
    .size letter, . - letter

    .type skips, @function
skips:
    .cfi_startproc
    movl %edi, %eax
    jmp .Lover
.Ldata:
    .byte 0xe9, 0x00, 0x0f, 0x85, 0xff, 0x48
.Lover:
    movzbl .Ldata(%rip), %ecx
    addl %ecx, %eax
    ret
    .cfi_endproc
    .size skips, . - skips

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_scale:
    movl %ebx, %edi
    call scale
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $4, %ebx
    jne .Lmain_scale
    movl $258, %ebx
.Lmain_shuffle:
    movl %ebx, %edi
    call shuffle
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $260, %ebx
    jne .Lmain_shuffle
    movl $0, %ebx
.Lmain_letter:
    movl %ebx, %edi
    call letter
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $10, %ebx
    jne .Lmain_letter
    movl $0, %ebx
.Lmain_skips:
    movl %ebx, %edi
    call skips
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_skips
    xorl %eax, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size main, . - main
    .globl program_main
    .set program_main, main

# Prints %edi in decimal.
    .type show, @function
show:
    .cfi_startproc
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    movl %edi, %esi
    leaq decimal(%rip), %rdi
    xorl %eax, %eax
    call printf@PLT
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size show, . - show

    .section .rodata.str1.1,"aMS",@progbits,1
decimal:
    .string "%d\n"
    .section .note.GNU-stack,"",@progbits
