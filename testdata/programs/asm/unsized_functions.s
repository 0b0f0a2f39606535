# Functions without sizes and unwind tables, as musl has them: one ends with a call that returns, so that control runs
# through padding into the next one; one has code behind a trap.
    .text
    .globl main
    .type main, @function
main:
    subq $8, %rsp
    movl $4, %edi
    call ends_with_call
    movl %eax, %edi
    call show
    xorl %eax, %eax
    addq $8, %rsp
    ret
    .globl program_main
    .set program_main, main

    .p2align 4
    .type ends_with_call, @function
ends_with_call:
    call traps
    movl %eax, %edi
    call traps
    .p2align 4
    .type next, @function
next:
    leal 3(%rax), %eax
    ret

    .p2align 4
    .type traps, @function
traps:
    cmpl $100, %edi
    jne 1f
    xorl %eax, %eax
    hlt
1:  leal 5(%rdi), %eax
    ret

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

    .section .rodata.str1.1, "aMS", @progbits, 1
decimal:
    .string "%d\n"
    .section .note.GNU-stack, "", @progbits
