# A table between functions, found by an address in front of it, which lies in the function before: in the middle of an
# instruction (nettle's sha3), at one, and taken by another function.
    .text
    .p2align 4
    .type first, @function
first:
    .cfi_startproc
    leaq table - 8(%rip), %rcx
    movq (%rcx,%rdi,8), %rax
    testl %edi, %edi
    jg .Lfound
    xorl %eax, %eax
.Lfound:
    addl $0x10000000, %eax
    subl $0x10000000, %eax
    ret
    .cfi_endproc
    .size first, . - first
    .p2align 4
table:
    .quad 0x0606060606061122, 0x0606060606063344, 0x0606060606065566

    .p2align 4
    .type second, @function
second:
    .cfi_startproc
    leaq table2 - 5(%rip), %rcx
    movzbl (%rcx,%rdi,4), %eax
    testl %edi, %edi
    jg .Lgood
    xorl %eax, %eax
.Lgood:
    addl $1, %eax
    nop
    nop
    nop
    nop
    ret
    .cfi_endproc
    .size second, . - second
table2:
    .byte 0x06, 0x06, 0x06, 21, 0x06, 0x06, 0x06, 22, 0x06, 0x06, 0x06, 23

    .p2align 4
    .type third, @function
third:
    .cfi_startproc
    leaq table2 - 5(%rip), %rcx
    movzbl (%rcx,%rdi,4), %eax
    ret
    .cfi_endproc
    .size third, . - third

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
    movl $1, %ebx
.Lloop:
    movl %ebx, %edi
    call first
    movl %eax, %edi
    call show
    leal 1(%rbx), %edi
    call second
    movl %eax, %edi
    call show
    leal 1(%rbx), %edi
    call third
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call other
    movl %eax, %edi
    call show
    addl $1, %ebx
    cmpl $3, %ebx
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

    .section .rodata.str1.1, "aMS", @progbits, 1
decimal:
    .string "%d\n"
    .section .note.GNU-stack, "", @progbits
