# Constants between functions, behind padding, the first of them zero: all of it stays when the function before it moves.
    .text
    .balign 64
    .type gather, @function
gather:
    .cfi_startproc
    movd %edi, %xmm0
    movdqa .Lincrements(%rip), %xmm1
    paddd .Lincrements+16(%rip), %xmm1
    pshufd $0, %xmm0, %xmm0
    paddd %xmm1, %xmm0
    pshufd $0x4e, %xmm0, %xmm1
    paddd %xmm1, %xmm0
    movd %xmm0, %eax
    testl %eax, %eax
    jl .Lnegative
    ret
.Lnegative:
    negl %eax
    ret
    .cfi_endproc
    .size gather, . - gather
    .balign 64
.Lincrements:
    .long 0, 0, 1, 1
    .long 2, 2, 2, 2
    .balign 64

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    movl $-9, %ebx
.Lloop:
    movl %ebx, %edi
    call gather
    movl %eax, %esi
    leaq format(%rip), %rdi
    xorl %eax, %eax
    call printf@PLT
    addl $3, %ebx
    jle .Lloop
    xorl %edi, %edi
    call fflush@PLT
    xorl %eax, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    ret
    .cfi_endproc
    .size main, . - main
    .globl program_main
    .set program_main, main

    .section .rodata
format:
    .string "%d\n"
    .section .note.GNU-stack,"",@progbits
