# Operands that count from a place in code which is in a register (dav1d's hand-written code): in the function that takes that
# place, and in one that it calls.
    .text
    .p2align 4
    .type callee, @function
callee:
    .cfi_startproc
    movl numbers - base(%r10, %rdi, 4), %eax
    cmpl $2, %edi
    jg .Lmore
    ret
.Lmore:
    addl numbers + 4 - base(%r10), %eax
    ret
    .cfi_endproc
    .size callee, . - callee

    .p2align 4
    .type caller, @function
caller:
    .cfi_startproc
    xorl %edx, %edx
base:
    leaq base(%rip), %r10
    call callee
    addl %edx, %eax
    ret
    .cfi_endproc
    .size caller, . - caller

    .p2align 4
    .type other, @function
other:
    .cfi_startproc
    testl %edi, %edi
    je .Lzero
    imull $3, %edi, %eax
    ret
.Lzero:
    movl $8, %eax
    ret
    .cfi_endproc
    .size other, . - other

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    xorl %ebx, %ebx
.Lloop:
    movl %ebx, %edi
    call caller
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call other
    movl %eax, %edi
    call show
    addl $1, %ebx
    cmpl $4, %ebx
    jne .Lloop
    xorl %eax, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
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

    .section .rodata
    .p2align 2
numbers:
    .long 5, 70, 900, 11000
decimal:
    .string "%d\n"
    .section .note.GNU-stack, "", @progbits
