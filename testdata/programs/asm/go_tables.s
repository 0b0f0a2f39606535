# Go's runtime.pclntab: distances from runtime.text to functions, without relocations. The code between runtime.text and
# runtime.etext stays; other code moves.
    .text
    .hidden runtime.text
    .globl runtime.text
    .type runtime.text, @function
runtime.text:
    ret
    .size runtime.text, . - runtime.text

    .p2align 4
    .type first, @function
first:
    .cfi_startproc
    testl %edi, %edi
    je .Lzero
    leal 5(%rdi), %eax
    ret
.Lzero:
    movl $77, %eax
    ret
    .cfi_endproc
    .size first, . - first

    .p2align 4
    .type second, @function
second:
    .cfi_startproc
    imull $3, %edi, %eax
    ret
    .cfi_endproc
    .size second, . - second

    .hidden runtime.etext
    .globl runtime.etext
    .type runtime.etext, @function
runtime.etext:
    ret
    .size runtime.etext, . - runtime.etext

    .p2align 4
    .type middle, @function
middle:
    .cfi_startproc
    cmpl $3, %edi
    jg .Lgreat
    leal 1(%rdi), %eax
    ret
.Lgreat:
    leal -1(%rdi), %eax
    ret
    .cfi_endproc
    .size middle, . - middle

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    xorl %ebx, %ebx
    leaq runtime.text(%rip), %rax
    movslq runtime.pclntab(%rip), %rcx
    addq %rcx, %rax
    movl $4, %edi
    call *%rax
    addl %eax, %ebx
    leaq runtime.text(%rip), %rax
    movslq 4+runtime.pclntab(%rip), %rcx
    addq %rcx, %rax
    movl $5, %edi
    call *%rax
    addl %eax, %ebx
    movl %ebx, %edi
    call middle
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

    .section .gopclntab, "a"
    .hidden runtime.pclntab
    .globl runtime.pclntab
    .type runtime.pclntab, @object
runtime.pclntab:
    .long first - runtime.text, second - runtime.text
    .size runtime.pclntab, . - runtime.pclntab
    .section .note.GNU-stack, "", @progbits
