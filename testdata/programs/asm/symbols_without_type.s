# Symbols with a size and no type, as generated assembly has for local routines: their parts need names too.
    .text
    .balign 16
routine:
    .cfi_startproc
    testl %edi, %edi
    je .Lzero
    cmpl $3, %edi
    jg .Lbig
    leal 10(%rdi), %eax
    ret
.Lbig:
    imull $7, %edi, %eax
    ret
.Lzero:
    movl $42, %eax
    ret
    .cfi_endproc
    .size routine, . - routine

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
    call routine
    movl %eax, %esi
    leaq format(%rip), %rdi
    xorl %eax, %eax
    call printf@PLT
    addl $1, %ebx
    cmpl $6, %ebx
    jl .Lloop
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
