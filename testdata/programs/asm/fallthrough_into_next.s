# One function runs into the next, with and without padding; three entries into one tail.
    .text
    .type add_three, @function
add_three:
    .cfi_startproc
    incl %edi
    .cfi_endproc
    .size add_three, . - add_three

    .type add_two, @function
add_two:
    .cfi_startproc
    incl %edi
    cmpl $5, %edi
    je add_none
    .cfi_endproc
    .size add_two, . - add_two

    .type add_one, @function
add_one:
    .cfi_startproc
    incl %edi
    nopw 0(%rax,%rax,1)
    .cfi_endproc
    .size add_one, . - add_one

    .type add_none, @function
add_none:
    .cfi_startproc
    movl %edi, %eax
    ret
    .cfi_endproc
    .size add_none, . - add_none

    .type all, @function
all:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 8
    .cfi_rel_offset %r12, 0
    movl %edi, %ebx
    call add_three
    movl %eax, %r12d
    movl %ebx, %edi
    call add_two
    imull $10, %r12d
    addl %eax, %r12d
    movl %ebx, %edi
    call add_one
    imull $10, %r12d
    addl %r12d, %eax
    popq %r12
    .cfi_adjust_cfa_offset -8
    popq %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size all, . - all

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_all:
    movl %ebx, %edi
    call all
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $8, %ebx
    jne .Lmain_all
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
