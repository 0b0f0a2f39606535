# Conditional tail calls: jcc to another function, with short and long reach.
    .text
    .type negative, @function
negative:
    .cfi_startproc
    movl %edi, %eax
    negl %eax
    imull $3, %eax
    ret
    .cfi_endproc
    .size negative, . - negative

    .globl large
    .type large, @function
large:
    .cfi_startproc
    leal 1000(%rdi), %eax
    ret
    .cfi_endproc
    .size large, . - large

    .type dispatch, @function
dispatch:
    .cfi_startproc
    testl %edi, %edi
    js negative
    cmpl $6, %edi
    ja large_local
    je negative
    movl %edi, %eax
    cmpl $3, %edi
    jne small
    addl $70, %eax
    ret
    .cfi_endproc
    .size dispatch, . - dispatch

    .type small, @function
small:
    .cfi_startproc
    addl $7, %eax
    ret
    .cfi_endproc
    .size small, . - small

    .type large_local, @function
large_local:
    .cfi_startproc
    jmp large@PLT
    .cfi_endproc
    .size large_local, . - large_local

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $-3, %ebx
.Lmain_dispatch:
    movl %ebx, %edi
    call dispatch
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $9, %ebx
    jne .Lmain_dispatch
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
