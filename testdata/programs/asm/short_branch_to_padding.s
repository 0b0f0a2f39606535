# A conditional branch of 8 bits leads to the padding behind its function, a case that cannot happen (clang), and the function
# moves as one piece only: it stays, and the padding and the next function with it.
    .text
    .type lonely, @function
lonely:
    .cfi_startproc
    call .Lhere
.Lhere:
    popq %rax
    subq $(.Lhere - lonely), %rax
    leaq lonely(%rip), %rcx
    subq %rcx, %rax
    cmpl $1000, %edi
    ja .Lbehind
    leal 3(%rdi,%rax), %eax
    ret
    .cfi_endproc
    .size lonely, . - lonely
.Lbehind:
    .p2align 4

    .type next, @function
next:
    .cfi_startproc
    leal 9(%rdi), %eax
    ret
    .cfi_endproc
    .size next, . - next

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
    movl $5, %edi
    call lonely
    movl %eax, %edi
    call show
    movl $5, %edi
    call next
    movl %eax, %edi
    call show
    xorl %edi, %edi
    call other
    movl %eax, %edi
    call show
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

    .section .rodata.str1.1, "aMS", @progbits, 1
decimal:
    .string "%d\n"
    .section .note.GNU-stack, "", @progbits
