# Code as data: the bytes between two labels are copied to fresh memory and run there.
    .text
    .type stencil, @function
stencil:
    .cfi_startproc
    movl %edi, %eax
    cmpl $3, %edi
    jl .Lsmall
    imull $7, %eax
    ret
.Lsmall:
    negl %eax
    ret
    .cfi_endproc
    .size stencil, . - stencil

stencil_end:
    nop

    .type run_copy, @function
run_copy:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    movl %edi, %r12d
    xorl %edi, %edi
    movl $4096, %esi
    movl $7, %edx
    movl $0x22, %ecx
    movl $-1, %r8d
    xorl %r9d, %r9d
    call mmap@PLT
    movq %rax, %rbx
    movq %rax, %rdi
    leaq stencil(%rip), %rsi
    leaq stencil_end(%rip), %rdx
    subq %rsi, %rdx
    call memcpy@PLT
    movl %r12d, %edi
    call *%rbx
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq %r12
    .cfi_adjust_cfa_offset -8
    popq %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size run_copy, . - run_copy

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_run_copy:
    movl %ebx, %edi
    call run_copy
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $6, %ebx
    jne .Lmain_run_copy
    movl $0, %ebx
.Lmain_stencil:
    movl %ebx, %edi
    call stencil
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_stencil
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
